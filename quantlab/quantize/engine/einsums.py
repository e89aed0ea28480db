"""An Einsum of two tensors that is a matrix product becomes a MatMul, or a convolution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from quantlab.model import graph as g
from quantlab.quantize.rewriting import Rewriting

_Shapes = Mapping[str, tuple[g.Dim, ...]]


def einsums_as_matmuls(graph: onnx.GraphProto, shapes: _Shapes) -> None:
    """In place. A product over an image's channels, with constant weights, becomes a 1×1 Conv; any
    other MatMul between what Transposes and Reshapes it needs. Sums over one tensor's own axes,
    diagonals and outer products stay, and so does what would need more than one unknown size."""
    rewriting = Rewriting(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        made = None
        if g.is_standard(node, "Einsum") and len(node.input) == 2:
            made = _replaced(node, rewriting, shapes)
        nodes += [node] if made is None else made
    g.set_nodes(graph, nodes)


@dataclass(frozen=True)
class _Product:
    """Letters of the axes: of the tensors, of the result, and of both by what they are for."""

    first: str
    second: str
    result: str
    batch: str
    left: str
    right: str
    summed: str


def _replaced(
    node: onnx.NodeProto, rewriting: Rewriting, shapes: _Shapes
) -> list[onnx.NodeProto] | None:
    ranks = [len(shapes[n]) if n in shapes else -1 for n in node.input]
    product = _product(g.attribute(node, "equation", ""), ranks)
    if product is None:
        return None
    names = list(node.input)
    if names[0] in rewriting.weights:
        names.reverse()
        product = _Product(
            product.second, product.first, product.result,
            product.batch, product.right, product.left, product.summed,
        )  # fmt: skip
    if names[0] in rewriting.weights:
        return None
    building = _Building(node, product, names, rewriting, shapes)
    return building.convolution() or building.matmul()


def _product(equation: str, ranks: list[int]) -> _Product | None:
    terms, arrow, result = equation.replace(" ", "").partition("->")
    both = terms.split(",")
    if not arrow or len(both) != 2 or min(ranks) < 0:
        return None
    widths = [rank - len(t.replace("...", "")) for t, rank in zip(both, ranks, strict=True)]
    spread = "0123456789"[: max(widths)] if any("..." in t for t in both) else ""
    both = [t.replace("...", spread[len(spread) - w :]) for t, w in zip(both, widths, strict=True)]
    first, second, result = *both, result.replace("...", spread)
    if any(len(set(t)) != len(t) for t in (first, second, result)):
        return None
    if [len(first), len(second)] != ranks or set(result) - set(first + second):
        return None
    shared = [a for a in first if a in second]
    if (set(first) ^ set(second)) - set(result):
        return None
    return _Product(
        *(first, second, result),
        batch="".join(a for a in shared if a in result),
        left="".join(a for a in first if a not in second),
        right="".join(a for a in second if a not in first),
        summed="".join(a for a in shared if a not in result),
    )


class _Building:
    """The nodes in place of one Einsum, whose first tensor is not constant."""

    def __init__(
        self,
        node: onnx.NodeProto,
        product: _Product,
        names: list[str],
        rewriting: Rewriting,
        shapes: _Shapes,
    ) -> None:
        self._node, self._product, self._names = node, product, names
        self._rewriting, self._weight = rewriting, rewriting.weights.get(names[1])
        self._sizes: dict[str, g.Dim] = {}
        for term, name in zip((product.first, product.second), names, strict=True):
            for letter, size in zip(term, shapes[name], strict=True):
                if not isinstance(self._sizes.get(letter), int):
                    self._sizes[letter] = size
        self._made: list[onnx.NodeProto] = []

    def convolution(self) -> list[onnx.NodeProto] | None:
        """A 1×1 Conv, where constant weights mix an image's channels; None elsewhere."""
        p, weight = self._product, self._weight
        over = p.first.replace(p.summed, p.right) if len(p.summed) == len(p.right) == 1 else ""
        if weight is None or p.batch or len(p.first) != 4 or over != p.result:
            return None
        if p.first[1] != p.summed or weight.dtype != np.float32:
            return None
        matrix = np.ascontiguousarray(weight if p.second[0] == p.right else weight.T)
        name = self._rewriting.constant(f"{self._node.output[0]}_weight", matrix[:, :, None, None])
        reads = [self._names[0], name]
        return [
            helper.make_node(
                "Conv", reads, self._node.output, name=self._node.name, kernel_shape=[1, 1]
            )
        ]

    def matmul(self) -> list[onnx.NodeProto] | None:
        """A MatMul of what the tensors are once their axes are in order; None where the sizes that
        this needs are not known."""
        p = self._product
        plain = self._weight is not None and not p.batch
        groups = [p.left, p.right, p.summed]
        if not p.summed or (not plain and not all(groups)):
            return None
        left = p.left if plain else (p.left,)
        data = self._matrix(self._names[0], p.first, (*p.batch, *left, p.summed))
        other = self._second()
        if data is None or other is None:
            return None
        order = p.batch + p.left + p.right
        merged = (len(p.left) > 1 and not plain) or len(p.right) != 1
        sizes = self._shape([*order]) if merged else None
        if merged and sizes is None:
            return None
        made = self._add("MatMul", [data, other])
        self._made[-1].name = self._node.name
        if merged:
            made = self._add("Reshape", [made, self._constant("shape", sizes)])
        if order != p.result:
            perm = [order.index(letter) for letter in p.result]
            self._add("Transpose", [made], perm=perm)
        self._made[-1].output[0] = self._node.output[0]
        return self._made

    def _second(self) -> str | None:
        p = self._product
        wanted = (*p.batch, p.summed, p.right)
        if self._weight is None:
            return self._matrix(self._names[1], p.second, wanted)
        turned = self._weight.transpose([p.second.index(a) for a in "".join(wanted)])
        sizes = dict(zip("".join(wanted), turned.shape, strict=True))
        shape = [math.prod(sizes[a] for a in letters) for letters in wanted]
        return self._constant("weight", np.ascontiguousarray(turned.reshape(shape)))

    def _matrix(self, name: str, term: str, wanted: tuple[str, ...]) -> str | None:
        """The tensor with its axes in this order, those of each text as one."""
        order = "".join(wanted)
        if order != term:
            name = self._add("Transpose", [name], perm=[term.index(a) for a in order])
        if all(len(letters) == 1 for letters in wanted):
            return name
        sizes = self._shape(wanted)
        return (
            None if sizes is None else self._add("Reshape", [name, self._constant("shape", sizes)])
        )

    def _shape(self, wanted: tuple[str, ...] | list[str]) -> g.Array | None:
        """What Reshape needs; None where more than one size is not known."""
        found: list[int] = []
        for letters in wanted:
            sizes = [self._sizes[letter] for letter in letters]
            known = [size for size in sizes if isinstance(size, int)]
            found.append(math.prod(known) if len(known) == len(sizes) else -1)
        return np.array(found, np.int64) if found.count(-1) < 2 else None

    def _constant(self, what: str, value: g.Array | None) -> str:
        assert value is not None
        return self._rewriting.constant(f"{self._node.output[0]}_{what}", value)

    def _add(self, op: str, reads: list[str], **more: Any) -> str:
        name = self._rewriting.names.new(f"{self._node.output[0]}_{op}")
        label = self._rewriting.node_names.new(f"{self._node.name}_{op}")
        self._made.append(helper.make_node(op, reads, [name], name=label, **more))
        return name
