"""Published projects' recipes from the command line, on the real model and images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantlab.fetch import catalog

IMAGES = 32


def test_a_model_that_is_not_here_says_how_to_get_it(cli: Any) -> None:
    for verb in (("fetch",), ("evaluate",), ("quantize",)):
        said = cli(*verb, "npu-keras", code=2)
        assert said.complaint[-2] == "Error: npu-keras: model not available here."
        assert said.complaint[-1] == f"To make it: {catalog()['npu-keras'].export}"
    said = cli("fetch", "caffe2-mobilenetv2-int8", code=2)
    assert "quantlab quantize caffe2-mobilenetv2 --recipe" in said.complaint[-1]


@pytest.fixture
def some(data_root: Path) -> Path:
    """The first images of val1300, where they lie."""
    folder = data_root / "imagenet" / "val1300"
    lines = (folder / "val.txt").read_text().splitlines()[:IMAGES]
    Path("few.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.mark.data
def test_the_zoos_own_files_give_its_table_and_sentence(
    cli: Any, some: Path, data_root: Path
) -> None:
    fp32, int8 = (data_root / "models" / f"mobilenetv2-12{x}.onnx" for x in ("", "-int8"))
    words = ("--data", some, "--list", "few.txt", "--no-bench", "--compat")
    said = cli("compare", fp32, int8, *words, code=None)
    scores = said.record.results["comparison"]
    rows = [line for line in said.out.splitlines() if line.startswith("| mobilenetv2-12")]
    for row, key, size in zip(rows, ("fp32", "int8"), ("13.96 MB", "3.66 MB"), strict=True):
        found = [cell.strip() for cell in row.split("|")[2:-1]]
        tops = [f"{100 * scores[key][top]['value']:.2f}" for top in ("top1", "top5")]
        assert found == [size, *tops]
    decline = scores["top1"]["ratio"]
    assert (
        "Compared with the fp32 mobilenetv2-12, int8 mobilenetv2-12-int8's Top-1 accuracy decline "
        f"ratio is {decline:.2%}, Top-5" in said.out.replace("-0.00%", "0.00%")
    )


@pytest.mark.data
@pytest.mark.parametrize(
    ("recipe", "least"),
    [("npu-torchvision", 0.9), ("a16w8", 0.95), ("caffe2-mobilenetv2-int8", 0.7)],
)
def test_recipes_quantize_the_real_model(
    recipe: str, least: float, cli: Any, some: Path, data_root: Path, tmp_path: Path
) -> None:
    model, int8 = data_root / "models" / "mobilenetv2-12.onnx", tmp_path / "int8.onnx"
    words = ("--data", some, "--list", "few.txt")
    cli("quantize", "--model", model, "--recipe", recipe, *words, "--output", int8)
    said = cli("compare", model, int8, *words, "--no-bench", code=None)
    fidelity = said.record.results["comparison"]["fidelity"]
    assert fidelity["agreement"]["value"] >= least
