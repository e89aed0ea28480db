"""Which uploads may be used."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hostile_children import LIMITS
from onnx import TensorProto, helper, numpy_helper

from quantlab.errors import ModelError, QuantlabError
from quantlab.model.model import Model
from quantlab.serve.checks import FOLDER, ModelFacts, check_upload
from quantlab.serve.packed import Bounds, plain_name, unpack
from quantlab.serve.process import run_task
from quantlab.testing.models import tiny_classifier

BOUNDS = Bounds()


def upload(path: Path, change: Callable[[onnx.ModelProto], object] = lambda proto: None) -> Path:
    """A small classifier, changed."""
    proto = onnx.load(tiny_classifier(path, classes=4))
    change(proto)
    path.write_bytes(proto.SerializeToString())
    return path


def archive(path: Path, members: dict[str, bytes], **facts: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            for key, value in facts.items():
                setattr(member, key, value)
            file.writestr(member, content)
    return path


def refused(file: Path, folder: Path, match: str, **bounds: Any) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        check_upload(file, folder, Bounds(**bounds))
    assert len(str(caught.value).splitlines()) <= 2


def test_the_facts_of_a_model(tmp_path: Path) -> None:
    file = upload(tmp_path / "m.onnx")
    facts = check_upload(file, tmp_path, BOUNDS)
    model = Model.load(file)
    assert facts == ModelFacts(
        files=("model.onnx",),
        sha256=model.sha256,
        size_bytes=file.stat().st_size,
        opset=13,
        input_name="input",
        input_type="float32",
        input_shape=(None, 3, 32, 32),
        classes=4,
        output_kind="logits",
        quantized=False,
        operators=dict(model.op_census),
    )
    assert (tmp_path / FOLDER / "model.onnx").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"layout": "NHWC", "dtype": "uint8"}, {"input_type": "uint8"}),
        ({"softmax": True}, {"output_kind": "probabilities"}),
        ({"batch": 2}, {"input_shape": (2, 3, 32, 32)}),
        ({"opset": 7, "batch_norm": True}, {"opset": 7}),
    ],
    ids=str,
)
def test_models_of_many_kinds(
    options: dict[str, Any], wanted: dict[str, Any], tmp_path: Path
) -> None:
    facts = check_upload(tiny_classifier(tmp_path / "m.onnx", **options), tmp_path, BOUNDS)
    assert wanted.items() <= facts.model_dump().items()


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv2-12", "mobilenetv2-12-int8", "shufflenet-v2-12-int8", "mobilenetv1-tf",
        "squeezenet1.1-caffe", "st-mobilenetv2-int8-nhwc-uint8",
    ],
)  # fmt: skip
def test_real_models_pass_in_a_confined_child(name: str, data_root: Path, tmp_path: Path) -> None:
    file = data_root / "models" / f"{name}.onnx"
    task = {"task": "check", "file": str(file), "bounds": BOUNDS.model_dump(mode="json")}
    facts = ModelFacts.model_validate(run_task(task, tmp_path, LIMITS, read=[file], required=False))
    assert facts.classes == 1000
    assert facts.quantized == ("int8" in name)
    assert facts.sha256 == Model.load(file).sha256


def test_a_childs_refusal_names_no_place_of_the_server(tmp_path: Path) -> None:
    file = tmp_path / "upload"
    file.write_bytes(b"no model")
    task = {"task": "check", "file": str(file), "bounds": BOUNDS.model_dump(mode="json")}
    with pytest.raises(QuantlabError, match="not a readable ONNX file") as caught:
        run_task(task, tmp_path, LIMITS, read=[file], required=False)
    assert str(tmp_path) not in str(caught.value)


def node(op: str, domain: str = "", **attributes: Any) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        made = helper.make_node(op, ["logits_"], ["output"], domain=domain, **attributes)
        proto.graph.node[-1].output[0] = "logits_"
        proto.graph.node.append(made)

    return change


def nested(depth: int) -> Callable[[onnx.ModelProto], None]:
    """If in If in If."""

    def change(proto: onnx.ModelProto) -> None:
        inner = helper.make_graph(
            [helper.make_node("Identity", ["output"], ["x"])], "g", [], [_value("x")]
        )
        for level in range(depth):
            made = helper.make_node(
                "If", ["yes"], [f"x{level}"], then_branch=inner, else_branch=inner
            )
            inner = helper.make_graph([made], f"g{level}", [], [_value(f"x{level}")])
        proto.graph.node.append(inner.node[0])
        proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))

    return change


def _value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def sized(*dims: int) -> Callable[[onnx.ModelProto], None]:
    """A value between operators of this shape."""
    return lambda proto: proto.graph.value_info.append(
        helper.make_tensor_value_info("fc.b", TensorProto.FLOAT, dims)
    )


def bomb(proto: onnx.ModelProto) -> None:
    """Functions that call one another twice, forty deep."""
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    for i in range(40):
        inner = f"F{i + 1}" if i < 39 else "Gelu"
        nodes = [
            helper.make_node(inner, [reads], [makes], domain="com.microsoft")
            for reads, makes in (("x", "t"), ("t", "y"))
        ]
        made = helper.make_function("com.microsoft", f"F{i}", ["x"], ["y"], nodes, opsets)
        proto.functions.append(made)
    proto.opset_import.append(opsets[1])
    proto.graph.node.append(helper.make_node("F0", ["output"], ["z"], domain="com.microsoft"))


def external(location: str) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def sparse(proto: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10**12]))


def function(proto: onnx.ModelProto) -> None:
    inner = helper.make_node("Anything", ["a"], ["b"], domain="evil")
    opsets = [helper.make_opsetid("", 13)]
    proto.functions.append(helper.make_function("ai.onnx.ml", "f", ["a"], ["b"], [inner], opsets))


def training(proto: onnx.ModelProto) -> None:
    proto.training_info.add().algorithm.node.append(helper.make_node("Add", [], []))


def high_opset(proto: onnx.ModelProto) -> None:
    proto.opset_import.add(domain="ai.onnx.ml", version=10**9)


def long_name(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].name = "x" * 10**6


def wrong_attribute(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].attribute.append(helper.make_attribute("nonsense", 1))


def two_inputs(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(_value("other"))


def promise_more(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (node("Evil", "evil"), "Evil is of the domain evil"),
        (node("Evil", "x" * 1000), "of the domain x{200}…"),
        (node("Evil", "a\nb\x1b[31m"), r"of the domain a\?b\?\[31m"),
        (node("Loop"), "has a Loop"),
        (node("NoSuch"), "not valid ONNX"),
        (node("NoSuch", "com.microsoft"), "not valid ONNX"),
        (function, "Anything is of the domain evil"),
        (training, "training graph"),
        (high_opset, "an opset above"),
        (long_name, "a name has more than"),
        (nested(12), "more than 8 deep"),
        (bomb, "unfold to more than"),
        (sized(2**40), "impossible or too large"),
        (sized(2**62, 2**62), "impossible or too large"),
        (sized(*[1] * 9), "impossible or too large"),
        (sparse, "sparse tensors"),
        (external("../../../etc/passwd"), "points outside"),
        (external("/etc/passwd"), "points outside"),
        (external("absent.bin"), "is missing"),
        (external("model.onnx/../x"), "is missing|not in the upload"),
        (wrong_attribute, "not valid ONNX"),
        (two_inputs, "not valid ONNX|one input"),
        (promise_more, "cannot load|promises 7"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused(
    change: Callable[[onnx.ModelProto], object], match: str, tmp_path: Path
) -> None:
    refused(upload(tmp_path / "m.onnx", change), tmp_path, match)


def test_bounds_can_be_set(tmp_path: Path) -> None:
    file = upload(tmp_path / "m.onnx")
    for number, (bounds, match) in enumerate(
        [
            ({"max_bytes": 100}, "more than 0 MB"),
            ({"max_elements": 100}, "too large shape"),
            ({"max_dimensions": 2}, "too large shape"),
            ({"max_nodes": 3}, "more than 3 nodes"),
            ({"max_opset": 12}, "opset above 12"),
            ({"domains": ("com.microsoft",)}, "let through: com.microsoft"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        refused(file, folder, match, **bounds)


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"PK\x03\x04", b"PK\x03\x04" + b"\0" * 100, b"\x08" * 99, b"\xff" * 99]
)
def test_what_is_no_model(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "upload"
    file.write_bytes(content)
    refused(file, tmp_path, "not a readable ONNX file|not an ONNX model|damaged zip")


def with_data(tmp_path: Path, location: str = "weights/all.bin") -> dict[str, bytes]:
    """A model and its external data, as files by name."""
    place = tmp_path / "made"
    (place / location).parent.mkdir(parents=True)
    proto = onnx.load(tiny_classifier(place / "net.onnx", classes=4))
    onnx.save(proto, place / "net.onnx", save_as_external_data=True, location=location,
              size_threshold=0)  # fmt: skip
    return {name: (place / name).read_bytes() for name in ("net.onnx", location)}


@pytest.mark.parametrize("inside", ["", "folder/"])
def test_a_zip_of_a_model_and_its_data(inside: str, tmp_path: Path) -> None:
    members = {inside + name: content for name, content in with_data(tmp_path).items()}
    file = archive(tmp_path / "upload", members)
    facts = check_upload(file, tmp_path, BOUNDS)
    assert facts.files == (f"{inside}net.onnx", f"{inside}weights/all.bin")
    assert facts.sha256 == Model.load(tmp_path / FOLDER / facts.files[0]).sha256


@pytest.mark.parametrize(
    "name",
    ["../m.onnx", "/m.onnx", "a/../../m.onnx", "..\\m.onnx", "C:m.onnx", "a\nb.onnx", "/", "a\0b"],
)
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    assert not plain_name(name)
    if "\0" in name or name == "/":
        return  # zipfile cuts the one, and takes the other for a folder
    refused(archive(tmp_path / "upload", {name: b"x"}), tmp_path, "leads out")
    assert [p.name for p in tmp_path.iterdir()] == ["upload", FOLDER] or not any(
        (tmp_path / FOLDER).iterdir()
    )


def test_a_member_without_a_name(tmp_path: Path) -> None:
    refused(archive(tmp_path / "upload", {"": b"x"}), tmp_path, "leads out")


def test_plain_names() -> None:
    assert all(map(plain_name, ["m.onnx", "a/b.bin", "a b.onnx", "größe.onnx", "..a", "a./b"]))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(kind: int, tmp_path: Path) -> None:
    members = {"m.onnx": b"/etc/passwd"}
    file = archive(tmp_path / "upload", members, external_attr=(kind | 0o777) << 16)
    refused(file, tmp_path, "a link or an encrypted file")


def test_zips_of_too_much(tmp_path: Path) -> None:
    def folder() -> Path:
        made = tmp_path / str(len(list(tmp_path.iterdir())))
        made.mkdir()
        return made

    bomb = archive(tmp_path / "bomb", {"m.onnx": bytes(10**7)})
    assert bomb.stat().st_size < 20_000
    refused(bomb, folder(), "more than 1 MB", max_bytes=10**6)
    many = archive(tmp_path / "many", {f"{n}.onnx": b"" for n in range(9)})
    refused(many, folder(), "more than 8 files", max_files=8)
    refused(archive(tmp_path / "two", {"a.onnx": b"", "b.onnx": b""}), folder(), "2 .onnx files")
    refused(archive(tmp_path / "none", {"a.bin": b""}), folder(), "0 .onnx files")
    clash = archive(tmp_path / "clash", {"a": b"", "a/b.onnx": b""})
    refused(clash, folder(), "cannot be unpacked")


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    """The directory promises one byte; the member unpacks to ten million."""
    file = archive(tmp_path / "upload", {"m.onnx": bytes(10**7)})
    data = bytearray(file.read_bytes())
    size = (10**7).to_bytes(4, "little")
    place = data.find(size)
    while place >= 0:
        data[place : place + 4] = (1).to_bytes(4, "little")
        place = data.find(size)
    file.write_bytes(data)
    refused(file, tmp_path, "damaged zip|more than 1 MB", max_bytes=10**6)
    assert sum(p.stat().st_size for p in (tmp_path / FOLDER).rglob("*")) <= 10**6


def test_two_members_of_one_name(tmp_path: Path) -> None:
    file = archive(tmp_path / "upload", {"a.onnx": b"a", "b.onnx": b"b"})
    file.write_bytes(file.read_bytes().replace(b"a.onnx", b"b.onnx"))
    refused(file, tmp_path, "two files of one name")


def test_an_encrypted_zip(tmp_path: Path) -> None:
    data = bytearray(archive(tmp_path / "upload", {"m.onnx": b"a"}).read_bytes())
    for marker in (b"PK\x03\x04", b"PK\x01\x02"):
        flags = data.find(marker) + (6 if marker.endswith(b"\x04") else 8)
        data[flags] |= 1
    (tmp_path / "upload").write_bytes(data)
    refused(tmp_path / "upload", tmp_path, "encrypted")


def test_unpacking_writes_nothing_of_a_refused_zip(tmp_path: Path) -> None:
    folder = tmp_path / "into"
    folder.mkdir()
    members = ("fine.onnx", "../bad")
    with pytest.raises(ModelError):
        unpack(archive(tmp_path / "upload", dict.fromkeys(members, b"")), folder, BOUNDS)
    assert list(folder.iterdir()) == []


def test_a_bomb_inside_a_graph_ends_at_the_memory_limit(tmp_path: Path) -> None:
    """Shapes that are computed are known to nobody before: the limit of the child holds."""

    def bomb(proto: onnx.ModelProto) -> None:
        shape = np.array([10**6, 10**4], np.int64)
        proto.graph.initializer.append(numpy_helper.from_array(shape, "shape"))
        last = proto.graph.node[-1]
        last.output[0] = "logits_"
        proto.graph.node.extend(
            [
                helper.make_node("ConstantOfShape", ["shape"], ["large"]),
                helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
                helper.make_node("Add", ["logits_", "sum"], ["output"]),
            ]
        )

    file = upload(tmp_path / "m.onnx", bomb)
    task = {"task": "check", "file": str(file), "bounds": BOUNDS.model_dump(mode="json")}
    with pytest.raises(QuantlabError, match=r"memory|alloc"):
        run_task(task, tmp_path, LIMITS, read=[file], required=False)


@pytest.mark.parametrize("size", [-1, 0])
def test_a_batch_that_is_free_is_let_through(tmp_path: Path, size: int) -> None:
    """As paddle2onnx and MindSpore write it."""

    def change(proto: onnx.ModelProto) -> None:
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = size

    path = upload(tmp_path / "m.onnx", change)
    assert check_upload(path, tmp_path, BOUNDS).input_shape[0] is None


def test_a_grey_model_is_let_through(tmp_path: Path) -> None:
    path = tiny_classifier(tmp_path / "m.onnx", channels=1)
    assert check_upload(path, tmp_path, BOUNDS).input_shape[1] == 1
