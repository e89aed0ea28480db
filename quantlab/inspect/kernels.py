"""Which nodes ONNX Runtime runs in int8, which in fp32, and why."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import onnx
from onnx import TensorProto
from pydantic import BaseModel, ConfigDict

from quantlab.model import graph as g
from quantlab.model.large import load_weights
from quantlab.model.operands import operands
from quantlab.quantize.operators import operators
from quantlab.runtime.providers import CPU
from quantlab.runtime.session import Optimization, create_session

KernelKind = Literal["int8", "fp32", "quantize", "move"]
_QUANTIZERS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
_COMPUTING_MOVERS = {"MaxPool", "Resize"}
_MOVERS = {
    *operators("moves"), "Identity", "Shape", "Size", "Cast", "Pad", "ReorderInput",
    "ReorderOutput",
} - _COMPUTING_MOVERS  # fmt: skip
WITH_INT8_KERNEL = {
    *operators("weights"), *operators("follows"), *_COMPUTING_MOVERS, "FusedConv", "FusedGemm",
    "Softmax", "Relu", "Clip", "Where",
} - {"HardSigmoid"}  # fmt: skip
_LAYOUT = {"ReorderInput", "ReorderOutput", "Transpose"}
_INT8 = {TensorProto.INT8, TensorProto.UINT8}


class Kernel(BaseModel):
    """One node that ONNX Runtime runs.

    ``kind``: "int8" computes with 8-bit integers, "fp32" with floats, "quantize" converts between
    the two, "move" only moves data or works on shapes. ``reason`` says why a node is fp32.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    op_type: str
    kind: KernelKind
    reason: str = ""


def executed_graph(
    path: Path, *, optimization: Optimization = "all", providers: Sequence[str] = CPU
) -> onnx.ModelProto:
    """The graph as ONNX Runtime runs it at that level. Raises ModelError when it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "optimized.onnx"
        create_session(
            path,
            threads=1,
            providers=providers,
            optimization=optimization,
            optimized_path=target,
        )
        proto: onnx.ModelProto = onnx.load(target, load_external_data=False)
        load_weights(proto, target.parent)
        return proto


def list_kernels(
    graph: onnx.GraphProto, *, quantized: bool, optimization: str = "all"
) -> tuple[Kernel, ...]:
    """Every node of an executed graph with its kind; ``quantized`` is about the whole model."""
    facts = _Facts(graph, quantized, optimization)
    return tuple(facts.kernel(node) for node in graph.node)


class _Facts:
    """Facts that decide the kind of a node: tensor types, producer and consumers of each tensor."""

    def __init__(self, graph: onnx.GraphProto, quantized: bool, optimization: str) -> None:
        self.weights = g.initializers(graph)
        self.made_by, self.read_by = g.producers(graph), g.consumers(graph)
        self.outputs = {v.name for v in graph.output}
        self.types = tensor_types(graph)
        self.quantized, self.optimization = quantized, optimization

    def kernel(self, node: onnx.NodeProto) -> Kernel:
        kind = self._kind(node)
        reason = "; ".join(self._reasons(node)) if kind == "fp32" else ""
        return Kernel(name=plain_name(node.name), op_type=node.op_type, kind=kind, reason=reason)

    def _kind(self, node: onnx.NodeProto) -> KernelKind:
        types = [self.types.get(name) for name in (*node.input, *node.output) if name]
        return kernel_kind(node.op_type, types[0] if types else None)

    def _reasons(self, node: onnx.NodeProto) -> Iterator[str]:
        if not self.quantized:
            yield "the model is not quantized"
            return
        found = [*self._input_reasons(node), *self._output_reasons(node)]
        if node.op_type not in WITH_INT8_KERNEL:
            found.insert(0, f"ONNX Runtime has no int8 kernel for {node.op_type}")
        yield from found
        if not found:
            yield self._last_reason(node)

    def _last_reason(self, node: onnx.NodeProto) -> str:
        """For a node whose inputs and output are all quantized to 8 bits."""
        if self.optimization in ("disabled", "basic"):
            return f"optimization level {self.optimization} fuses no quantized node"
        types = {_type_name(self.types.get(name)) for name in self._quantized_around(node)}
        if len(types) > 1:
            return f"its input and output mix {' and '.join(sorted(types))}"
        bias = node.input[2] if len(node.input) > 2 else ""
        if bias in self.weights and _is_float(self.weights[bias].data_type):
            return f"its bias {bias} is not quantized"
        return "inputs and output are quantized, but ONNX Runtime did not fuse them"

    def _quantized_around(self, node: onnx.NodeProto) -> Iterator[str]:
        """The quantized activations that the node stands between."""
        for name in node.input:
            maker = self._maker(name)
            if maker is not None and maker.input[0] not in self.weights:
                yield maker.input[0]
        for name in node.output:
            yield from (reader.output[0] for reader in self._readers(name))

    def _maker(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a tensor, skipping nodes that only change its layout."""
        maker = self.made_by.get(name)
        moved = maker is not None and maker.op_type in _LAYOUT
        return self._maker(maker.input[0]) if maker is not None and moved else maker

    def _readers(self, name: str) -> Iterator[onnx.NodeProto]:
        """The nodes that read a tensor, skipping nodes that only change its layout."""
        for reader in self.read_by.get(name, []):
            if reader.op_type in _LAYOUT:
                yield from self._readers(reader.output[0])
            else:
                yield reader

    def _input_reasons(self, node: onnx.NodeProto) -> Iterator[str]:
        for position, name in enumerate(filter(None, node.input)):
            maker = self._maker(name)
            if maker is not None and maker.op_type == "DequantizeLinear":
                kind = self.types.get(maker.input[0])
                if kind not in (*_INT8, TensorProto.INT32):
                    yield f"{name} is {_type_name(kind)}, and the kernels are 8-bit"
            elif name not in self.weights:
                yield f"its input {plain_name(name)} is not quantized"
            elif position == 1 and _is_float(self.weights[name].data_type):
                yield "its weight is not quantized"

    def _output_reasons(self, node: onnx.NodeProto) -> Iterator[str]:
        for name in node.output:
            if name in self.outputs:
                yield f"its output {name} is the model's"
            readers = [r for r in self._readers(name) if r.op_type != "QuantizeLinear"]
            for reader in readers[:1]:
                yield f"its output goes unquantized to {plain_name(reader.name)} ({reader.op_type})"


def kernel_kind(op_type: str, data_type: int | None) -> KernelKind:
    """The kind of a node whose first input, or output without one, has that element type."""
    if op_type in _QUANTIZERS:
        return "quantize"
    if is_integer_op(op_type):
        return "int8"
    if op_type in _MOVERS or data_type == TensorProto.INT64:
        return "move"
    return "int8" if data_type in _INT8 else "fp32"


def tensor_types(graph: onnx.GraphProto) -> dict[str, int]:
    """The element type of each tensor, followed from inputs and weights through the nodes."""
    types = {t.name: t.data_type for t in graph.initializer}
    types |= {v.name: v.type.tensor_type.elem_type for v in graph.input}
    for node in graph.node:
        made = _output_type(node, types)
        types |= {name: made for name in node.output if name and made is not None}
    return types


def _output_type(node: onnx.NodeProto, types: dict[str, int]) -> int | None:
    if node.op_type == "Cast":
        return g.attribute(node, "to", 0)
    if node.op_type in ("Shape", "Size"):
        return TensorProto.INT64
    if node.op_type in ("DequantizeLinear", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"):
        return TensorProto.FLOAT
    own = [o for o in operands(node) if o.tensor == node.output[0]]
    if own:
        return types.get(own[0].zero_point, TensorProto.UINT8)
    if node.op_type == "QGemm":
        return TensorProto.FLOAT
    return types.get(node.input[0]) if node.input else None


def is_integer_op(op_type: str) -> bool:
    """Whether ONNX Runtime computes the operator with 8-bit integers."""
    return op_type.startswith(("QLinear", "QGemm", "QAttention")) or (
        "Integer" in op_type or op_type == "DynamicQuantizeMatMul"
    )


def plain_name(name: str) -> str:
    """A name without what ONNX Runtime's optimizations put at its end."""
    return re.sub(r"(_nchwc)?(_token_\d+)?$", "", name)


def _is_float(data_type: int) -> bool:
    return data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)


def _type_name(data_type: int | None) -> str:
    return TensorProto.DataType.Name(data_type).lower() if data_type else "of unknown type"
