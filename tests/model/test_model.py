"""Model: what is read out of an ONNX file, and what is refused."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantlab.errors import ModelError
from quantlab.inspect.inspection import inspect_model
from quantlab.model.model import MAX_BYTES, InputSpec, Model
from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier


def changed(path: Path, **parts: Any) -> onnx.ModelProto:
    """A tiny classifier's protobuf, to be damaged and saved by the test."""
    return onnx.load(tiny_classifier(path, **parts))


def saved(proto: onnx.ModelProto, path: Path) -> Path:
    """Written without onnx's own checks."""
    path.write_bytes(proto.SerializeToString())
    return path


def external(path: Path, location: str = "weights.bin") -> Path:
    """A tiny classifier with its weights in a file beside it."""
    proto = changed(path)
    onnx.save(proto, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def last_node(op: str, *more: tuple[str, dict[str, Any]], classes: int = 4) -> onnx.ModelProto:
    """Logits [N, classes] through this operator and others after it."""
    steps = [(op, {}), *more]
    nodes = [
        helper.make_node(kind, [f"t{i}"], [f"t{i + 1}"], **attributes)
        for i, (kind, attributes) in enumerate(steps)
    ]
    given = helper.make_tensor_value_info("t0", TensorProto.FLOAT, ["N", classes])
    made = helper.make_tensor_value_info(f"t{len(steps)}", TensorProto.FLOAT, ["N", classes])
    return helper.make_model(helper.make_graph(nodes, "g", [given], [made]))


@pytest.mark.parametrize("opset", [7, 10, 12, 13, 17])
def test_opset_and_inputs(tmp_path: Path, opset: int) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx", opset=opset))
    assert model.opset == opset
    assert [t.name for t in model.inputs] == ["input"]
    assert (model.num_classes, model.name, model.is_quantized) == (10, "m", False)


def test_the_standard_opset_counts_whatever_else_is_imported(tmp_path: Path) -> None:
    proto = changed(tmp_path / "m.onnx", opset=12)
    proto.opset_import.insert(0, helper.make_opsetid("com.microsoft", 1))
    assert Model.load(saved(proto, tmp_path / "m.onnx")).opset == 12


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("batch", [None, 1, 4])
def test_the_input_is_detected(tmp_path: Path, layout: Any, dtype: Any, batch: int | None) -> None:
    path = tiny_classifier(tmp_path / "m.onnx", layout=layout, dtype=dtype, batch=batch, size=24)
    assert Model.load(path).input == InputSpec("input", layout, dtype, 24, 24, batch)


def test_layout_can_be_overridden_where_both_are_possible(tmp_path: Path) -> None:
    path = tiny_classifier(tmp_path / "m.onnx", layout="NHWC", size=3)
    model = Model.load(path)
    assert model.input.layout == "NCHW"
    assert model.with_overrides(layout="NHWC").input.layout == "NHWC"
    assert model.with_overrides().input.layout == "NCHW"


def test_a_free_image_size_is_taken_as_224(tmp_path: Path) -> None:
    proto = changed(tmp_path / "m.onnx")
    for dim in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    model = Model.load(saved(proto, tmp_path / "m.onnx"))
    assert (model.input.height, model.input.width) == (224, 224)


@pytest.mark.parametrize(
    ("shape", "kind"), [((1, 3, 32), TensorProto.FLOAT), ((1, 3, 8, 8), TensorProto.BOOL)]
)
def test_other_inputs_are_refused_with_their_shape(
    tmp_path: Path, shape: tuple[int, ...], kind: int
) -> None:
    proto = changed(tmp_path / "m.onnx")
    proto.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", kind, shape))
    model = Model.load(saved(proto, tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match="not float32 or uint8 images") as caught:
        model.check_classifier()
    assert "--layout" not in caught.value.remedy, "no layout would help"


def of_shape(folder: Path, shape: tuple[int | None, ...]) -> Model:
    proto = changed(folder / "m.onnx")
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    proto.graph.input[0].CopyFrom(value)
    return Model.load(saved(proto, folder / "m.onnx"))


@pytest.mark.parametrize("channels", [2, 4, 5])
@pytest.mark.parametrize("layout", [None, "NCHW", "NHWC"])
def test_images_have_three_channels_or_one(
    tmp_path: Path, channels: int, layout: Literal["NCHW", "NHWC"] | None
) -> None:
    model = of_shape(tmp_path, (None, channels, 32, 32)).with_overrides(layout=layout)
    with pytest.raises(ModelError, match="channels") as caught:
        model.check_classifier()
    assert "--layout" not in caught.value.remedy, "no layout would help"


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((None, 1, 28, 28), "NCHW"), ((None, 28, 28, 1), "NHWC"), ((1, 1, 28, 1), "NCHW")],
)
def test_one_channel_is_grey(tmp_path: Path, shape: tuple[int | None, ...], layout: str) -> None:
    spec = of_shape(tmp_path, shape).input
    assert (spec.layout, spec.channels) == (layout, 1)
    assert spec.shape == shape[1:]


def test_every_layout_that_is_offered_is_taken(tmp_path: Path) -> None:
    sizes = (None, 1, 3, 4, 32)
    for rest in itertools.product(sizes, repeat=3):
        model = of_shape(tmp_path, (None, *rest))
        for given in (None, "NCHW", "NHWC"):
            again = model.with_overrides(layout=given)
            try:
                assert again.input.channels in (1, 3)
            except ModelError as error:
                for offered in re.findall("--layout (NC?HWC?)", error.remedy):
                    assert model.with_overrides(layout=offered).input.layout == offered
                if "Leave --layout out" in error.remedy:
                    assert given is not None
                    _ = model.input


def test_two_inputs_are_named(tmp_path: Path) -> None:
    proto = changed(tmp_path / "m.onnx")
    proto.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    with pytest.raises(ModelError, match=r"2 \(input, mask\)"):
        _ = Model.load(saved(proto, tmp_path / "m.onnx")).input


@pytest.mark.parametrize("shape", [["N"], ["N", 10, 4], ["N", "classes"]])
def test_a_model_without_classes_is_no_classifier(tmp_path: Path, shape: list[Any]) -> None:
    proto = changed(tmp_path / "m.onnx")
    proto.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)
    )
    with pytest.raises(ModelError, match="not an image classifier"):
        _ = Model.load(saved(proto, tmp_path / "m.onnx")).num_classes


@pytest.mark.parametrize(
    ("proto", "kind"),
    [
        (last_node("Relu"), "logits"),
        (last_node("Softmax"), "probabilities"),
        (last_node("Softmax", ("Identity", {}), ("Cast", {"to": 1})), "probabilities"),
        (last_node("LogSoftmax"), "logits"),
        (last_node("Softmax", ("Log", {})), "logits"),
        (last_node("Sigmoid"), "logits"),
        (last_node("Sigmoid", ("Identity", {}), classes=1), "probabilities"),
        (last_node("Relu", classes=1), "logits"),
    ],
)
def test_the_output_kind_is_what_makes_the_output(
    tmp_path: Path, proto: onnx.ModelProto, kind: str
) -> None:
    assert Model.load(saved(proto, tmp_path / "m.onnx")).output_kind == kind


def test_the_output_kind_can_be_overridden(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx", softmax=True))
    assert model.output_kind == "probabilities"
    assert model.with_overrides(output_kind="logits").output_kind == "logits"


def test_one_number_an_image_is_two_classes(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx", classes=1))
    assert (model.judged.shape, model.num_classes) == ((None, 1), 2)


def test_of_several_outputs_one_of_more_than_one_number_is_judged(tmp_path: Path) -> None:
    proto = last_node("Relu", ("Neg", {}))
    proto.graph.output.insert(0, helper.make_tensor_value_info("t1", TensorProto.FLOAT, ["N", 1]))
    model = Model.load(saved(proto, tmp_path / "m.onnx"))
    assert (model.judged.name, model.num_classes) == ("t2", 4)
    assert model.with_overrides(output_name="t1").num_classes == 2


@pytest.mark.parametrize("op", ["QuantizeLinear", "QLinearConv", "ConvInteger", "QLinearAdd"])
def test_quantized_models_are_known_by_their_operators(tmp_path: Path, op: str) -> None:
    proto = changed(tmp_path / "m.onnx")
    proto.graph.node[0].op_type = op
    assert Model.load(saved(proto, tmp_path / "m.onnx")).is_quantized


def test_proto_is_a_fresh_copy(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx"))
    del model.proto().graph.node[:]
    assert len(model.proto().graph.node) > 5


def test_external_data_round_trip(tmp_path: Path) -> None:
    whole, split = tiny_classifier(tmp_path / "whole.onnx"), external(tmp_path / "split.onnx")
    model = Model.load(split)
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(whole).graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in model.proto().graph.initializer}
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert model.size_bytes == sum((tmp_path / n).stat().st_size for n in (split, "weights.bin"))
    images = np.ones((2, 3, 32, 32), np.float32)
    with Runner(model) as run, Runner(whole) as reference:
        np.testing.assert_array_equal(run(images), reference(images))
    assert inspect_model(model).kernels


def test_external_data_counts_for_the_sha256(tmp_path: Path) -> None:
    path = external(tmp_path / "m.onnx")
    model = Model.load(path)
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(data)
    assert Model.load(path).sha256 != model.sha256
    with pytest.raises(ModelError, match="changed while quantlab was reading it"):
        model.check_unchanged()


def moved(path: Path, location: str) -> Path:
    """A classifier whose first weight claims to be stored elsewhere."""
    proto = changed(path)
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return saved(proto, path)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "sub/../../secret"])
def test_external_data_stays_in_the_models_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 4096)
    (tmp_path / "in").mkdir()
    with pytest.raises(ModelError, match="points outside the model's folder"):
        Model.load(moved(tmp_path / "in" / "m.onnx", location))


def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x" * 4096)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="points outside the model's folder"):
        Model.load(moved(tmp_path / "in" / "m.onnx", "link"))


def test_weights_inside_attributes_stay_in_the_folder_too(tmp_path: Path) -> None:
    proto = changed(tmp_path / "m.onnx")
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [0.0])
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="../secret")
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=value)], "g", [], [])
    branches = {"then_branch": inner, "else_branch": inner}
    proto.graph.node.append(helper.make_node("If", ["input"], ["x"], **branches))
    with pytest.raises(ModelError, match="points outside"):
        Model.load(saved(proto, tmp_path / "m.onnx"))


def test_missing_and_truncated_external_data(tmp_path: Path) -> None:
    path = external(tmp_path / "m.onnx")
    os.truncate(tmp_path / "weights.bin", 100)
    with pytest.raises(ModelError, match="external data cannot be read"):
        Model.load(path).proto()
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"its external data file weights\.bin is missing"):
        Model.load(path)


def test_external_data_without_a_place(tmp_path: Path) -> None:
    proto = changed(tmp_path / "m.onnx")
    proto.graph.initializer[0].ClearField("raw_data")
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="external data cannot be read"):
        Model.load(saved(proto, tmp_path / "m.onnx")).proto()


def _short(t: onnx.TensorProto) -> None:
    t.raw_data = t.raw_data[:-4]


def _empty(t: onnx.TensorProto) -> None:
    t.ClearField("raw_data")


def _few_floats(t: onnx.TensorProto) -> None:
    t.ClearField("raw_data")
    t.float_data.extend([1.0, 2.0])


def _unknown_type(t: onnx.TensorProto) -> None:
    t.data_type = 99


def _negative(t: onnx.TensorProto) -> None:
    t.dims[0] = -1


@pytest.mark.parametrize("damage", [_short, _empty, _few_floats, _unknown_type, _negative])
def test_damaged_weights_are_named(tmp_path: Path, damage: Any) -> None:
    proto = changed(tmp_path / "m.onnx")
    damage(proto.graph.initializer[0])
    name = proto.graph.initializer[0].name
    with pytest.raises(ModelError, match=f"the weight {name} is incomplete"):
        Model.load(saved(proto, tmp_path / "m.onnx"))


def test_four_bit_weights_are_complete_at_half_a_byte_each(tmp_path: Path) -> None:
    proto = changed(tmp_path / "m.onnx")
    four = helper.make_tensor("four", TensorProto.INT4, [5], bytes(3), raw=True)
    proto.graph.initializer.append(four)
    Model.load(saved(proto, tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    "content", [b"", b"not a model", b"\x89PNG\r\n\x1a\n" + bytes(64), b"PK\x03\x04", bytes(1000)]
)
def test_other_files_are_not_models(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"not a(n ONNX model| readable ONNX file)"):
        Model.load(path)


def test_a_model_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = tiny_classifier(tmp_path / "m.onnx").read_bytes()
    cut = tmp_path / "cut.onnx"
    for keep in [*range(0, len(whole), 97), *range(len(whole) - 24, len(whole))]:
        cut.write_bytes(whole[:keep])
        with pytest.raises(ModelError):
            Model.load(cut)


def test_missing_files_folders_and_unreadable_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        Model.load(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is not a file"):
        Model.load(tmp_path)

    def forbidden(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    path = tiny_classifier(tmp_path / "m.onnx")
    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(ModelError, match="cannot be read: permission denied"):
        Model.load(path)


def test_the_two_gibibyte_bound(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ModelError, match="larger than 2 GiB"):
        Model.load(path)


def test_a_file_that_changes_or_goes_is_noticed(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx"))
    model.check_unchanged()
    tiny_classifier(tmp_path / "m.onnx", seed=1)
    with pytest.raises(ModelError, match="changed while quantlab was reading it"):
        model.check_unchanged()
    (tmp_path / "m.onnx").unlink()
    with pytest.raises(ModelError, match="no such model file"):
        model.check_unchanged()


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """Protobuf gives them as bytes, which nothing else expects."""
    path = tiny_classifier(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes().replace(b"fc.w", b"\xff\xfe.w"))
    with pytest.raises(ModelError, match="names that are not UTF-8"):
        Model.load(path)


@pytest.mark.parametrize("place", ["x" * 5000, "a\0b"])
def test_external_data_at_an_impossible_place(place: str, tmp_path: Path) -> None:
    path = tiny_classifier(tmp_path / "m.onnx")
    proto = onnx.load(path)
    weight = proto.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=place)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="has an impossible place"):
        Model.load(path)


def test_a_message_shows_no_more_of_a_name_than_a_line_can_hold(tmp_path: Path) -> None:
    path = tiny_classifier(tmp_path / "m.onnx")
    proto = onnx.load(path)
    proto.graph.initializer[0].name = "line\nbreak\x1b" + "x" * 10_000
    proto.graph.initializer[0].raw_data = b""
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"the weight line\?break\?x+… is incomplete") as error:
        Model.load(path)
    assert len(str(error.value)) < 500


def two_headed(path: Path, *, first: str) -> Path:
    """A tiny classifier that gives its features, a second head's probabilities, and its logits."""
    proto = changed(path, classes=4)
    graph = proto.graph
    gemm = next(n for n in graph.node if n.op_type == "Gemm")
    graph.node.append(helper.make_node("Softmax", ["output"], ["shares"], axis=1))
    graph.node.append(helper.make_node("Identity", [gemm.input[0]], ["features"]))
    shapes = {"features": ["N", 1, 1], "output": ["N", 4], "shares": ["N", 4]}
    names = [first, *(name for name in shapes if name != first)]
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None if n == "features" else shapes[n])
        for n in names
    )
    return saved(proto, path)


@pytest.mark.parametrize("first", ["features", "output"])
def test_of_several_outputs_the_first_of_classes_is_judged(first: str, tmp_path: Path) -> None:
    model = Model.load(two_headed(tmp_path / "m.onnx", first=first)).check_classifier()
    assert (model.judged.name, model.output_kind, model.num_classes) == ("output", "logits", 4)
    assert {o.name for o in model.proto().graph.output} == {"features", "output", "shares"}
    assert model.proto().graph.output[0].name == "output"
    assert (model.runnable == model.path) == (first == "output")
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    alone = Model.load(tiny_classifier(tmp_path / "alone.onnx", classes=4))
    with Runner(model) as run, Runner(alone) as expected:
        np.testing.assert_allclose(run(images), expected(images), rtol=1e-6)


def test_another_output_is_judged_by_its_name(tmp_path: Path) -> None:
    model = Model.load(two_headed(tmp_path / "m.onnx", first="features"))
    named = model.with_overrides(output_name="shares").check_classifier()
    assert (named.judged.name, named.output_kind) == ("shares", "probabilities")
    assert model.like(named).judged.name == "shares"
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with Runner(named) as run:
        np.testing.assert_allclose(run(images).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "words"),
    [("logits", "has no output called logits"), ("features", "not an image classifier")],
)
def test_an_output_that_is_not_there_or_has_no_classes(
    name: str, words: str, tmp_path: Path
) -> None:
    model = Model.load(two_headed(tmp_path / "m.onnx", first="output"))
    with pytest.raises(ModelError, match=words):
        model.with_overrides(output_name=name).check_classifier()
