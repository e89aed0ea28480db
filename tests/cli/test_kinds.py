"""Every verb on models that say things in another way: free sizes, functions, grey images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from quantlab.model.model import Model
from quantlab.testing import taught, tiny_classifier

QUICK = ("--threads", "1")


def minus_one(folder: Path) -> Path:
    return free(folder, -1)


def zero(folder: Path) -> Path:
    return free(folder, 0)


def free(folder: Path, size: int) -> Path:
    """Batch, height and width written so."""
    path = tiny_classifier(folder / f"free{size}.onnx")
    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    for dim in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = size
    onnx.save(proto, path)
    return path


def functions(folder: Path) -> Path:
    path = tiny_classifier(folder / "functions.onnx")
    proto = onnx.load(path)
    nodes = [helper.make_node("Clip", ["x", "low", "high"], ["y"])]
    opsets = [helper.make_opsetid("", 13)]
    reads = ["x", "low", "high"]
    proto.functions.append(helper.make_function("own", "ReLU6", reads, ["y"], nodes, opsets))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    for node in proto.graph.node:
        if node.op_type == "Clip":
            node.op_type, node.domain = "ReLU6", "own"
    onnx.save(proto, path)
    return path


def grey(folder: Path) -> Path:
    return tiny_classifier(folder / "grey.onnx", channels=1)


def grey_pixels(folder: Path) -> Path:
    return tiny_classifier(folder / "pixels.onnx", channels=1, layout="NHWC", dtype="uint8")


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("make", [minus_one, zero, functions, grey, grey_pixels])
def test_every_verb_takes_it(cli: Any, scene: Any, make: Callable[[Path], Path]) -> None:
    model = make(scene.folder)
    if make in (grey, grey_pixels):
        taught(model, scene.data, scene.pipeline)
    sized = ("--size", "32") if make in (minus_one, zero) else ()
    words = (*scene.words, *sized, *QUICK)
    int8 = scene.folder / "int8.onnx"
    cli("quantize", "--model", model, "--output", int8, *words)
    assert Model.load(int8).is_quantized
    for path in (model, int8):
        cli("inspect", path, *sized)
        cli("evaluate", path, *words)
    cli("bench", model, *sized, "--rounds", "2", "--seconds", "0.1", "--threads", "1")
    compared = cli("compare", model, int8, *words, "--no-bench", code=None)
    assert compared.code in (0, 1, 3), compared
    assert compared.record.results["comparison"]["fidelity"]["sqnr_db"] > 15
    cli("inspect", model, "--layers", int8, *words)
    ends = ("--max-trials", "1", "--no-bench", "--output", scene.folder / "tuned.onnx")
    judged = ("--eval-data", scene.data, "--allow-overlap")
    cli("tune", "--model", model, *judged, *words, *ends, code=None)
    assert (scene.folder / "tuned.onnx").is_file()


def test_grey_models_see_luminance(cli: Any, scene: Any) -> None:
    """A photo and its grey version, as Pillow makes it, get the same answers; so do the inputs
    that ``data npz`` writes, and the model with normalization inside."""
    model = grey(scene.folder)
    colours = sorted(scene.data.rglob("*.png")) or sorted(scene.data.rglob("*.JPEG"))
    assert colours
    for path in colours:
        with Image.open(path) as image:
            grey_image = image.convert("RGB").resize((32, 32))
        grey_image.save(path.with_suffix(".png"))
        if path.suffix != ".png":
            path.unlink()
    first = cli("evaluate", model, *scene.words, *QUICK).record.results["accuracy"]
    folded = cli("evaluate", model, *scene.words, *QUICK, "--fold-preprocess")
    assert folded.record.results["accuracy"] == first
    cli("data", "npz", "--model", model, *scene.words, "--output", scene.folder / "npz")
    again = cli("evaluate", model, "--data", scene.folder / "npz", "--pipeline", scene.pipeline)
    assert again.record.results["accuracy"] == first


@pytest.mark.parametrize("channels", [2, 4, 5])
@pytest.mark.parametrize("more", [(), ("--layout", "NCHW"), ("--layout", "NHWC")])
def test_other_numbers_of_channels_are_refused_in_two_lines(
    cli: Any, scene: Any, channels: int, more: tuple[str, ...]
) -> None:
    model = tiny_classifier(scene.folder / "odd.onnx", channels=channels)
    for verb in (
        ("quantize", "--model", model, "--output", scene.folder / "o.onnx"),
        ("evaluate", model),
    ):
        said = cli(*verb, *scene.words, *more, code=2)
        assert len(said.complaint) <= 3, said.err
        assert "channels" in said.err


@pytest.mark.parametrize(
    ("shape", "wrong"),
    [
        (("N", "C", 32, 32), ()),
        (("N", 3, "H", "W"), ("--size", "16")),
        (("N", 3, 32, 32), ("--size", "16")),
        (("N", 3, 32, 32), ("--layout", "NHWC")),
        (("N", "C", "H", "W"), ("--layout", "NHWC")),
    ],
)
def test_remedies_end_in_no_traceback(
    cli: Any, scene: Any, shape: tuple[str | int, ...], wrong: tuple[str, ...]
) -> None:
    """Whatever an error offers is done, until all is well or it is said what is beyond mending."""
    proto = onnx.load(scene.model)
    kind = proto.graph.input[0].type.tensor_type.elem_type
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", kind, shape))
    model = scene.folder / "odd.onnx"
    onnx.save(proto, model)
    said = cli("inspect", model, *wrong, code=None)
    assert said.code in (0, 2)
    for layout in ("NCHW", "NHWC"):
        if said.code and f"--layout {layout}" in said.err:
            cli("inspect", model, "--layout", layout, "--size", "32", code=None)
    if "Leave --layout out" in said.err or "Leave --size out" in said.err:
        cli("inspect", model)


def test_luminance_is_pillows(scene: Any) -> None:
    from quantlab.data.preprocess import luminance

    colours = np.random.default_rng(0).integers(0, 256, (1, 300, 300, 3), np.uint8)
    found = luminance(colours)[0, 0]
    assert np.array_equal(found, np.asarray(Image.fromarray(colours[0]).convert("L")))
