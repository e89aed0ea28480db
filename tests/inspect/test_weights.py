from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from quantlab.inspect.exposed import matched_sources
from quantlab.inspect.matching import match
from quantlab.inspect.weights import WeightReport, compare_weights
from quantlab.quantize.prepare import prepare

WRITERS = [("ort", "qdq"), ("ort", "qoperator"), ("quantlab", "qdq"), ("quantlab", "qoperator")]


def report(pair: Any) -> WeightReport:
    original, int8 = prepare(pair.fp32.proto()).graph, pair.int8.proto().graph
    pairs = match(original, int8).pairs
    sources = matched_sources(original, [p.tensor for p in pairs])
    return compare_weights(original, int8, pairs, sources)


@pytest.mark.parametrize(("engine", "form"), WRITERS)
def test_the_sqnr_of_nearest_rounding(twins: Any, engine: str, form: str) -> None:
    pair = twins(engine, form, portable=False)
    found = report(pair)
    assert found.gains == {}
    stored = {t.name: numpy_helper.to_array(t) for t in pair.fp32.proto().graph.initializer}
    for tensor, name in (("stem_act", "stem.w"), ("pointwise", "pointwise.w")):
        w = stored[name].astype(np.float64)
        steps = np.abs(w).max(axis=(1, 2, 3), keepdims=True) / 127
        noise = np.square(w - np.rint(w / steps) * steps).sum()
        expected = 10 * np.log10(np.square(w).sum() / noise)
        assert found.sqnr_db[tensor] == pytest.approx(expected, abs=0.3)
    assert ("output" in found.sqnr_db) == (engine == "quantlab"), "ort leaves the classifier alone"
    assert "residual" not in found.sqnr_db


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_equalized_channels_are_found_from_the_weights(twins: Any, form: str) -> None:
    pair = twins("quantlab", form, relu6=False, equalize=True)
    found = report(pair)
    gains = found.gains["stem_act"]
    assert gains.shape == (16,)
    assert np.abs(np.log2(gains)).max() > 0.3
    assert found.gains["residual"] == pytest.approx(found.gains["pointwise"])
    assert all(db is None or db > 30 for db in found.sqnr_db.values())
