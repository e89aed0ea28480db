"""Build hook: brings the pages' scripts from the npm registry into the wheel, verified.

Each file is known by its sha256: what lies in ``quantlab/serve/web/static/vendor/`` with the right
content is not fetched again. The registry is that of npm_config_registry, else npm's own; proxies
and SSL_CERT_FILE are honoured. npm itself is not needed.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("quantlab/serve/web/static/vendor")
REGISTRY = "https://registry.npmjs.org"
SECONDS_TO_WAIT = 20
TRIES = 3
LARGEST = 2 * 1024**2
"""Bytes of a tarball, and of a file in it."""


class Package(NamedTuple):
    """A package of the registry. ``files``: by path in the tarball, name here and sha256."""

    name: str
    version: str
    integrity: str
    files: Mapping[str, tuple[str, str]]

    @property
    def path(self) -> str:
        """Of its tarball in a registry."""
        return f"{self.name}/-/{self.name}-{self.version}.tgz"


HTMX = Package(
    "htmx.org",
    "2.0.11",
    "sha512-Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA==",
    {
        "package/dist/htmx.min.js": (
            "htmx.min.js",
            "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
        ),
        "package/LICENSE": (
            "htmx.LICENSE",
            "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
        ),
    },
)


class NotFetched(RuntimeError):
    """The files of a package cannot be had."""


class CustomBuildHook(BuildHookInterface):
    """A wheel without the files is not built; an editable install warns and does without them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the files of the wheel are looked for. Raises NotFetched."""
        folder = Path(self.root) / FOLDER
        try:
            vendor(HTMX, folder, registry_of(os.environ))
        except NotFetched as error:
            if version != "editable":
                raise
            self.app.display_warning(f"{error}\nThe service's pages will not refresh themselves.")
        build_data["artifacts"].append(f"/{FOLDER.as_posix()}/*")


def registry_of(environment: Mapping[str, str]) -> str:
    """As npm itself finds it in the environment."""
    known = {name.lower(): value for name, value in environment.items() if value}
    return known.get("npm_config_registry", REGISTRY).rstrip("/")


def vendor(package: Package, folder: Path, registry: str) -> None:
    """Puts the package's files into the folder where they are not there yet. Raises NotFetched."""
    if all(_sha256(folder / name) == digest for name, digest in package.files.values()):
        return
    url = f"{registry}/{package.path}"
    try:
        contents = _unpacked(package, _fetched(url, package.integrity))
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            part = folder / f".{name}.{os.getpid()}.part"
            part.write_bytes(content)
            part.replace(folder / name)
    except (OSError, EOFError, ValueError, KeyError, tarfile.TarError) as error:
        names = " and ".join(package.files)
        raise NotFetched(
            f"{package.name} {package.version} cannot be had from {url}: {error}\n"
            f"Set npm_config_registry to a registry in reach, or take {names} out of that tarball "
            f"and put them as {' and '.join(n for n, _ in package.files.values())} into {folder}."
        ) from error


def _sha256(path: Path) -> str:
    """ "" where there is no such file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _fetched(url: str, integrity: str) -> bytes:
    """The tarball. Raises OSError, ValueError."""
    if not url.startswith(("https://", "http://")):
        raise ValueError("a registry begins with https:// or http://.")
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(url, timeout=SECONDS_TO_WAIT) as answer:
                content: bytes = answer.read(LARGEST + 1)
            break
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            if not left:
                raise
            time.sleep(TRIES - left)
    if len(content) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST:,} bytes.")
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if f"sha512-{found}" != integrity:
        raise ValueError("it is not the tarball that quantlab knows (its sha512 differs).")
    return content


def _unpacked(package: Package, content: bytes) -> dict[str, bytes]:
    """The files by their names here. Raises TarError, KeyError, ValueError."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        for path, (name, digest) in package.files.items():
            file = tar.extractfile(path)
            found[name] = b"" if file is None else file.read(LARGEST)
            if hashlib.sha256(found[name]).hexdigest() != digest:
                raise ValueError(f"its {path} is not the file that quantlab knows.")
    return found
