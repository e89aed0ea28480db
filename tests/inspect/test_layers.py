from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantlab.errors import ModelError
from quantlab.evaluate.metrics import sqnr_db
from quantlab.inspect.exposed import matched_sources
from quantlab.inspect.layers import LayerError, debug_layers, first_break, worth_excluding
from quantlab.model import graph as g
from quantlab.model.model import Model
from quantlab.quantize.prepare import prepare
from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier

WRITERS = [("ort", "qdq"), ("ort", "qoperator"), ("quantlab", "qdq"), ("quantlab", "qoperator")]


def one(tensor: str, accumulated: float, drop: float | None, local: float | None) -> LayerError:
    return LayerError(
        tensor=tensor,
        node=f"n{tensor}",
        op_type="Conv",
        accumulated=accumulated,
        local=local,
        drop=drop,
        weight=None,
    )


def test_the_first_break() -> None:
    layers = [
        one("a", 40, None, 40),
        one("b", 25, 15, 30),
        one("c", 19, 2.9, 30),
        one("d", 16, 3, 25),
        one("e", 5, 11, 10),
    ]
    assert first_break(layers) == "d", "b is still above 20 dB, c loses less than 3 dB"
    assert first_break(layers[:3]) == ""


def test_what_is_worth_excluding() -> None:
    layers = [one(str(i), 20, 0, 30 + i % 3) for i in range(12)]
    assert worth_excluding(layers) == ()
    low = [one(f"low{i}", 20, 0, 20 - i) for i in range(7)]
    assert worth_excluding([*layers, *low]) == ("nlow6", "nlow5", "nlow4", "nlow3", "nlow2")
    assert worth_excluding([one("a", 20, None, None)]) == ()


@pytest.mark.parametrize(("engine", "form"), WRITERS)
def test_the_ends_are_what_the_models_say(twins: Any, engine: str, form: str) -> None:
    pair = twins(engine, form)
    found = debug_layers(pair.fp32, pair.int8, [pair.images[:5], pair.images[5:]])
    answers = []
    for model in (pair.fp32, pair.int8):
        with Runner(model) as run:
            answers.append(run(pair.images))
    assert found.images == 8
    assert not found.rescaled
    last = found.layers[-1]
    assert last.tensor == "output"
    assert last.accumulated == pytest.approx(sqnr_db(answers[0], answers[1]), abs=0.3)
    first = found.layers[0]
    assert first.op_type == "input"
    assert first.accumulated == first.local
    assert first.drop is None


def test_local_errors_are_one_layers_own(twins: Any) -> None:
    """The stem's local SQNR by hand: dequantized input and weights, fp32 convolution, rounding."""
    pair = twins("ort", "qdq")
    found = {x.node: x for x in debug_layers(pair.fp32, pair.int8, [pair.images]).layers}
    stem = found["stem"]
    assert stem.local is not None
    assert stem.accumulated is not None
    assert stem.local > stem.accumulated, "the input's own rounding is not the stem's"
    before = found["depthwise"].local
    broken = pair.saved(_with_scale(pair.int8.proto(), "pointwise_scale", 20.0))
    after = {x.node: x for x in debug_layers(pair.fp32, broken.int8, [pair.images]).layers}
    assert after["depthwise"].local == before
    assert after["residual"].local is not None
    assert after["residual"].local == pytest.approx(found["residual"].local, abs=6)
    assert (after["pointwise"].local or 0) < 15


def _with_scale(proto: onnx.ModelProto, name: str, times: float) -> onnx.ModelProto:
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            g.set_initializer(proto.graph, name, numpy_helper.to_array(tensor) * np.float32(times))
            return proto
    raise AssertionError(name)


def test_a_broken_layer_is_found_and_can_be_excluded(twins: Any) -> None:
    pair = twins("ort", "qdq")
    broken = pair.saved(_with_scale(pair.int8.proto(), "pointwise_scale", 20.0))
    found = debug_layers(pair.fp32, broken.int8, [pair.images])
    assert found.first_break == "pointwise"
    assert found.exclude[0] == "pointwise"
    twins("ort", "qdq", exclude=found.exclude)


def test_equalized_files_compare_like_plain_ones(twins: Any) -> None:
    plain, equalized = twins("quantlab", "qdq"), twins("quantlab", "qoperator", equalize=True)
    reports = [debug_layers(x.fp32, x.int8, [x.images]) for x in (plain, equalized)]
    assert [r.rescaled for r in reports] == [False, True]
    for left, right in zip(reports[0].layers, reports[1].layers, strict=True):
        assert left.tensor == right.tensor
        assert (right.accumulated or 99) > (left.accumulated or 99) - 6
        # Channels compared without undoing the scales would be below 10 dB.
        assert (right.local or 99) > max(30, (left.local or 99) - 15)


def test_another_network_is_refused(tmp_path: Path, twins: Any) -> None:
    pair = twins("ort", "qdq")
    proto = onnx.load(tiny_classifier(tmp_path / "stranger.onnx"))
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                known = name in ("input", "output") or name in g.initializers(proto.graph)
                names[i] = name if known else f"{name}_x"
    onnx.save(proto, tmp_path / "stranger.onnx")
    with pytest.raises(ModelError, match="no inner tensor"):
        debug_layers(Model.load(tmp_path / "stranger.onnx"), pair.int8, [pair.images])


def test_sources_are_the_nearest_named_tensors(twins: Any) -> None:
    graph = prepare(twins("ort", "qdq").fp32.proto()).graph
    names = ["input", "stem_act", "pointwise", "residual", "output"]
    assert matched_sources(graph, names) == {
        "input": [],
        "stem_act": ["input"],
        "pointwise": ["stem_act"],
        "residual": ["pointwise", "stem_act"],
        "output": ["residual"],
    }


@pytest.mark.data
def test_the_zoos_pair(data_root: Path) -> None:
    """Its late residual additions cut their tensors; Conv names over a folded Clip are matched."""
    fp32, int8 = (
        Model.load(data_root / f"models/mobilenetv2-12{end}.onnx") for end in ("", "-int8")
    )
    images = np.random.default_rng(0).uniform(-2, 2, (2, 3, 224, 224)).astype(np.float32)
    found = debug_layers(fp32, int8, [images])
    assert found.unmatched == ()
    assert len(found.layers) == 65
    assert {x.tensor for x in found.layers} >= {"317", "480", "output"}
    assert all((x.weight or 0) > 35 for x in found.layers if x.op_type in ("Conv", "Gemm"))
    assert (found.layers[0].accumulated or 0) > 30
