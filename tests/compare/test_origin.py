"""Whether weights come from another model's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from quantlab.compare.origin import Origin, origin_of
from quantlab.testing import tiny_classifier


def graph(*weights: np.ndarray) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    return helper.make_graph([], "g", [], [], tensors)


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


CONV, DENSE = drawn(0, 32, 16, 3, 3), drawn(1, 10, 64)


def test_quantized_scaled_and_turned_weights_are_found() -> None:
    scales = np.random.default_rng(2).uniform(0.01, 9, (32, 1, 1, 1)) / 40
    codes = np.clip(np.round(CONV / scales / 4) + 120, 0, 255).astype(np.uint8)
    turned = np.round(DENSE.T * 30).astype(np.int8)
    assert origin_of(graph(CONV, DENSE), graph(turned, codes)) == Origin(1, 1)
    folded = CONV * np.random.default_rng(3).uniform(-2, 2, (32, 1, 1, 1)).astype(np.float32)
    assert origin_of(graph(CONV), graph(folded)).kept == 1


def test_constants_count_and_small_weights_do_not() -> None:
    node = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(CONV))
    constant = helper.make_graph([node], "g", [], [])
    assert origin_of(graph(CONV, drawn(0, 3, 3)), constant) == Origin(1, 1)
    assert origin_of(graph(), graph(CONV)) == Origin(0, 0)


def test_another_training_has_the_shapes_alone_and_another_network_neither() -> None:
    shapes = [(32, 3, 3, 3), (32, 1, 3, 3), (64, 32, 1, 1), (10, 64)]
    first, second = (
        graph(*(drawn(10 * seed + i, *shape) for i, shape in enumerate(shapes))) for seed in (1, 2)
    )
    assert origin_of(first, second) == Origin(1, 0)
    assert origin_of(first, graph(drawn(5, 7, 9, 3, 3))) == Origin(0, 0)


def test_a_part_counts_by_its_size() -> None:
    found = origin_of(graph(CONV, DENSE), graph(CONV, drawn(9, 10, 64)))
    assert found == Origin(1, pytest.approx(CONV.size / (CONV.size + DENSE.size)))


def test_tiny_models(tmp_path: Path) -> None:
    one, two = (tiny_classifier(tmp_path / f"{i}.onnx", seed=i) for i in (0, 1))
    graphs = [onnx.load(path).graph for path in (one, two)]
    assert origin_of(graphs[0], graphs[0]) == Origin(1, 1)
    assert origin_of(*graphs) == Origin(1, 0)
