"""quantize checks the file that it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import QuantizeError
from quantlab.evaluate.metrics import sqnr_db
from quantlab.model.model import Model
from quantlab.quantize import engine, get_engine
from quantlab.quantize.costs import Cost, Costs
from quantlab.quantize.stamp import calibrated_on
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner
from quantlab.testing import image_folder, listed_folder, tiny_classifier
from quantlab.verbs.compare import macs_of
from quantlab.verbs.selfcheck import Chosen, self_check

WEIGHTS = "quantlab/output/weight/quantized"
"""The classifier's weights in the int8 file."""
FaultyEngine = Callable[[Callable[[onnx.ModelProto], object]], None]


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> FaultyEngine:
    """``faulty(spoil)``: quantlab's engine, whose file ``spoil`` changes."""

    def install(spoil: Callable[[onnx.ModelProto], object]) -> None:
        class Faulty:
            name = "faulty"

            def quantize(self, model: Model, recipe: Recipe, images: Any) -> onnx.ModelProto:
                proto = get_engine("quantlab").quantize(model, recipe, images)
                spoil(proto)
                return proto

        monkeypatch.setattr("quantlab.verbs.quantize.get_engine", lambda name: Faulty())

    return install


def change(proto: onnx.ModelProto, wanted: str, by: Callable[[NDArray[Any]], Any]) -> None:
    """Changes the weights whose name begins so."""
    found = [t for t in proto.graph.initializer if t.name.startswith(wanted)]
    assert found
    for tensor in found:
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(by(array).astype(array.dtype), tensor.name))


def shuffled(proto: onnx.ModelProto) -> None:
    """Every class gets another's weights."""
    change(proto, WEIGHTS, lambda w: np.roll(w, 3, axis=0))


def test_the_check_is_one_line_and_in_the_record(cli: Any, scene: Any, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    data = listed_folder(tmp_path / "many", [i % 10 for i in range(80)])
    words = ("--data", data, "--pipeline", scene.pipeline, "--output", target)
    said = cli("quantize", "--model", scene.model, *words)
    line, wrote = said.out.splitlines()
    check = said.record.results["check"]
    file, plain = check["file"], check["minmax"]
    assert line == (
        f"On 8 images that did not calibrate: SQNR {file['sqnr_db']:.1f} dB, "
        f"agreement {file['agreement']:.1%}, 100.0% of the MACs in int8 "
        f"(plain MinMax: SQNR {plain['sqnr_db']:.1f} dB, agreement {plain['agreement']:.1%})."
    )
    assert wrote.startswith("Wrote ")
    assert (file["images"], check["unseen"], check["int8_macs"]) == (8, True, 1.0)
    dataset = open_dataset(data)
    crops = load_crops(dataset, get_pipeline(scene.pipeline), cache_dir=tmp_path / "crops")
    int8 = Model.load(target)
    used = [calibrated_on(int8.metadata, [digest]) for digest in crops.digests]
    assert sum(used) == 72
    unseen = crops.inputs(np.flatnonzero(np.array(used) == 0), int8.input)
    with Runner(scene.model) as fp32, Runner(target) as other:
        assert file["sqnr_db"] == pytest.approx(sqnr_db(fp32(unseen), other(unseen)))


def slower(kind: str, by: float) -> Costs:
    """A table by which int8 takes so many microseconds longer, for this kind of layer alone."""
    nothing = dict.fromkeys(("quantize", "dequantize", "reorder", "transpose"), Cost())
    return Costs(
        instructions="none",
        onnxruntime="none",
        operators={
            name: {"int8": Cost(start=by if name == kind else 1.0), "fp32": Cost(start=2.0)}
            for name in ("first", "uneven depthwise", "depthwise", "pointwise", "gemm", "dense")
        },
        conversions={"image": nothing, "matrix": nothing},
    )


def test_what_stays_in_fp32_for_speed_is_said_with_its_reason(
    cli: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "shipped_costs", lambda: slower("gemm", 102.0))
    words = (*scene.words, "--output", tmp_path / "int8.onnx")
    said = cli("quantize", "--model", scene.model, *words)
    assert "Left in fp32: output (slower in int8 by 100 µs)." in said.err
    told = said.record.results["check"]
    assert 0 < told["int8_macs"] < 1
    macs = macs_of(Model.load(tmp_path / "int8.onnx"))
    assert macs is not None
    assert [(x.op_type, x.reason) for x in macs.fp32] == [("Gemm", "slower in int8 by 100 µs")]


@pytest.mark.parametrize(
    ("placing", "remedy"),
    [
        ("widest", "placement: fastest in the recipe leaves in fp32 what is faster there."),
        ("fastest", "The model is too small for int8 to gain what counts: keep it in fp32."),
    ],
)
@pytest.mark.usefixtures("no_timing")
def test_what_is_predicted_to_be_slower_than_fp32_is_told_first(
    placing: str, remedy: str, cli: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "shipped_costs", lambda: slower("gemm", 42.0))
    recipe, target = tmp_path / "recipe.yaml", tmp_path / "int8.onnx"
    recipe.write_text(f"placement: {placing}\n")
    words = (*scene.words, "--output", target, "--recipe", recipe)
    said = cli("quantize", "--model", scene.model, *words)
    warning = (
        "int8.onnx: predicted 5.62x slower than fp32, by the costs of operators: "
        f"0.045 ms a run against 0.008 ms. {remedy}"
    )
    assert said.record.warnings[0] == warning
    again = cli("quantize", "--model", scene.model, *words)
    assert again.record.warnings[0] == warning, "from the cache"
    told = cli("compare", scene.model, target, *scene.words, "--no-bench", code=None)
    sentence = "int8 is predicted not to pay: nothing was timed; by the costs of operators the file"
    assert sentence in told.out
    assert sentence in (told.folder / "report.md").read_text().replace("\n", " ")
    timed = cli("compare", scene.model, target, *scene.words, code=None)
    assert "predicted" not in timed.out, "what was measured counts"


def test_a_model_in_which_int8_pays_nowhere_stays_in_fp32_with_a_warning(
    cli: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = slower("gemm", 102.0)
    cost = {"int8": Cost(start=102.0), "fp32": Cost(start=2.0)}
    every = every.model_copy(update={"operators": dict.fromkeys(every.operators, cost)})
    monkeypatch.setattr(engine, "shipped_costs", lambda: every)
    target = tmp_path / "int8.onnx"
    said = cli("quantize", "--model", scene.model, *scene.words, "--output", target)
    assert "int8.onnx: nothing is in int8, because int8 is slower in all of this model" in said.err
    assert "placement: widest" in said.err
    assert said.record.results["check"]["int8_macs"] == 0
    (tmp_path / "r.yaml").write_text("placement: widest\n")
    words = (*scene.words, "--recipe", tmp_path / "r.yaml", "--output", target)
    said = cli("quantize", "--model", scene.model, *words)
    assert "nothing is in int8" not in said.err
    assert said.record.results["check"]["int8_macs"] == 1.0


def test_images_that_calibrated_check_where_there_are_no_others(
    cli: Any, scene: Any, tmp_path: Path
) -> None:
    words = (*scene.words, "--output", tmp_path / "int8.onnx")
    said = cli("quantize", "--model", scene.model, *words)
    assert said.out.startswith("On 32 images that calibrated: SQNR ")
    assert said.record.results["check"]["unseen"] is False


def test_copies_of_calibration_images_are_not_unseen(cli: Any, scene: Any, tmp_path: Path) -> None:
    data = image_folder(tmp_path / "twice", 10, per_class=1, size=40)
    for image in sorted(data.rglob("*.png")):
        (image.parent / "copy.png").write_bytes(image.read_bytes())
    (tmp_path / "r.yaml").write_text("images_per_class: 1\n")
    said = cli(
        *("quantize", "--model", scene.model, "--data", data, "--pipeline", scene.pipeline),
        *("--recipe", tmp_path / "r.yaml", "--output", tmp_path / "int8.onnx"),
    )
    assert said.out.startswith("On 10 images that calibrated: ")


def test_a_known_file_is_not_checked_again(
    cli: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("quantize", "--model", scene.model, *scene.words)
    first = cli(*words, "--output", tmp_path / "a.onnx")
    monkeypatch.setattr("quantlab.verbs.selfcheck.Proxy", None)
    second = cli(*words, "--output", tmp_path / "b.onnx")
    assert first.record.results["check"] == second.record.results["check"]


def test_a_file_unrelated_to_fp32_is_not_written(
    cli: Any, scene: Any, tmp_path: Path, faulty: FaultyEngine
) -> None:
    faulty(shuffled)
    target = tmp_path / "int8.onnx"
    words = ("quantize", "--model", scene.model, *scene.words, "--output", target)
    said = cli(*words, code=2)
    assert not target.exists()
    assert list(tmp_path.glob(".*.part")) == []
    problem, remedy = said.complaint[-2:]
    assert f"{target} was not written: its answers are unrelated to fp32's: SQNR" in problem
    assert "--force writes it all the same" in remedy
    record = cli(*words, "--force").record
    assert target.is_file()
    assert "unrelated to fp32's" in record.warnings[-1]
    assert record.results["check"]["file"]["agreement"] < 0.5


def test_a_file_that_gives_nan_is_not_written(
    cli: Any, scene: Any, tmp_path: Path, faulty: FaultyEngine
) -> None:
    faulty(
        lambda proto: change(proto, "quantlab/output/weight/scale", lambda scale: scale * np.nan)
    )
    target = tmp_path / "int8.onnx"
    said = cli("quantize", "--model", scene.model, *scene.words, "--output", target, code=2)
    assert "some of them NaN or infinite" in said.err
    assert not target.exists()


def test_a_file_worse_than_plain_minmax_is_written_with_a_warning(
    cli: Any, scene: Any, tmp_path: Path, faulty: FaultyEngine
) -> None:
    faulty(lambda proto: change(proto, WEIGHTS, lambda w: w * 0.9))
    target = tmp_path / "int8.onnx"
    said = cli("quantize", "--model", scene.model, *scene.words, "--output", target)
    assert target.is_file()
    assert "plain MinMax is nearer to fp32: SQNR" in said.warnings[-1]
    assert "quantlab tune" in said.warnings[-1]


def test_a_poor_file_is_written_with_a_warning(
    cli: Any, scene: Any, tmp_path: Path, faulty: FaultyEngine
) -> None:
    faulty(lambda proto: change(proto, WEIGHTS, lambda w: w * 0.55))
    target = tmp_path / "int8.onnx"
    said = cli("quantize", "--model", scene.model, *scene.words, "--output", target)
    assert target.is_file()
    assert "its answers are far from fp32's: SQNR" in said.warnings[-1]


def test_several_outputs_of_other_types_are_no_trouble(scene: Any, tmp_path: Path) -> None:
    proto = onnx.load(scene.model)
    best = helper.make_node("ArgMax", ["output"], ["best"], name="best", axis=1)
    proto.graph.node.append(best)
    proto.graph.output.append(helper.make_tensor_value_info("best", TensorProto.INT64, None))
    onnx.save(proto, tmp_path / "two.onnx")
    model = Model.load(tmp_path / "two.onnx")
    dataset = open_dataset(scene.data)
    crops = load_crops(dataset, get_pipeline(scene.pipeline), cache_dir=tmp_path / "crops")
    images = CalibrationImages(crops, Model.load(scene.model).input)
    check = self_check(model, model, Recipe(), images, Chosen(crops, unseen=False), threads=1)
    assert (check.file.sqnr_db, check.file.agreement, check.int8_macs) == (None, 1.0, 0.0)
    assert check.problem == ""


def test_an_int8_file_with_other_outputs_is_refused(scene: Any, tmp_path: Path) -> None:
    model = Model.load(scene.model)
    other = Model.load(tiny_classifier(tmp_path / "other.onnx", classes=7))
    dataset = open_dataset(scene.data)
    crops = load_crops(dataset, get_pipeline(scene.pipeline), cache_dir=tmp_path / "crops")
    images = CalibrationImages(crops, model.input)
    with pytest.raises(QuantizeError, match="7 numbers an image, the fp32 model 10"):
        self_check(model, other, Recipe(), images, Chosen(crops, unseen=False), threads=1)
