"""Layers are timed once: what is known of a layer is not measured again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import CHANNELS_OF_MIDDLE as CHANNELS
from nets import Images, conv, floats, network, node

from quantlab._util.cache import Store, entries
from quantlab._util.paths import cache_dir
from quantlab.model.model import Model
from quantlab.quantize.engine import make_plan, placed_net, prepared_for, timed
from quantlab.quantize.engine.net import read_net
from quantlab.quantize.engine.place import tensor_values
from quantlab.quantize.engine.qdq import write_qdq
from quantlab.quantize.placement import Placement
from quantlab.recipe import Recipe
from quantlab.runtime.graphs import graph_session

DEPTHWISE = {"k": floats(CHANNELS, 1, 3, 3, seed=4)}
MEASURED = Recipe(placement="measured")


@pytest.fixture
def profiled(monkeypatch: pytest.MonkeyPatch) -> list[onnx.ModelProto]:
    """The models whose nodes are timed."""
    seen: list[onnx.ModelProto] = []
    real = timed.node_runs

    def watched(proto: onnx.ModelProto, feeds: Any) -> Any:
        seen.append(proto)
        return real(proto, feeds)

    monkeypatch.setattr(timed, "node_runs", watched)
    monkeypatch.setattr(timed, "RUNS", 3)
    return seen


def placed(model: Model) -> Placement:
    _, placement = placed_net(prepared_for(model, MEASURED), MEASURED, Images())
    assert placement is not None
    return placement


def folder(path: Path, name: str) -> Path:
    (path / name).mkdir()
    return path / name


def convolutions(proto: onnx.ModelProto) -> int:
    return sum(n.op_type == "Conv" for n in proto.graph.node)


def test_layers_are_timed_once(tmp_path: Path, profiled: list[onnx.ModelProto]) -> None:
    model = network(tmp_path)
    first = placed(model)
    assert min(first.placed, first.widest, first.fp32) > 0
    assert len(profiled) == 2, "in int8 and in fp32"
    assert placed(model) == first
    assert len(profiled) == 2
    (entry,) = entries(cache_dir(), ["times"])
    assert entry.size > 100


def test_of_another_net_only_what_is_new_is_timed(
    tmp_path: Path, profiled: list[onnx.ModelProto]
) -> None:
    """The nets differ in a layer behind the second convolution: with what reads and makes its
    tensors it is timed, the layers before are not."""
    chain = [
        conv("a k", "m1", group=CHANNELS),
        *(conv(f"m{i} k", f"m{i + 1}", group=CHANNELS) for i in (1, 2, 3)),
    ]
    placed(network(folder(tmp_path, "a"), [*chain, node("Relu", "m4", "m")], DEPTHWISE))
    assert [convolutions(proto) for proto in profiled] == [6, 6]
    changed = network(folder(tmp_path, "b"), [*chain, node("LeakyRelu", "m4", "m")], DEPTHWISE)
    placed(changed)
    assert [convolutions(proto) for proto in profiled[2:]] == [3, 3]
    placed(changed)
    assert len(profiled) == 4


def test_a_part_computes_what_the_whole_does(tmp_path: Path) -> None:
    model = network(tmp_path, [conv("a k", "m", group=CHANNELS)], DEPTHWISE)
    recipe = Recipe(rounding="nearest", bias_correction=False, range_search=False, equalize=False)
    net = read_net(prepared_for(model, recipe), recipe)
    images = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
    values = tensor_values(net, images)
    plan = make_plan(net, recipe, Images())
    part = timed.part_of(plan, {"c2"}, values)
    assert [v.name for v in part.net.proto.graph.input] == ["a"]
    assert [x.name for x in part.net.layers] == ["m", "c2", "p"]
    (made,) = [v.name for v in part.net.proto.graph.output]
    for proto, limit in ((timed.fp32_file(part), 1e-5), (write_qdq(part), 0.1)):
        answers = graph_session(proto, threads=1).run([made], {"a": values["a"]})[0]
        assert np.abs(answers - values[made]).max() < limit * np.abs(values[made]).max()


def test_what_cannot_be_kept_is_measured_again(
    tmp_path: Path, profiled: list[onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTLAB_CACHE_SIZE", "0")
    model = network(tmp_path)
    placed(model)
    placed(model)
    assert len(profiled) == 4


def test_damaged_times_are_measured_again(tmp_path: Path, profiled: list[onnx.ModelProto]) -> None:
    model = network(tmp_path)
    placed(model)
    (file,) = Store.of("times").folder.iterdir()
    file.write_text("{")
    placed(model)
    assert len(profiled) == 4
