"""How a model takes images and what it gives: the values that are detected, or named by options."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

Layout = Literal["NCHW", "NHWC"]
OutputKind = Literal["logits", "probabilities"]
RuntimeName = Literal["onnxruntime", "openvino"]
"""What runs a model."""
RangeMethod = Literal["minmax", "mean", "moving-average", "percentile", "entropy", "mse"]
ActivationType = Literal["u8", "s8", "u16", "s16", "dynamic"]
FileFormat = Literal["qdq", "qoperator"]
ONNX_RUNTIME: RuntimeName = "onnxruntime"
OPENVINO: RuntimeName = "openvino"


@dataclass(frozen=True)
class TensorInfo:
    """A graph input or output. ``shape`` holds None where the dimension is symbolic."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def with_runtime(text: str) -> tuple[str, RuntimeName | None]:
    """``model.onnx`` and ``openvino`` of ``model.onnx@openvino``; None where none is named."""
    model, _, name = text.rpartition("@")
    for runtime in get_args(RuntimeName):
        if model and name == runtime:
            return model, runtime
    return text, None


_SOFTMAX = {"Softmax", "QLinearSoftmax", "SoftMax"}
"""LogSoftmax is none: logarithms of probabilities are logits."""
_SIGMOID = {"Sigmoid", "QLinearSigmoid"}
_PASS_THROUGH = {
    "Squeeze",
    "Unsqueeze",
    "Reshape",
    "Flatten",
    "Identity",
    "Cast",
    "QuantizeLinear",
    "DequantizeLinear",
}


def output_kinds(graph: onnx.GraphProto) -> tuple[OutputKind, ...]:
    """What each output gives, found by walking back over shape-only nodes: probabilities where a
    Softmax made it, or of one number an image a Sigmoid."""
    made_by = {
        name: (node.op_type, node.input[0] if node.input else "")
        for node in graph.node
        for name in node.output
    }
    return tuple(
        kind_of(output.name, len(dims) == 2 and dims[1].dim_value == 1, made_by, _PASS_THROUGH)
        for output in graph.output
        for dims in [output.type.tensor_type.shape.dim]
    )


def kind_of(
    name: str, single: bool, made_by: Mapping[str, tuple[str, str]], passing: Collection[str]
) -> OutputKind:
    """What the tensor of this name gives; ``single``: one number an image. ``made_by`` has of every
    tensor its operator and that one's first input, ``passing`` are the operators to walk over."""
    makers = _SOFTMAX | _SIGMOID if single else _SOFTMAX
    operator, before = made_by.get(name, ("", ""))
    for _ in made_by:  # a damaged graph may go round
        if operator not in passing:
            break
        operator, before = made_by.get(before, ("", ""))
    return "probabilities" if operator in makers else "logits"


def of_two_classes(answers: NDArray[np.float32], kind: OutputKind) -> NDArray[np.float32]:
    """Answers of one number an image as those of two classes [n, 2]; others as they are.

    A probability p becomes 1 − p and p. Of a logit x, p is sigmoid(x), and its logits are 0 and x.
    """
    if answers.shape[1] != 1:
        return answers
    import numpy as np  # options name the kinds: help loads no numpy

    first = 1 - answers if kind == "probabilities" else np.zeros_like(answers)
    return np.concatenate([first, answers], axis=1)
