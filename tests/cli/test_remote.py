"""quantlab --server: the same words, files and exit codes as here, the work done there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import HANGS

from quantlab.model.model import Model
from quantlab.runs.record import load_record
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.tokens import Tokens
from quantlab.testing import image_folder, taught, tiny_classifier

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))
from served import served
from worksite import working

from quantlab.serve.datasets import add_dataset

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """A server's URL, a token for it, and the images that it calls val."""
    folder = tmp_path_factory.mktemp("there")
    images = image_folder(folder / "images", 4, per_class=10)
    with Service.open(Settings(home=folder / "home")) as service:
        add_dataset(service.catalog, "val", images)
        token = Tokens(service.database).create("tests", "submit")[1]
        with working(service), served(service) as url:
            yield url, token, images


@pytest.fixture
def net(tmp_path: Path, there: tuple[str, str, Path]) -> Path:
    """A model that is here and tells those images apart."""
    (tmp_path / "models").mkdir()
    path = tiny_classifier(tmp_path / "models" / "net.onnx", classes=4)
    return taught(path, there[2], "torchvision")


@pytest.fixture
def remote(there: tuple[str, str, Path], cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """``cli`` with this server."""
    monkeypatch.setenv("QUANTLAB_TOKEN", there[1])
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return lambda *words, **options: cli("--server", there[0], *words, **options)


def test_evaluate(remote: Cli, cli: Cli, net: Path, there: tuple[str, str, Path]) -> None:
    said = remote("evaluate", net, "--data", "val")
    here = cli("evaluate", net, "--data", there[2])
    assert said.out == here.out
    assert said.record.results["accuracy"] == here.record.results["accuracy"]
    repeat = ["--server", there[0], "evaluate", str(net), "--data", "val"]
    assert said.repeat == repeat
    assert (said.folder / "predictions.npz").is_file()


def test_json_and_quiet(remote: Cli, net: Path, tmp_path: Path) -> None:
    said = remote("evaluate", net, "--data", "val", "--json", "--runs-dir", tmp_path / "mine")
    record = json.loads(said.out)
    assert (record["verb"], record["status"]) == ("evaluate", "success")
    assert said.complaint == []
    assert load_record(tmp_path / "mine" / record["id"]).id == record["id"]


def test_quantize_then_compare(remote: Cli, cli: Cli, net: Path, there: Any) -> None:
    recipe = Path("plain.yaml")
    recipe.write_text("name: plain\nengine: ort\n")
    words = ("--model", net, "--recipe", recipe)
    said = remote("quantize", *words, "--data", "val", "--output", "over.onnx")
    cli("quantize", *words, "--data", there[2], "--output", "here.onnx")
    assert Path("over.onnx").read_bytes() == Path("here.onnx").read_bytes()
    check, wrote = said.out.splitlines()
    assert check.startswith("On 32 images that calibrated: SQNR ")
    assert wrote.startswith("Wrote over.onnx (")
    judged = remote("compare", net, "over.onnx", "--data", "val", "--no-bench", code=None)
    alike = cli("compare", net, "here.onnx", "--data", there[2], "--no-bench", code=judged.code)
    assert re.sub(r"\bover\b", "here", judged.out) == alike.out
    assert (judged.folder / "report.html").is_file()


def test_the_gate_s_files_come_here(remote: Cli, net: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "steps.md")
    Path("steps.md").write_text("before\n")
    said = remote(
        "gate", net, net, "--data", "val", "--require", "agreement >= 50%", "--annotations",
        "--comment", "comment.md", "--junit", "out/junit.xml", "--benchmark-json", "bench.json",
    )  # fmt: skip
    assert said.out.startswith("PASS")
    assert Path("comment.md").read_text().startswith("# PASS")
    assert "<testsuite" in Path("out/junit.xml").read_text()
    assert json.loads(Path("bench.json").read_text())
    assert Path("steps.md").read_text().startswith("before\n# PASS")


def test_a_tune_by_a_configuration(remote: Cli, net: Path) -> None:
    Path("quantlab.yaml").write_text(f"model: {net}\nmax_trials: 1\ncalibration_size: 8\n")
    said = remote("tune", "--data", "val", "--no-bench", "--output", "best.onnx")
    assert Model.load(Path("best.onnx")).is_quantized
    assert "int8 model: best.onnx" in said.out
    assert "written to best.onnx" in said.err
    assert said.record.spec["max_trials"] == 1
    assert not (said.folder / "trials").exists()


def test_what_fails_there_is_said_as_here(remote: Cli, cli: Cli, net: Path, there: Any) -> None:
    words = ("--max-bad", "0", "--pipeline", "nothing")
    here = cli("evaluate", net, "--data", there[2], *words, code=2)
    said = remote("evaluate", net, "--data", "val", *words, code=2)
    assert said.complaint == here.complaint


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("evaluate", "{net}"), "--data NAME is missing: a dataset of the server."),
        (("evaluate", "{net}", "--data", "images/"), "no dataset called images."),
        (("evaluate", "nowhere/x.onnx", "--data", "val"), "nowhere/x.onnx: no such file."),
        (("evaluate", "unheard-of", "--data", "val"), "no model called unheard-of."),
        (("runs", "ls"), "--server is for tune, quantize"),
        (
            ("evaluate", "{net}", "--data", "val", "--provider", "cpu"),
            "cannot be combined with --provider.",
        ),
    ],
)
def test_what_cannot_be_done_there(
    words: tuple[str, ...], problem: str, remote: Cli, net: Path
) -> None:
    said = remote(*(word.format(net=net) for word in words), code=2)
    assert problem in said.err


def test_a_wrong_token_and_no_server(
    there: tuple[str, str, Path], cli: Cli, net: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("QUANTLAB_TOKEN", "wrong")
    said = cli("--server", there[0], "evaluate", net, "--data", "val", code=2)
    assert len(said.complaint) <= 2
    monkeypatch.setenv("QUANTLAB_SERVER", "http://127.0.0.1:9")
    said = cli("evaluate", net, "--data", "val", code=2)
    assert "http://127.0.0.1:9 does not answer" in said.err


def test_the_page_s_example(there: tuple[str, str, Path], tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    (example,) = re.findall(r"^```sh\n(export QUANTLAB_SERVER=.*?)^```$", page, re.M | re.S)
    path = tiny_classifier(tmp_path / "mobilenetv2-12.onnx", classes=4)
    taught(path, there[2], "torchvision")
    for written, meant in (
        ("http://127.0.0.1:8765", there[0]),
        ("QUANTLAB_TOKEN=...", f"QUANTLAB_TOKEN={there[1]}"),
        ("quantlab tune", f"{sys.executable} -m quantlab tune --no-bench"),
    ):
        assert written in example
        example = example.replace(written, meant)
    done = subprocess.run(["bash", "-ec", example], capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mobilenetv2-12.int8.onnx").is_file()
