"""OpenVINO IR at the command line: made by quantize, run wherever only running is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.evaluate.predictions import Predictions
from quantlab.model.model import Model
from quantlab.quantize.peers.nncf import NncfEngine
from quantlab.runtime.openvino import ir_of

pytestmark = pytest.mark.usefixtures("no_timing", "no_plots")


@pytest.fixture
def ir(scene: Any, tmp_path: Path) -> Path:
    """The scene's model as IR."""
    return Model.load(scene.model).save(tmp_path / "fp32.xml")


@pytest.fixture
def int8(cli: Any, scene: Any, tmp_path: Path) -> Path:
    """The scene's model, quantized, as IR."""
    path = tmp_path / "int8.xml"
    cli("quantize", "--model", scene.model, *scene.words, "--output", path)
    return path


def test_quantize_writes_both_files_with_its_stamp(cli: Any, scene: Any, tmp_path: Path) -> None:
    path = tmp_path / "int8.xml"
    said = cli("quantize", "--model", scene.model, *scene.words, "--output", path)
    model = Model.load(path)
    assert said.out.splitlines()[-1].startswith(f"Wrote {path} and {path.with_suffix('.bin')} (")
    assert model.is_quantized
    assert model.metadata["quantlab.fp32_sha256"] == Model.load(scene.model).sha256
    assert said.record.results["output"]["sha256"] == model.sha256
    assert said.record.results["output"]["runtime"] == "openvino"
    other = tmp_path / "other.xml"
    cli("quantize", "--model", scene.model, *scene.words, "--output", other)
    assert Model.load(other).sha256 == model.sha256


def test_it_is_what_the_onnx_file_is_in_openvino(
    cli: Any, scene: Any, int8: Path, tmp_path: Path
) -> None:
    onnx = tmp_path / "int8.onnx"
    cli("quantize", "--model", scene.model, *scene.words, "--output", onnx)
    assert Model.load(onnx).save(tmp_path / "saved.xml").read_bytes() == int8.read_bytes()
    found = []
    for model in (f"{onnx}@openvino", int8):
        said = cli("evaluate", model, *scene.words)
        found.append(Predictions.load(said.folder / "predictions.npz"))
    np.testing.assert_array_equal(found[0].outputs, found[1].outputs)


def test_compare_takes_it_on_either_side(cli: Any, scene: Any, ir: Path, int8: Path) -> None:
    said = cli("compare", scene.model, int8, *scene.words, "--max-decline", "90%")
    assert "fp32 ran in onnxruntime and int8 in openvino" in said.out
    assert "made from another fp32 file" not in said.out
    assert "MACs" not in said.out
    said = cli("compare", ir, int8, *scene.words, "--max-decline", "90%")
    assert [m["runtime"] for m in said.record.results["models"]] == ["openvino"] * 2
    assert "Other CPUs: not known" in said.out
    onnx = ir.with_name("int8.onnx")
    cli("quantize", "--model", scene.model, *scene.words, "--output", onnx)
    said = cli("compare", ir, onnx, *scene.words, "--max-decline", "90%")
    assert "fp32 ran in openvino and int8 in onnxruntime" in said.out
    said = cli("compare", int8, ir, *scene.words, code=2)
    assert "the fp32 model comes first" in said.err


def test_it_is_gated_benched_and_asked(cli: Any, scene: Any, ir: Path, int8: Path) -> None:
    rules = ("--require", "agreement >= 1%", "--require", "size <= 1MB")
    said = cli("gate", ir, int8, *scene.words, *rules)
    assert said.out.startswith("PASS: int8@openvino against fp32@openvino")
    said = cli("bench", scene.model, ir, int8)
    assert [m["runtime"] for m in said.record.results["models"]][1:] == ["openvino"] * 2
    image = next(scene.data.rglob("*.png"))
    first, second = (
        cli("predict", model, image, "--pipeline", scene.pipeline).out
        for model in (ir, scene.model)
    )
    assert first.split() == second.split() or first.splitlines()[-1] == second.splitlines()[-1]


def test_processes_evaluate_it(cli: Any, scene: Any, ir: Path) -> None:
    here = cli("evaluate", ir, *scene.words)
    there = cli("evaluate", ir, *scene.words, "--executor", "process:1")
    assert here.out == there.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "IR", "--runtime", "onnxruntime"), "which ONNX Runtime does not run"),
        (("evaluate", "IR@onnxruntime"), "which ONNX Runtime does not run"),
        (("compare", "ONNX", "IR", "--runtime", "onnxruntime"), "which ONNX Runtime does not run"),
        (("evaluate", "IR@openvin"), "there is no runtime called openvin"),
        (("inspect", "IR"), "can be run, not quantized or inspected"),
        (("inspect", "IR", "--portability"), "can be run, not quantized or inspected"),
        (("inspect", "IR", "--sensitivity"), "can be run, not quantized or inspected"),
        (("quantize", "--model", "IR", "--output", "o.onnx"), "can be run, not quantized"),
        (("tune", "--model", "IR", "--output", "o.onnx"), "can be run, not quantized"),
        (("tune", "--model", "ONNX", "--output", "o.xml"), "tune writes ONNX"),
        (("evaluate", "IR", "--fold-preprocess"), "can be run, not quantized or inspected"),
    ],
)
def test_what_it_is_not_for_is_two_lines(
    cli: Any, scene: Any, ir: Path, words: tuple[str, ...], said: str
) -> None:
    named = [w.replace("IR", str(ir)).replace("ONNX", str(scene.model)) for w in words]
    named = [str(ir.parent / w) if w.startswith("o.") else w for w in named]
    found = cli(*named, *scene.words, code=2)
    assert said in found.err
    assert len(found.complaint) == 2, found.err
    assert not list(ir.parent.glob("o.*"))


def test_a_named_runtime_is_stronger_than_the_option(cli: Any, scene: Any, ir: Path) -> None:
    said = cli("evaluate", f"{ir}@openvino", *scene.words, "--runtime", "onnxruntime")
    assert said.record.results["model"]["runtime"] == "openvino"


def test_damage_ends_in_two_lines(cli: Any, scene: Any, ir: Path) -> None:
    ir.with_suffix(".bin").write_bytes(b"1")
    found = cli("evaluate", ir, *scene.words, code=2)
    assert len(found.complaint) == 2
    assert "fp32.bin has 1 bytes" in found.err


def test_an_output_is_no_input(cli: Any, scene: Any, ir: Path) -> None:
    before = scene.snapshot()
    copy = ir.with_name("copy.xml")
    copy.with_suffix(".bin").hardlink_to(ir.with_suffix(".bin"))
    for output in (ir, copy):
        found = cli("bench", ir, "--export", output.with_suffix(".bin"), "--force", code=2)
        assert "would write what MODELS reads" in found.err
    assert scene.snapshot() == before


def test_files_of_others_are_replaced_by_force_alone(
    cli: Any, scene: Any, ir: Path, int8: Path
) -> None:
    words = ("quantize", "--model", scene.model, *scene.words, "--output")
    cli(*words, int8)  # quantlab wrote it
    before = ir.read_bytes(), ir.with_suffix(".bin").read_bytes()
    found = cli(*words, ir, code=2)
    assert "no int8 model that quantlab wrote" in found.err
    alone = int8.with_name("alone.xml")
    alone.with_suffix(".bin").write_bytes(b"mine")
    found = cli(*words, alone, code=2)
    assert "alone.bin: it is there already" in found.err
    assert (ir.read_bytes(), ir.with_suffix(".bin").read_bytes()) == before
    assert alone.with_suffix(".bin").read_bytes() == b"mine"
    cli(*words, alone, "--force")
    assert Model.load(alone).is_quantized


def test_an_ir_is_not_written_without_openvino(
    cli: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    words = ("quantize", "--model", scene.model, *scene.words, "--output", tmp_path / "m.xml")
    found = cli(*words, code=2)
    assert "pip install 'quantlab[openvino]'" in found.err
    assert not list(tmp_path.glob("m.*"))


def test_nncf_for_openvino_writes_ir_alone(cli: Any, scene: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "nncf.yaml"
    recipe.write_text("engine: nncf\n")
    words = ("quantize", "--model", scene.model, *scene.words, "--recipe", recipe)
    found = cli(*words, "--runtime", "openvino", "--output", tmp_path / "o.onnx", code=2)
    assert "whose name ends in .xml" in found.err
    assert len(found.complaint) == 2


def test_nncf_s_ir_is_stamped_and_checked(
    cli: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As quantlab's own; here it is made of quantlab's file."""

    int8 = tmp_path / "int8.onnx"
    plain = ("quantize", "--model", scene.model, *scene.words)
    cli(*plain, "--output", int8)

    def quantized(_: object, *given: Any) -> tuple[bytes, bytes]:
        return ir_of(int8.read_bytes(), given[-1])

    monkeypatch.setattr(NncfEngine, "quantize_ir", quantized)
    recipe, path = tmp_path / "nncf.yaml", tmp_path / "n.xml"
    recipe.write_text("name: theirs\nengine: nncf\n")
    said = cli(*plain, "--recipe", recipe, "--output", path)
    assert said.out.splitlines()[-1].startswith(f"Wrote {path} and ")
    assert '"name":"theirs"' in Model.load(path).metadata["quantlab.recipe"]
    assert said.record.results["check"]["int8_macs"] is None
