"""GELU and SiLU, however they are written, become one operator; what only looks like them stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import Images, Weights, network, node

from quantlab.quantize.engine import prepared_for
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner

NUMBERS: Weights = {
    name: np.array(value, np.float32)
    for name, value in {
        "root": 2**0.5, "inverse": 0.5**0.5, "one": 1, "half": 0.5, "two": 2, "three": 3,
        "cubic": 0.044715, "outer": (2 / np.pi) ** 0.5, "quick": 1.702, "odd": 0.7,
    }.items()
}  # fmt: skip
PHI = [node("Div", "c1 root", "q"), node("Erf", "q", "e"), node("Add", "e one", "phi")]
CUBE = [
    *(node("Pow", "c1 three", "cube"), node("Mul", "cubic cube", "k"), node("Add", "c1 k", "s")),
    *(node("Mul", "s outer", "q"), node("Tanh", "q", "t"), node("Add", "t one", "phi")),
]
WRITTEN: dict[str, tuple[list[onnx.NodeProto], str]] = {
    "x · Φ, halved": ([*PHI, node("Mul", "c1 phi", "g"), node("Mul", "g half", "m")], "Gelu"),
    "half of x, times Φ": ([*PHI, node("Mul", "c1 half", "h"), node("Mul", "h phi", "m")], "Gelu"),
    "half of Φ, times x": ([*PHI, node("Mul", "phi half", "h"), node("Mul", "h c1", "m")], "Gelu"),
    "divided by two": ([*PHI, node("Mul", "c1 phi", "g"), node("Div", "g two", "m")], "Gelu"),
    "a half and half of Erf": (
        [
            *(node("Mul", "c1 inverse", "q"), node("Erf", "q", "e"), node("Mul", "e half", "h")),
            *(node("Add", "h half", "phi"), node("Mul", "phi c1", "m")),
        ],
        "Gelu",
    ),
    "Tanh": ([*CUBE, node("Mul", "c1 half", "h"), node("Mul", "h phi", "m")], "FastGelu"),
    "Tanh of products": (
        [
            *(node("Mul", "c1 c1", "square"), node("Mul", "square cubic", "k")),
            *(node("Add", "k one", "k1"), node("Mul", "c1 outer", "o"), node("Mul", "o k1", "q")),
            *(node("Tanh", "q", "t"), node("Add", "one t", "phi"), node("Mul", "c1 phi", "g")),
            node("Mul", "half g", "m"),
        ],
        "FastGelu",
    ),
    "SiLU": ([node("Sigmoid", "c1", "s"), node("Mul", "s c1", "m")], "QuickGelu"),
    "with 1.702": (
        [node("Mul", "c1 quick", "q"), node("Sigmoid", "q", "s"), node("Mul", "c1 s", "m")],
        "QuickGelu",
    ),
}
OTHERS: dict[str, list[onnx.NodeProto]] = {
    "of another tensor": [*PHI, node("Mul", "a phi", "g"), node("Mul", "g half", "m")],
    "not halved": [*PHI, node("Mul", "c1 phi", "m")],
    "another scale": [
        *(node("Mul", "c1 odd", "q"), node("Erf", "q", "e"), node("Add", "e one", "phi")),
        *(node("Mul", "c1 phi", "g"), node("Mul", "g half", "m")),
    ],
    "less one": [
        *(node("Erf", "c1", "e"), node("Sub", "e one", "phi"), node("Mul", "c1 phi", "g")),
        node("Mul", "g half", "m"),
    ],
    "Φ has another reader": [
        *(*PHI, node("Mul", "c1 phi", "g"), node("Mul", "g half", "h"), node("Add", "h e", "m")),
    ],
    "of a sum with a number": [
        *(node("Add", "c1 one", "q"), node("Sigmoid", "q", "s"), node("Mul", "c1 s", "m")),
    ],
}


def formed(folder: Path, nodes: list[onnx.NodeProto]) -> Counter[str]:
    """The operators after rewriting; the answers are as before."""
    model = network(folder, nodes, NUMBERS)
    proto = prepared_for(model, Recipe())
    images = Images().array
    with Runner(model) as before, Runner(proto) as after:
        np.testing.assert_allclose(after(images), before(images), rtol=1e-3, atol=1e-4)
    return Counter(n.op_type for n in proto.graph.node)


@pytest.mark.parametrize("name", WRITTEN)
def test_it_becomes_one_operator(tmp_path: Path, name: str) -> None:
    nodes, operator = WRITTEN[name]
    found = formed(tmp_path, nodes)
    assert found[operator] == 1
    assert not {"Mul", "Div", "Add", "Erf", "Tanh", "Sigmoid", "Pow"} & set(found)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_another_function_stays(tmp_path: Path, name: str) -> None:
    found = formed(tmp_path, OTHERS[name])
    assert not {"Gelu", "FastGelu", "QuickGelu"} & set(found)
