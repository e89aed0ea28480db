"""Which share of a model's MACs is in int8, and why the rest is not: a static count over its graph.

In int8 are the integer operators (QLinearConv, ConvInteger, MatMulInteger, ...), and in QDQ form
those whose inputs come from DequantizeLinear, weights too, as far as ONNX Runtime makes integer
operators of them: a Conv only where QuantizeLinear of the same type follows, and 8 bits only.
What a machine makes of a graph beyond that is not followed: on x86 ONNX Runtime turns some signed
activations into unsigned ones, and then fuses less. ``kernels`` lists what really runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import onnx
from onnx import TensorProto

from quantlab.compare.comparison import LeftInFp32, Macs
from quantlab.inspect.kernels import WITH_INT8_KERNEL, kernel_kind, tensor_types
from quantlab.model import graph as g
from quantlab.model.kinds import ONNX_RUNTIME, RuntimeName

NOT_QUANTIZED = "the file is not quantized"
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_BOUNDS = ("Relu", "Clip")
"""What QuantizeLinear does anyway, so that nothing is left of them before it."""
_EIGHT_BITS = (TensorProto.INT8, TensorProto.UINT8)


def int8_share(
    graph: onnx.GraphProto,
    macs: Mapping[str, int],
    excluded: Mapping[str, str] | None = None,
    *,
    runtime: RuntimeName = ONNX_RUNTIME,
) -> Macs:
    """The share in int8, and by operator and reason what computes in fp32.

    ``macs`` are those of each node that has any, by its first output (``counts.node_macs``);
    ``excluded`` says of nodes by name why they were left in fp32 on purpose. ``runtime`` runs it:
    OpenVINO's integer kernels give fp32 as well, so that no QuantizeLinear has to follow them.
    """
    facts = _Facts(graph, excluded or {}, gives_floats=runtime != ONNX_RUNTIME)
    left: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for node in graph.node:
        if reason := facts.why_fp32(node):
            left[node.op_type, reason].append(macs.get(node.output[0], 0))
    count = sum(macs.values())
    fp32 = [
        LeftInFp32(op_type=op, nodes=len(of), share=sum(of) / max(count, 1), reason=reason)
        for (op, reason), of in left.items()
    ]
    in_fp32 = sum(map(sum, left.values()))
    return Macs(
        count=count,
        int8=1 - in_fp32 / count if count else 0.0,
        fp32=tuple(sorted(fp32, key=lambda x: (-x.share, -x.nodes, x.op_type))),
    )


class _Facts:
    """Facts of the graph: element types, constants, producer and consumers of each tensor."""

    def __init__(
        self, graph: onnx.GraphProto, excluded: Mapping[str, str], *, gives_floats: bool
    ) -> None:
        self.gives_floats = gives_floats
        self.made_by, self.read_by = g.producers(graph), g.consumers(graph)
        self.outputs = {v.name for v in graph.output}
        self.types = tensor_types(graph)
        self.excluded = excluded
        self.constants = set(g.initializers(graph))
        for node in graph.node:
            if self.constants.issuperset(g.node_reads(node)):
                self.constants.update(node.output)
        kinds = {self._kind(node) for node in graph.node}
        self.quantized = bool(kinds & {"int8", "quantize"})

    def why_fp32(self, node: onnx.NodeProto) -> str:
        """The reason, "" for a node that is in int8, converts, moves data or is constant."""
        constant = self.constants.issuperset(node.output)
        if self._kind(node) != "fp32" or constant or self._is_fused(node):
            return ""
        if reason := self.excluded.get(node.name):
            return reason
        return self._obstacle(node) if self.quantized else NOT_QUANTIZED

    def _kind(self, node: onnx.NodeProto) -> str:
        names = [name for name in (*node.input, *node.output) if name]
        return kernel_kind(node.op_type, self.types.get(names[0]) if names else None)

    def _is_fused(self, node: onnx.NodeProto) -> bool:
        """Whether the runtime makes an integer operator of it, or nothing."""
        after = self._type_after(node)
        if node.op_type in _BOUNDS and after in _EIGHT_BITS:
            return True
        if node.op_type not in WITH_INT8_KERNEL:
            return False
        before = [self._type_before(name) for name in self._data(node)]
        if not before or not all(kind in _EIGHT_BITS for kind in before):
            return False
        free = _PRODUCTS if self.gives_floats else ("Gemm", "MatMul")
        if node.op_type in free and after is None:
            return True
        return after == before[0]

    def _data(self, node: onnx.NodeProto) -> list[str]:
        """The inputs that have to be in int8: of products the weights too, elsewhere what is not
        constant."""
        if node.op_type in _PRODUCTS:
            return list(node.input[:2])
        return [name for name in node.input if name and name not in self.constants]

    def _type_before(self, name: str) -> int | None:
        """What a DequantizeLinear made the tensor of."""
        maker = self.made_by.get(name)
        dequantized = maker is not None and maker.op_type == "DequantizeLinear"
        return self.types.get(maker.input[0]) if maker is not None and dequantized else None

    def _type_after(self, node: onnx.NodeProto) -> int | None:
        """The type that QuantizeLinear makes of its output, if that is the only consumer."""
        name = node.output[0]
        readers = self.read_by.get(name, [])
        if name in self.outputs or not readers:
            return None
        if len(readers) == 1 and readers[0].op_type in _BOUNDS:
            return self._type_after(readers[0])
        quantizers = all(reader.op_type == "QuantizeLinear" for reader in readers)
        return self.types.get(readers[0].output[0]) if quantizers else None

    def _obstacle(self, node: onnx.NodeProto) -> str:
        if node.op_type not in WITH_INT8_KERNEL:
            return "no int8 kernel"
        if node.op_type in _PRODUCTS and node.input[1] not in self.constants:
            return "no constant weights"
        before = [self._type_before(name) for name in self._data(node)]
        if any(kind not in (*_EIGHT_BITS, None) for kind in before):
            return "no int8 kernel for these types"
        if node.output[0] in self.outputs:
            return "gives the model's output"
        if node.op_type in _PRODUCTS and None not in before:
            after = self._type_after(node)
            return "output not quantized" if after is None else "int8 and uint8 mixed around it"
        return "not quantized by the engine"
