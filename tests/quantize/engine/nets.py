"""Small networks around a middle part, and how near their int8 files come to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.inspect.kernels import executed_graph
from quantlab.model.model import Model
from quantlab.quantize.engine import QuantlabEngine
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner

SIZE = 16
CHANNELS_OF_MIDDLE = 8
Weights = dict[str, NDArray[Any]]
BOTH = pytest.mark.parametrize("form", ["qdq", "qoperator"])


class Images:
    """Noise, ``batch`` at a time."""

    def __init__(self, count: int = 12, batch: int = 4) -> None:
        shape = (count, 3, SIZE, SIZE)
        self.array = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        self.batch = batch

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        for i in range(0, len(self.array), self.batch):
            yield self.array[i : i + self.batch]


def floats(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return np.asarray(drawn * (2 / np.prod(shape[1:])) ** 0.5, np.float32)


def node(op: str, reads: str, makes: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, reads.split(), makes.split(), name=makes.split()[0], **attributes)


def conv(reads: str, makes: str, **attributes: Any) -> onnx.NodeProto:
    return node("Conv", reads, makes, pads=[1] * 4, **attributes)


def saved(
    folder: Path,
    nodes: list[onnx.NodeProto],
    weights: Weights,
    shape: tuple[int | str | None, ...] = ("N", 3, SIZE, SIZE),
) -> Model:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], 10])
    tensors = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "edge", [given], [made], tensors)
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "m.onnx")
    return Model.load(folder / "m.onnx")


def network(
    folder: Path,
    middle: list[onnx.NodeProto] | None = None,
    more: Weights | None = None,
    shape: tuple[int | str | None, ...] = ("N", 3, SIZE, SIZE),
) -> Model:
    """Conv, ReLU → ``a``; the middle, ``a`` → ``m``, [N, 8, h, w]; Conv, ReLU, pool, Gemm."""
    weights = {
        "w1": floats(8, 3, 3, 3),
        "b1": floats(8, 1)[:, 0] / 10,
        "w2": floats(8, 8, 3, 3, seed=1),
        "b2": floats(8, 1, seed=1)[:, 0] / 10,
        "fc": floats(10, 8, seed=2),
    }
    nodes = [
        *(conv("x w1 b1", "c1"), node("Relu", "c1", "a")),
        *(middle or [node("Identity", "a", "m")]),
        *(conv("m w2 b2", "c2"), node("Relu", "c2", "r2")),
        *(node("GlobalAveragePool", "r2", "p"), node("Flatten", "p", "f")),
        node("Gemm", "f fc", "y", transB=1),
    ]
    return saved(folder, nodes, weights | (more or {}), shape)


def quantize(model: Model, images: Images | None = None, **recipe: Any) -> onnx.ModelProto:
    return QuantlabEngine().quantize(model, Recipe(**recipe), images or Images())


def sqnr(model: Model, proto: onnx.ModelProto, images: NDArray[np.float32] | None = None) -> float:
    """In dB, of the answers to fresh images or to these."""
    if images is None:
        shape = (8, 3, SIZE, SIZE)
        images = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    with Runner(model) as fp32, Runner(proto) as int8:
        expected, found = fp32(images), int8(images)
    assert np.isfinite(found).all()
    error = float(((expected - found) ** 2).sum())
    return float(10 * np.log10(float((expected**2).sum()) / max(error, 1e-30)))


def ops(proto: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in proto.graph.node]


def executed(proto: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime runs."""
    (folder / "int8.onnx").write_bytes(proto.SerializeToString())
    return Counter(ops(executed_graph(folder / "int8.onnx")))
