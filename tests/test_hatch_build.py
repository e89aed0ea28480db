from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from scripts import loaded
from waiting import HANGS

from quantlab.serve.web.assets import HTMX, assets

ROOT = Path(__file__).parents[1]
CONTENT = {"package/dist/x.min.js": b"alert(1)", "package/LICENSE": b"Anybody may."}
BUILD = loaded("hatch_build.py")


def tarball(content: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


TARBALL = tarball(CONTENT)


def package(content: bytes = TARBALL, **changed: Any) -> Any:
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    files = {
        path: (path.rpartition("/")[2], hashlib.sha256(data).hexdigest())
        for path, data in CONTENT.items()
    }
    facts = {"name": "x", "version": "1.0", "integrity": f"sha512-{digest}", "files": files}
    return BUILD.Package(**{**facts, **changed})


class Registry:
    """A registry on this machine with one tarball."""

    def __init__(self, content: bytes = TARBALL, failures: int = 0) -> None:
        self.content, self.failures = content, failures
        self.asked: list[str] = []
        self.url = ""


@pytest.fixture
def registry() -> Iterator[Registry]:
    found = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            failing = len(found.asked) <= found.failures
            self.send_response(503 if failing else 200)
            self.end_headers()
            self.wfile.write(b"" if failing else found.content)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BUILD.time, "sleep", lambda _: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_files_come_once(registry: Registry, tmp_path: Path) -> None:
    for _ in range(2):
        BUILD.vendor(package(), tmp_path / "vendor", registry.url)
    assert registry.asked == ["/x/-/x-1.0.tgz"]
    names = {path.name: path.read_bytes() for path in (tmp_path / "vendor").iterdir()}
    assert names == {"x.min.js": b"alert(1)", "LICENSE": b"Anybody may."}


def test_a_changed_file_comes_again(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_bytes(b"")
    (tmp_path / "x.min.js").write_bytes(b"alert(2)")
    BUILD.vendor(package(), tmp_path, registry.url)
    assert (tmp_path / "x.min.js").read_bytes() == b"alert(1)"


def test_what_is_not_what_was_promised_is_not_kept(registry: Registry, tmp_path: Path) -> None:
    known = package()
    for content in (tarball({**CONTENT, "package/LICENSE": b"Nobody may."}), b"no tarball"):
        registry.content = content
        with pytest.raises(BUILD.NotFetched, match="its sha512 differs"):
            BUILD.vendor(known, tmp_path, registry.url)
        with pytest.raises(BUILD.NotFetched):
            BUILD.vendor(package(content), tmp_path, registry.url)
    assert list(tmp_path.iterdir()) == []


def test_a_tarball_is_bounded(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BUILD, "LARGEST", len(TARBALL) - 1)
    with pytest.raises(BUILD.NotFetched, match="larger than"):
        BUILD.vendor(package(), tmp_path, registry.url)


def test_a_registry_that_fails_is_asked_again(registry: Registry, tmp_path: Path) -> None:
    registry.failures = 2
    BUILD.vendor(package(), tmp_path, registry.url)
    assert len(registry.asked) == 3
    registry.failures = 99
    with pytest.raises(BUILD.NotFetched) as raised:
        BUILD.vendor(package(), tmp_path / "other", registry.url)
    assert len(registry.asked) == 6
    for word in ("npm_config_registry", "package/dist/x.min.js", str(tmp_path / "other")):
        assert word in str(raised.value)


@pytest.mark.parametrize("url", ["file:///etc", "ftp://127.0.0.1"])
def test_a_registry_is_on_the_web(url: str, tmp_path: Path) -> None:
    with pytest.raises(BUILD.NotFetched, match="https://"):
        BUILD.vendor(package(), tmp_path, url)


def test_the_registry_is_npms() -> None:
    assert BUILD.registry_of({}) == "https://registry.npmjs.org"
    assert BUILD.registry_of({"NPM_CONFIG_REGISTRY": "https://a/npm/"}) == "https://a/npm"
    assert BUILD.registry_of({"npm_config_registry": ""}) == "https://registry.npmjs.org"


class App:
    """Hears what a build says."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


def test_an_editable_install_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    app = App()
    build = BUILD.CustomBuildHook(str(tmp_path), {}, None, None, "", "wheel", app)
    data: dict[str, Any] = {"artifacts": []}
    build.initialize("editable", data)
    (warning,) = app.warnings
    assert "will not refresh themselves" in warning
    with pytest.raises(BUILD.NotFetched):
        build.initialize("standard", data)


def test_the_wheel_has_all_that_pages_need(tmp_path: Path) -> None:
    """Built from this tree, then asked for its assets where the tree is not in reach."""
    assert HTMX in assets(), "install again where the npm registry is in reach"
    line = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True, timeout=HANGS)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    site = tmp_path / "site"
    licence = site / "quantlab/serve/web/static/vendor/htmx.LICENSE"
    assert "Permission to use" in licence.read_text()
    (licence,) = site.glob("quantlab-*.dist-info/licenses/LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()
    code = (
        "import quantlab; from quantlab.serve.web import assets, rendering; "
        "print(quantlab.__file__); print(*sorted(assets.assets())); "
        "print(len(rendering._templates().list_templates()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True,
        env={"PYTHONPATH": str(site), "PATH": ""},
    )  # fmt: skip
    where, names, templates = done.stdout.splitlines()
    assert Path(where).is_relative_to(site)
    assert names.split() == sorted(assets())
    ours = [*(ROOT / "quantlab/serve/web/templates").iterdir()]
    ours += (ROOT / "quantlab/report/templates").glob("*.j2")
    assert int(templates) >= len(ours)


def test_the_sdist_has_what_a_maintainer_needs(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    pages = {"CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"}
    assert pages | {"LICENSE", "Makefile", "mkdocs.yml", "docs/hooks.py"} <= names
