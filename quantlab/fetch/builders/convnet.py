"""A small writer of ONNX image classifiers from PyTorch weights, batch norm folded as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.errors import FetchError

State = Mapping[str, NDArray[Any]]
Array32 = NDArray[np.float32]
Pads = tuple[int, int]
"""Rows and columns added before and after: (begin, end), the same in both directions."""

# Readable by ONNX Runtime 1.6 and later.
_IR_VERSION = 7


class BatchNorm(NamedTuple):
    """gamma (y - mean) / sqrt(variance + epsilon) + beta, each [channels]."""

    gamma: NDArray[Any]
    beta: NDArray[Any]
    mean: NDArray[Any]
    variance: NDArray[Any]


def fold_batch_norm(
    weight: NDArray[Any], norm: BatchNorm, epsilon: float
) -> tuple[Array32, Array32]:
    """Weight [out, in, kh, kw] and bias [out] of the Conv that equals Conv then BatchNorm.

    Computed in float64, where every step is exactly rounded: the same bytes on every machine.
    """
    gamma, beta, mean, variance = (part.astype(np.float64) for part in norm)
    scale = gamma / np.sqrt(variance + epsilon)
    folded = weight.astype(np.float64) * scale[:, None, None, None]
    bias = beta - mean * scale
    return folded.astype(np.float32), bias.astype(np.float32)


class ConvNet:
    """Collects the nodes of one classifier; each method adds a layer and returns its output's name.

    Every method raises FetchError when the state dict lacks the layer or has it in another shape.
    """

    def __init__(self, state: State, *, epsilon: float) -> None:
        self._state = dict(state)
        self._epsilon = epsilon
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, NDArray[Any]] = {}

    def conv(
        self, x: str, layer: str, norm: str, shape: tuple[int, int, int, int],
        *, stride: int = 1, pads: Pads = (0, 0), groups: int = 1, relu6: bool = True,
    ) -> str:  # fmt: skip
        """Conv with its batch norm folded in, then ReLU6 if asked. ``shape``: the weight's."""
        weight, bias = fold_batch_norm(
            self._take(f"{layer}.weight", shape), self._norm(norm, shape[0]), self._epsilon
        )
        names = self._weight(f"{layer}.weight", weight), self._weight(f"{layer}.bias", bias)
        y = self._add(
            "Conv", layer, [x, *names], dilations=[1, 1], group=groups,
            kernel_shape=shape[2:], pads=[pads[0]] * 2 + [pads[1]] * 2, strides=[stride] * 2,
        )  # fmt: skip
        return self._relu6(y, f"{layer}.relu6") if relu6 else y

    def add(self, a: str, b: str, name: str) -> str:
        """The sum of two branches."""
        return self._add("Add", name, [a, b])

    def classifier(self, x: str, layer: str, channels: int, classes: int) -> None:
        """Global average pool, then the fully connected layer: the graph's ``output``, logits."""
        weight = self._weight(f"{layer}.weight", self._take(f"{layer}.weight", (classes, channels)))
        bias = self._weight(f"{layer}.bias", self._take(f"{layer}.bias", (classes,)))
        pooled = self._add("GlobalAveragePool", f"{layer}.pool", [x])
        flat = self._add("Flatten", f"{layer}.flatten", [pooled], axis=1)
        self._add("Gemm", layer, [flat, weight, bias], output="output", transB=1)

    def model(self, name: str, *, opset: int, size: int, classes: int) -> onnx.ModelProto:
        """The checked model: ``input`` [batch, 3, size, size] to ``output`` [batch, classes].

        Raises FetchError when the state dict holds weights that no layer took.
        """
        left = sorted(k for k in self._state if not k.endswith(".num_batches_tracked"))
        if left:
            raise FetchError(f"the weights hold layers that {name} has not: {', '.join(left[:5])}")
        graph = helper.make_graph(
            self._nodes,
            name,
            [_value("input", ["batch_size", 3, size, size])],
            [_value("output", ["batch_size", classes])],
            [numpy_helper.from_array(a, n) for n, a in self._weights.items()],
        )
        opsets = [helper.make_opsetid("", opset)]
        proto = helper.make_model(
            graph, producer_name="quantlab", opset_imports=opsets, ir_version=_IR_VERSION
        )
        onnx.checker.check_model(proto, full_check=True)
        return proto

    def _take(self, key: str, shape: tuple[int, ...]) -> NDArray[Any]:
        array = self._state.pop(key, None)
        if array is None or array.shape != shape or array.dtype != np.float32:
            found = "is missing" if array is None else f"is {array.dtype} {list(array.shape)}"
            raise FetchError(f"the weight {key} {found}, expected float32 {list(shape)}")
        return array

    def _norm(self, name: str, channels: int) -> BatchNorm:
        return BatchNorm(*(self._take(f"{name}.{part}", (channels,)) for part in _NORM_PARTS))

    def _weight(self, name: str, array: NDArray[Any]) -> str:
        self._weights[name] = array
        return name

    def _relu6(self, x: str, name: str) -> str:
        low = self._weight("zero", np.array(0, np.float32))
        high = self._weight("six", np.array(6, np.float32))
        return self._add("Clip", name, [x, low, high])

    def _add(
        self, op: str, name: str, inputs: list[str], *, output: str | None = None, **attributes: Any
    ) -> str:
        output = output or f"{name}.output"
        self._nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output


_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def _value(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
