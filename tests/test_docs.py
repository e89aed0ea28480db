"""Every command of the README and the docs runs as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from quantlab.bench.harness import bench
from quantlab.bench.instances import throughput
from quantlab.bench.load import offered_load
from quantlab.cli import main
from quantlab.testing.images import image_folder
from quantlab.testing.models import tiny_classifier

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
CLASSES = 4
INC_YAML = """
model: {name: mobilenetv2, framework: onnxrt_qdqops}
quantization: {approach: post_training_static_quant, calibration: {sampling_size: 8}}
tuning: {accuracy_criterion: {relative: 0.5}, exit_policy: {timeout: 0}}
"""


def blocks(page: Path, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """The quantlab command lines of a page's blocks, continued lines joined."""
    lines = "\n".join(blocks(page)).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("quantlab ")]


def scene(folder: Path) -> None:
    """What the commands name, in small."""
    for name in ("train", "val", "data/imagenet/calib1000", "data/imagenet/val1300"):
        image_folder(folder / name, CLASSES, 3, seed=len(name))
    for image in (folder / "val").rglob("*.png"):
        result = folder / "results" / image.relative_to(folder / "val").with_suffix(".bin")
        result.parent.mkdir(parents=True, exist_ok=True)
        np.arange(CLASSES, dtype="<f4").tofile(result)
    models = folder / "data" / "models"
    models.mkdir()
    for path in (folder / "mobilenetv2-12.onnx", models / "mobilenetv2-12.onnx"):
        tiny_classifier(path, classes=CLASSES)
    (folder / "mobilenetv2.yaml").write_text(INC_YAML)
    recipes = [b for b in blocks(ROOT / "docs" / "tune.md", "yaml") if b.startswith("name: mine")]
    (folder / "mine.yaml").write_text(recipes[0])
    made = [
        ["quantize", "--model", "mobilenetv2-12.onnx", "--data", "train", "--output", str(output)]
        for output in ("mobilenetv2-12.int8.onnx", models / "mobilenetv2-12-int8.onnx")
    ]
    for arguments in made:
        assert CliRunner().invoke(main, arguments).exit_code == 0


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_commands(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def brief(function: Any) -> Any:
        fewer = {"rounds": 2, "seconds": 0.05}
        return lambda *args, **options: function(*args, **{**options, **fewer})

    for function in (bench, throughput, offered_load):
        monkeypatch.setattr(f"quantlab.jobs.bench.{function.__name__}", brief(function))
    monkeypatch.setattr("quantlab.bench.load.LEAST_SECONDS", 0.1)
    monkeypatch.setenv("QUANTLAB_DATA", str(tmp_path / "data"))
    scene(tmp_path)
    for words in commands(page):
        arguments = [word.replace("$QUANTLAB_DATA", str(tmp_path / "data")) for word in words]
        if arguments == ["tune"]:
            config = tmp_path / "quantlab.yaml"
            text = config.read_text()
            config.write_text(
                re.sub(r"^#? ?model:.*$", "model: mobilenetv2-12.onnx", text, flags=re.M)
            )
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code in (0, 1, 3), f"{words}: {result.output}"
        assert result.exception is None or isinstance(result.exception, SystemExit)


def test_pages_with_commands_are_found() -> None:
    assert {"README.md", "tune.md"} <= {p.name for p in PAGES if commands(p)}


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)$", (ROOT / "README.md").read_text(), re.M)
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
