"""OpenVINO IR: what is read out of its two files, and what is refused."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest

from quantlab.errors import ModelError, OutputError, QuantlabError
from quantlab.model.model import Model, model_files
from quantlab.runtime.openvino import ir_of
from quantlab.runtime.runner import Runner
from quantlab.testing import example_model, tiny_classifier
from quantlab.testing.models import with_boxes


@pytest.fixture
def fp32(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


@pytest.fixture
def ir(fp32: Model, tmp_path: Path) -> Path:
    return fp32.save(tmp_path / "m.xml")


def images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 3, 32, 32)).astype(np.float32)


def answers(model: Model | Path | str) -> np.ndarray:
    with Runner(model, threads=1) as run:
        return run(images())


def test_it_is_the_model_that_it_was_made_of(fp32: Model, ir: Path) -> None:
    model = Model.load(ir)
    assert (model.input, model.num_classes) == (fp32.input, fp32.num_classes)
    assert (model.runtime, model.name, model.is_ir) == ("openvino", "m@openvino", True)
    census = model.op_census
    assert census["Convolution"] + census["GroupConvolution"] == fp32.op_census["Conv"]
    assert not {"Const", "Parameter", "Result"} & model.op_census.keys()
    assert not model.is_quantized
    for source in (model, ir, str(ir)):
        np.testing.assert_allclose(answers(source), answers(fp32), atol=1e-4)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("batch", ["N", 2])
def test_inputs_are_read_as_those_of_onnx(
    tmp_path: Path, layout: str, dtype: str, batch: str | int
) -> None:
    given = {"layout": layout, "dtype": dtype, "batch": batch}
    fp32 = Model.load(tiny_classifier(tmp_path / "m.onnx", **given))
    model = Model.load(fp32.save(tmp_path / "m.xml"))
    assert (model.inputs, model.outputs) == (fp32.inputs, fp32.outputs)
    assert model.input == fp32.input


def test_the_ir_s_facts_are_openvino_s_own(ir: Path) -> None:
    found, model = openvino.Core().read_model(ir), Model.load(ir)
    assert [port.any_name for port in found.inputs] == [t.name for t in model.inputs]
    assert [port.any_name for port in found.outputs] == [t.name for t in model.outputs]
    operators = [op.get_type_name() for op in found.get_ops()]
    assert sum(model.op_census.values()) == sum(
        op not in ("Constant", "Parameter", "Result") for op in operators
    )


def test_of_several_outputs_the_named_one_is_judged(tmp_path: Path) -> None:
    proto = with_boxes(onnx.load(tiny_classifier(tmp_path / "m.onnx")))
    classes, boxes = proto.graph.output
    name = classes.name
    swapped = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in (boxes, classes)]
    del proto.graph.output[:]
    proto.graph.output.extend(swapped)
    fp32 = Model.of(proto).with_overrides(output_name=name)
    model = Model.load(fp32.save(tmp_path / "m.xml")).with_overrides(output_name=name)
    assert [t.name for t in model.outputs] == ["boxes", name]
    assert (model.judged_index, model.num_classes) == (1, 10)
    np.testing.assert_allclose(answers(fp32), answers(model), atol=1e-4)


def last_reshape() -> onnx.ModelProto:
    """A classifier that ends with a Reshape."""
    make, info, f32 = onnx.helper.make_node, onnx.helper.make_tensor_value_info, 1
    shape = onnx.numpy_helper.from_array(np.array([0, -1]), "shape")
    graph = onnx.helper.make_graph(
        [make("Relu", ["x"], ["y"]), make("Reshape", ["y", "shape"], ["z"])],
        "g",
        [info("x", f32, ["N", 3, 2, 2])],
        [info("z", f32, ["N", 12])],
        [shape],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def test_a_softmax_gives_probabilities(tmp_path: Path) -> None:
    proto = onnx.load(tiny_classifier(tmp_path / "m.onnx"))
    last = proto.graph.output[0].name
    proto.graph.node.append(onnx.helper.make_node("Softmax", [last], ["chance"], axis=1))
    proto.graph.output[0].name = "chance"
    fp32 = Model.of(proto)
    assert Model.load(fp32.save(tmp_path / "p.xml")).output_kind == fp32.output_kind
    assert fp32.output_kind == "probabilities"


def quantizers(levels: int) -> openvino.Model:
    """An image times small weights, by a quantizer with that many levels, 0 for none."""
    import openvino.opset13 as ops

    given = ops.parameter([1, 3, 4, 4], np.float32, name="input")
    low, high = (ops.constant(np.float32(x)) for x in (-1, 1))
    made = ops.fake_quantize(given, low, high, low, high, levels) if levels else given
    flat = ops.reshape(made, ops.constant(np.array([1, 48], np.int64)), False)
    weights = ops.constant(np.ones((48, 10), np.int8))
    floats = weights if levels else ops.constant(np.ones((48, 10), np.float32))
    product = ops.matmul(flat, ops.convert(floats, "f32"), False, False)
    return openvino.Model([product], [given], "small")


@pytest.mark.parametrize("levels", [0, 256])
def test_quantizers_make_it_quantized(tmp_path: Path, levels: int) -> None:
    openvino.save_model(quantizers(levels), tmp_path / "m.xml", compress_to_fp16=False)
    assert Model.load(tmp_path / "m.xml").is_quantized == bool(levels)


def test_stored_small_weights_make_it_quantized(tmp_path: Path) -> None:
    openvino.save_model(quantizers(256), tmp_path / "m.xml", compress_to_fp16=False)
    text = (tmp_path / "m.xml").read_text()
    (tmp_path / "m.xml").write_text(text.replace("FakeQuantize", "Other"))
    assert Model.load(tmp_path / "m.xml").is_quantized


def test_both_files_are_its_identity(ir: Path) -> None:
    model = Model.load(ir)
    assert model.size_bytes == sum(file.stat().st_size for file in model_files(ir))
    assert model_files(ir) == (ir, ir.with_suffix(".bin"))
    model.check_unchanged()
    weights = bytearray(ir.with_suffix(".bin").read_bytes())
    weights[100] ^= 1
    ir.with_suffix(".bin").write_bytes(weights)
    assert Model.load(ir).sha256 != model.sha256
    with pytest.raises(ModelError, match="changed while"):
        model.check_unchanged()


def test_metadata_are_kept(tmp_path: Path) -> None:
    proto = example_model().proto()
    notes = {"quantlab.recipe": '{"a": "<é & \\"b\\">"}', "of mine": "x\ny", "class": "1"}
    for key, value in notes.items():
        proto.metadata_props.add(key=key, value=value)
    found = Model.load(Model.of(proto).save(tmp_path / "m.xml")).metadata
    assert notes.items() <= found.items()


_CONVERT = """
import sys
from pathlib import Path
from quantlab.runtime.openvino import ir_of
for _ in range(int(sys.argv[2])):
    made = ir_of(Path(sys.argv[1]).read_bytes())
sys.stdout.buffer.write(made[0] + made[1])
"""


def test_the_same_model_gives_the_same_bytes_whatever_was_converted_before(fp32: Model) -> None:
    command = [sys.executable, "-c", _CONVERT, str(fp32.path)]
    made = {
        subprocess.run([*command, count], check=True, capture_output=True).stdout
        for count in ("1", "3")
    }
    assert made == {b"".join(ir_of(fp32.path.read_bytes()))}


def test_it_is_saved_as_it_is_and_not_as_onnx(ir: Path, tmp_path: Path) -> None:
    model = Model.load(ir)
    copy = model.save(tmp_path / "copy.xml")
    assert Model.load(copy).sha256 == model.sha256
    with pytest.raises(OutputError, match="stays it") as caught:
        model.save(tmp_path / "copy.onnx")
    assert "ends in .xml" in str(caught.value)
    assert not (tmp_path / "copy.onnx").exists()


def test_neither_file_of_an_input_is_written(ir: Path, tmp_path: Path) -> None:
    model = Model.load(ir)
    for name in ("m.xml", "other.xml"):
        if name == "other.xml":
            (tmp_path / "other.bin").symlink_to(ir.with_suffix(".bin"))
        with pytest.raises(OutputError, match="is an input"):
            model.save(tmp_path / name)
    model.check_unchanged()


def test_nothing_is_written_where_one_file_cannot_be(fp32: Model, tmp_path: Path) -> None:
    (tmp_path / "n.bin").mkdir()
    with pytest.raises(OutputError, match=r"n\.bin: it is a folder"):
        fp32.save(tmp_path / "n.xml")
    assert not (tmp_path / "n.xml").exists()


def test_another_runtime_does_not_run_it(ir: Path) -> None:
    model = Model.load(ir)
    assert model.with_overrides(runtime="openvino") == model
    for use in (
        lambda: model.with_overrides(runtime="onnxruntime"),
        lambda: Runner(model, runtime="onnxruntime"),
        lambda: Runner(ir, runtime="onnxruntime"),
    ):
        with pytest.raises(ModelError, match="ONNX Runtime does not run"):
            use()


def test_it_is_read_like_another_model_and_stays_with_openvino(fp32: Model, ir: Path) -> None:
    assert Model.load(ir).like(fp32).runtime == "openvino"


def test_it_has_no_onnx_graph(ir: Path) -> None:
    with pytest.raises(ModelError, match="can be run, not quantized or inspected") as caught:
        Model.load(ir).proto()
    assert "Give the ONNX file" in str(caught.value)


def without_weights(path: Path) -> None:
    path.with_suffix(".bin").unlink()


def short_weights(path: Path) -> None:
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-4])


def long_weights(path: Path) -> None:
    with path.with_suffix(".bin").open("ab") as file:
        file.write(bytes(4))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def with_entity(path: Path) -> None:
    text = path.read_text().replace('<?xml version="1.0"?>', "")
    path.write_text(f'<!DOCTYPE net [<!ENTITY e SYSTEM "file:///etc/hostname">]>{text}')


def with_doctype(path: Path) -> None:
    path.write_text(path.read_text().replace("<net ", '<!DOCTYPE net SYSTEM "x.dtd"><net ', 1))


def other_xml(path: Path) -> None:
    path.write_text("<testsuites/>")


def empty_net(path: Path) -> None:
    path.write_text("<net/>")


def broken_edge(path: Path) -> None:
    path.write_text(path.read_text().replace('from-layer="1"', 'from-layer="9999"'))


def broken_number(path: Path) -> None:
    path.write_text(path.read_text().replace('offset="0"', 'offset="x"'))


def without_type(path: Path) -> None:
    path.write_text(path.read_text().replace('type="Parameter"', ""))


def without_ports(path: Path) -> None:
    text = path.read_text()
    path.write_text(re.sub(r"<output>.*?</output>", "", text, count=1, flags=re.DOTALL))


def no_file(path: Path) -> None:
    path.unlink()


Damage = Callable[[Path], None]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_weights, "its weights m.bin are missing"),
        (short_weights, "m.bin has [0-9,]+ bytes, and its constants need [0-9,]+"),
        (long_weights, "m.bin has [0-9,]+ bytes, and its constants need [0-9,]+"),
        (cut, "truncated or damaged"),
        (with_entity, "has a document type"),
        (with_doctype, "has a document type"),
        (other_xml, "begins with <testsuites>, not with <net>"),
        (empty_net, "holds no graph"),
        (broken_edge, "truncated or damaged"),
        (broken_number, "truncated or damaged"),
        (without_type, "truncated or damaged"),
        (without_ports, "truncated or damaged"),
        (no_file, "no such model file"),
    ],
)
def test_damage_is_two_plain_lines(ir: Path, damage: Damage, said: str) -> None:
    damage(ir)
    with pytest.raises(ModelError, match=said) as caught:
        Model.load(ir)
    assert str(ir) in caught.value.problem
    assert "\n" not in caught.value.problem + caught.value.remedy


def test_a_graph_that_goes_round_ends(tmp_path: Path) -> None:
    path = Model.of(last_reshape()).save(tmp_path / "m.xml")
    text = path.read_text()
    number = re.findall(r'<layer id="(\d+)"[^>]* type="Reshape"', text)[-1]
    edge = rf'<edge from-layer="\d+" from-port="\d+" to-layer="{number}" to-port="0" />'
    again = f'<edge from-layer="{number}" from-port="2" to-layer="{number}" to-port="0" />'
    assert len(re.findall(edge, text)) == 1
    path.write_text(re.sub(edge, again, text))
    assert Model.load(path).output_kind == "logits"


def test_a_graph_that_is_too_large_is_not_read(ir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.model.ir.MAX_BYTES", 1000)
    with pytest.raises(ModelError, match="larger than"):
        Model.load(ir)


def test_openvino_is_not_needed_to_read_it(ir: Path) -> None:
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "from quantlab import Model\n"
        "print(Model.load(sys.argv[1]).num_classes)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ir)], capture_output=True, text=True)
    assert done.stdout.strip() == "10", done.stderr


def test_the_weights_are_not_the_model(ir: Path) -> None:
    with pytest.raises(ModelError, match="holds the weights of OpenVINO IR") as caught:
        Model.load(ir.with_suffix(".bin"))
    assert caught.value.remedy == f"Give {ir}."


def test_a_copy_beside_other_weights_is_refused(ir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(ir, other / "m.xml")
    (other / "m.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="0 bytes"):
        Model.load(other / "m.xml")


def test_whatever_was_cut_or_exchanged_is_a_plain_error_or_a_model(ir: Path) -> None:
    good, rng = ir.read_text(), random.Random(0)
    pieces = re.findall(r'<[^>]*>|"[^"]*"', good)
    for _ in range(200):
        text = good.replace(rng.choice(pieces), rng.choice(pieces), rng.choice([1, -1]))
        start = rng.randrange(len(text))
        ir.write_text(text[:start] + text[start + rng.choice([0, 1, 40]) :])
        with suppress(QuantlabError):
            Model.load(ir).check_classifier()
