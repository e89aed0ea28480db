"""Stored test data: found, read within bounds, compared as onnx's backend tests compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from quantlab.errors import DataError, ModelError
from quantlab.inspect import stored
from quantlab.inspect.stored import ATOL, RTOL, check_stored, compare_outputs, read_tensor
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier

Store = Callable[..., Path]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


@pytest.fixture
def store(model: Model, tmp_path: Path) -> Store:
    """``store("set", change)``: a set whose outputs are the model's, changed by a function."""

    def make(name: str, change: Callable[..., np.ndarray] = lambda y: y, n: int = 2) -> Path:  # type: ignore[type-arg]
        folder = tmp_path / "stored" / name
        folder.mkdir(parents=True)
        images = np.random.default_rng(n).standard_normal((n, 3, 32, 32)).astype(np.float32)
        with Runner(model, threads=1) as run:
            outputs = run(images)
        for file, array in (("input_0.pb", images), ("output_0.pb", change(outputs))):
            (folder / file).write_bytes(numpy_helper.from_array(array).SerializeToString())
        return folder

    return make


def test_the_models_own_outputs_pass(model: Model, store: Store) -> None:
    found = check_stored(model, store("test_data_set_0"))
    (one,) = found.sets
    assert found.passed
    assert (one.name, one.images, one.values, one.beyond) == ("test_data_set_0", 2, 20, 0)
    assert (one.largest, one.relative, one.agreeing) == (0.0, 0.0, 2)


def test_all_sets_of_a_folder_must_pass(model: Model, store: Store) -> None:
    store("test_data_set_0")
    folder = store("test_data_set_1", lambda y: y * 1.01, n=3).parent
    found = check_stored(model, folder)
    assert [(x.name, x.passed) for x in found.sets] == [
        ("test_data_set_0", True),
        ("test_data_set_1", False),
    ]
    assert not found.passed
    assert found.sets[1].relative == pytest.approx(0.01 / 1.01, rel=1e-3)


def test_outputs_of_any_shape_of_that_size(model: Model, store: Store) -> None:
    assert check_stored(model, store("a", lambda y: y.reshape(2, 10, 1, 1))).passed


def test_one_number_an_image(tmp_path: Path, store: Store) -> None:
    folder = store("a", lambda y: y[:, :1])
    proto = onnx.load(tmp_path / "m.onnx")
    for tensor in proto.graph.initializer:
        if tensor.name in ("fc.w", "fc.b"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:1], tensor.name))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(proto, tmp_path / "one.onnx")
    assert check_stored(Model.load(tmp_path / "one.onnx"), folder).passed


@pytest.mark.parametrize("factor", [0.5, 0.99, 1.01, 1.5])
def test_the_tolerance_is_that_of_numpys_testing(factor: float) -> None:
    rng = np.random.default_rng(0)
    wanted = rng.standard_normal((3, 50)).astype(np.float32)
    made = wanted.copy()
    made[1, 7] += factor * (ATOL + RTOL * abs(wanted[1, 7]))
    found = compare_outputs("x", made, wanted)
    assert found.passed is (factor < 1)
    if found.passed:
        np.testing.assert_allclose(made, wanted, rtol=RTOL, atol=ATOL)
    else:
        with pytest.raises(AssertionError):
            np.testing.assert_allclose(made, wanted, rtol=RTOL, atol=ATOL)
    assert found.largest == pytest.approx(float(np.abs(made - wanted).max()), rel=1e-3)


def test_values_that_are_not_finite() -> None:
    wanted = np.array([[np.nan, np.inf, 0.0, 2.0]], np.float32)
    assert compare_outputs("x", wanted.copy(), wanted).passed
    made = np.array([[1.0, np.inf, 0.5, np.nan]], np.float32)
    found = compare_outputs("x", made, wanted)
    assert (found.beyond, found.largest, found.relative) == (3, 0.5, 0.0)


def test_agreement_counts_first_answers() -> None:
    wanted = np.eye(3, 4, dtype=np.float32)
    made = wanted.copy()
    made[1] = [9, 0, 0, 0]
    assert compare_outputs("x", made, wanted).agreeing == 2


def test_a_folder_without_sets(model: Model, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no test data"):
        check_stored(model, tmp_path / "empty")


def proto(**fields: object) -> bytes:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[1])
    for name, value in fields.items():
        if isinstance(value, list):
            del getattr(tensor, name)[:]
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return bytes(tensor.SerializeToString())


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xff not a protobuf",
        b"",
        proto(raw_data=b"\0\0"),
        proto(raw_data=b"\0" * 4, dims=[2**40]),
        proto(raw_data=b"\0" * 4, data_type=999),
        proto(data_type=TensorProto.STRING, string_data=[b"text"]),
        proto(data_location=TensorProto.EXTERNAL),
        proto(raw_data=b"", dims=[0]),
    ],
)
def test_damaged_tensors_are_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tensor.pb"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"tensor\.pb"):
        read_tensor(path)


def test_large_and_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tensor.pb"
    with pytest.raises(DataError, match="no such file"):
        read_tensor(path)
    path.write_bytes(bytes(numpy_helper.from_array(np.ones(4, np.float32)).SerializeToString()))
    assert read_tensor(path).tolist() == [1, 1, 1, 1]
    monkeypatch.setattr(stored, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="larger than"):
        read_tensor(path)


def test_data_of_another_model(model: Model, store: Store, tmp_path: Path) -> None:
    bytes_model = Model.load(tiny_classifier(tmp_path / "bytes.onnx", dtype="uint8"))
    folder = store("a")
    with pytest.raises(DataError, match=r"holds float32 of shape \[2, 3, 32, 32\]"):
        check_stored(bytes_model, folder)
    with pytest.raises(DataError, match=r"holds 20 values, other\.onnx gives 8"):
        check_stored(Model.load(tiny_classifier(tmp_path / "other.onnx", classes=4)), folder)
    with pytest.raises(ModelError, match="cannot run the model on this batch"):
        check_stored(Model.load(tiny_classifier(tmp_path / "s.onnx", size=48)), folder)
    (folder / "input_1.pb").write_bytes(onnx.TensorProto().SerializeToString())
    with pytest.raises(DataError, match="several inputs"):
        check_stored(model, folder)
