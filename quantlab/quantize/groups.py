"""Groups: the nodes that one int8 kernel computes together, so that they are reverted together."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

COMPUTE = ("Conv", "Gemm", "MatMul")
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "PRelu")


@dataclass(frozen=True)
class Group:
    """A convolution or matrix product with its activation and the residual addition after it.

    ``nodes`` are names in the prepared graph, as a recipe's ``exclude`` wants them.
    """

    kind: str
    nodes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its first node."""
        return self.nodes[0]


def kernel_groups(prepared: onnx.ModelProto) -> tuple[Group, ...]:
    """The groups of a prepared graph, in the order of its nodes."""
    graph = prepared.graph
    weights = {tensor.name for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    taken: set[str] = set()
    groups = []
    for node in graph.node:
        if node.op_type in COMPUTE and any(name in weights for name in node.input):
            members = [m for m in _chain(node, readers) if m not in taken]
            taken.update(members)
            groups.append(Group(node.op_type, tuple(members)))
    return tuple(groups)


def _chain(node: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]]) -> list[str]:
    names = [node.name]
    for kinds in (_ACTIVATIONS, ("Add",), _ACTIVATIONS):
        following = readers.get(node.output[0], [])
        if len(following) == 1 and following[0].op_type in kinds:
            node = following[0]
            names.append(node.name)
    return names
