"""x times a sigmoid of x, in whatever nodes it is written, as one operator.

GELU as exporters take it apart (x · (1 + erf(x / √2)) / 2, or with a tanh) and SiLU become one
node, which ONNX Runtime has a fast fp32 kernel for. ONNX Runtime joins them itself only where all
parts read the very same tensor, which they do not behind a DequantizeLinear: a DequantizeLinear for
each part, and six passes over the tensor, are what was left. For SiLU dequantizing, QuickGelu and
quantizing take two thirds of the time of an int8 Sigmoid and an int8 Mul, and round once less (see
docs/engine.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx
from numpy.polynomial import Polynomial
from onnx import helper

from quantlab.model import graph as g
from quantlab.model.model import main_opset
from quantlab.quantize.operators import CONTRIB, import_contrib
from quantlab.quantize.rewriting import Rewriting, become

CONTRIB_GELUS = ("Gelu", "FastGelu", "QuickGelu")
GELU_OPSET = 20
"""From here on the standard operators have Gelu."""
_ERF = Polynomial([0, math.sqrt(0.5)])
_TANH = Polynomial([0, 1, 0, 0.044715]) * math.sqrt(2 / math.pi)
_DEEPEST = 5
"""Nodes between x and the argument of its Tanh, one after the other."""


def gelus(proto: onnx.ModelProto, *, standard: bool = False) -> None:
    """In place: every GELU and SiLU that is written in several nodes becomes one; ``standard``:
    only GELUs, where the standard operators have it."""
    rewriting = Rewriting(proto.graph)
    found = False
    wanted: tuple[str, ...] = ("Erf", "Tanh", "Sigmoid")
    if standard:
        wanted = wanted[:2] if main_opset(proto) >= GELU_OPSET else ()
    for node in list(proto.graph.node):
        if not g.is_standard(node, *wanted):
            continue
        for last, data in _products(node, rewriting):
            argument = _argument(node.input[0], data, rewriting)
            if argument is not None and _replaced(node, last, data, argument, proto):
                found = True
                break
    if found:
        g.prune(proto.graph)


def _replaced(
    node: onnx.NodeProto,
    last: onnx.NodeProto,
    data: str,
    argument: Polynomial,
    proto: onnx.ModelProto,
) -> bool:
    """Whether ``last`` is now the one operator; not where the argument is another function."""
    standard = main_opset(proto) >= GELU_OPSET
    if node.op_type == "Sigmoid":
        scale = float(argument.coef[1]) if argument.degree() == 1 else 0.0
        if scale <= 0 or argument.coef[0]:
            return False
        become(last, "QuickGelu", [data])
        last.attribute.append(helper.make_attribute("alpha", scale))
        standard = False
    else:
        meant = _ERF if node.op_type == "Erf" else _TANH
        if not _same(argument, meant):
            return False
        become(last, "Gelu" if standard or node.op_type == "Erf" else "FastGelu", [data])
        if standard:
            how = "none" if node.op_type == "Erf" else "tanh"
            last.attribute.append(helper.make_attribute("approximate", how))
    if not standard:
        last.domain = CONTRIB
        import_contrib(proto)
    return True


def _same(found: Polynomial, meant: Polynomial) -> bool:
    """Equal to what exporters round constants to."""
    return found.degree() == meant.degree() and np.allclose(
        found.coef, meant.coef, rtol=1e-3, atol=1e-6
    )


def _products(node: onnx.NodeProto, rewriting: Rewriting) -> Iterator[tuple[onnx.NodeProto, str]]:
    """The nodes that make x · Φ of what the node gives, with x: Φ is a Sigmoid's output itself, or
    half of 1 more than an Erf's or a Tanh's, in any order of the factors."""
    value = node.output[0]
    shifted = node.op_type == "Sigmoid"
    factor, wanted, data = 1.0, 1.0 if shifted else 0.5, ""
    while (reader := rewriting.only_reader(value)) is not None:
        other = rewriting.other(reader, value)
        constant = rewriting.scalar(other)
        if g.is_standard(reader, "Add") and not shifted:
            if constant is None or not np.isclose(constant, factor, rtol=1e-5):
                return
            shifted = True
        elif g.is_standard(reader, "Mul") and constant is not None:
            factor *= constant
        elif g.is_standard(reader, "Div") and constant and reader.input[0] == value:
            factor /= constant
        elif g.is_standard(reader, "Mul") and other and shifted and not data:
            data, scale = _scaled(other, rewriting)
            if np.isclose(factor, wanted, rtol=1e-5):
                yield reader, other
            factor *= scale
        else:
            return
        value = reader.output[0]
        if data and shifted and np.isclose(factor, wanted, rtol=1e-5):
            yield reader, data


def _scaled(name: str, rewriting: Rewriting) -> tuple[str, float]:
    """The tensor that a Mul or Div by a number makes this one of, with the number."""
    maker = rewriting.made_by.get(name)
    if maker is not None and g.is_standard(maker, "Mul", "Div") and len(maker.input) == 2:
        for data in maker.input if maker.op_type == "Mul" else maker.input[:1]:
            constant = rewriting.scalar(rewriting.other(maker, data))
            if constant:
                return data, constant if maker.op_type == "Mul" else 1 / constant
    return name, 1.0


def _argument(name: str, data: str, rewriting: Rewriting, depth: int = 0) -> Polynomial | None:
    """The tensor as a polynomial in ``data``; None where it is none."""
    if name == data:
        return Polynomial([0, 1])
    if (constant := rewriting.scalar(name)) is not None:
        return Polynomial([constant])
    maker = rewriting.made_by.get(name)
    if maker is None or depth > _DEEPEST or len(maker.input) != 2:
        return None
    if not g.is_standard(maker, "Add", "Sub", "Mul", "Div", "Pow"):
        return None
    first, second = (_argument(n, data, rewriting, depth + 1) for n in maker.input)
    if first is None or second is None:
        return None
    match maker.op_type:
        case "Add":
            return first + second
        case "Sub":
            return first - second
        case "Mul":
            return first * second
    exponent = float(second.coef[0])
    if second.degree() or not exponent:
        return None
    if maker.op_type == "Div":
        return first / exponent
    return first ** int(exponent) if exponent in (2, 3) else None
