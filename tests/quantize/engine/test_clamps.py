"""Clamps of every form: no upper bound is scaled through, whatever says it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.model.model import Model
from quantlab.quantize.engine import QuantlabEngine
from quantlab.quantize.engine.channels import ChannelWatch
from quantlab.quantize.engine.equalize import Equalizer, scaled_groups
from quantlab.quantize.engine.net import read_net
from quantlab.quantize.engine.observe import spread_batches, watch
from quantlab.quantize.prepare import prepare
from quantlab.recipe import Recipe
from quantlab.runtime.graphs import graph_session
from quantlab.runtime.runner import Runner

SIZE, CHANNELS = 12, 8
Weights = dict[str, NDArray[Any]]
Clamp = Callable[[str, str, Weights], Sequence[onnx.NodeProto]]


class Batches(list[Any]):
    def __len__(self) -> int:
        return sum(map(len, self))


def images(count: int, seed: int) -> NDArray[np.float32]:
    """Each of a colour of its own, with noise."""
    rng = np.random.default_rng(seed)
    colours = rng.standard_normal((count, 3, 1, 1))
    return np.asarray(colours + rng.standard_normal((count, 3, SIZE, SIZE)) / 2, np.float32)


def clip(low: float | None, high: float | None, shape: tuple[int, ...] = ()) -> Clamp:
    """Bounds that are initializers."""

    def make(reads: str, makes: str, weights: Weights) -> list[onnx.NodeProto]:
        names = ["", ""]
        for i, bound in enumerate((low, high)):
            if bound is not None:
                names[i] = f"{makes}_bound{i}"
                weights[names[i]] = np.full(shape, bound, np.float32)
        return [helper.make_node("Clip", [reads, *names], [makes], name=makes)]

    return make


def constants(low: float, high: float) -> Clamp:
    """Bounds that Constant nodes make."""

    def make(reads: str, makes: str, weights: Weights) -> list[onnx.NodeProto]:
        names = [f"{makes}_low", f"{makes}_high"]
        made = [
            helper.make_node("Constant", [], [name], value_float=bound)
            for name, bound in zip(names, (low, high), strict=True)
        ]
        return [*made, helper.make_node("Clip", [reads, *names], [makes], name=makes)]

    return make


def attributes(**bounds: float) -> Clamp:
    """Bounds as opset 6 to 10 have them."""

    def make(reads: str, makes: str, weights: Weights) -> list[onnx.NodeProto]:
        return [helper.make_node("Clip", [reads], [makes], name=makes, **bounds)]

    return make


def operators(*steps: tuple[str, float | None]) -> Clamp:
    """Min, Max and Relu one after the other."""

    def make(reads: str, makes: str, weights: Weights) -> list[onnx.NodeProto]:
        nodes, data = [], reads
        for i, (op, bound) in enumerate(steps):
            target = makes if i == len(steps) - 1 else f"{makes}_{i}"
            inputs = [data]
            if bound is not None:
                weights[f"{makes}_bound{i}"] = np.array(bound, np.float32)
                inputs.append(f"{makes}_bound{i}")
            nodes.append(helper.make_node(op, inputs, [target], name=target))
            data = target
        return nodes

    return make


def computed(reads: str, makes: str, weights: Weights) -> list[onnx.NodeProto]:
    """An upper bound that depends on the image."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], [f"{makes}_mean"], keepdims=0),
        helper.make_node("Abs", [f"{makes}_mean"], [f"{makes}_abs"]),
        helper.make_node("Add", [f"{makes}_abs", f"{makes}_half"], [f"{makes}_high"]),
        helper.make_node("Clip", [reads, "", f"{makes}_high"], [makes], name=makes),
    ]
    weights[f"{makes}_half"] = np.array(0.5, np.float32)
    return nodes


CLAMPS: dict[str, tuple[int, Clamp]] = {
    "max": (13, clip(None, 0.4)),
    "min": (13, clip(0.0, None)),
    "both": (13, clip(0.0, 0.4)),
    "of shape [1]": (13, clip(0.0, 0.4, (1,))),
    "below zero": (13, clip(-0.3, 0.4)),
    "negative": (13, clip(None, -0.1)),
    "zero": (13, clip(None, 0.0)),
    "above zero": (13, clip(0.1, 0.5)),
    "none": (13, clip(None, None)),
    "constants": (13, constants(0.0, 0.4)),
    "constants of shape [1]": (13, constants(-np.inf, 0.4)),
    "attributes": (10, attributes(min=0.0, max=0.4)),
    "attribute max": (10, attributes(max=0.4)),
    "attribute min": (7, attributes(min=0.0)),
    "largest float": (13, clip(float(np.finfo(np.float32).min), 0.4)),
    "Min": (13, operators(("Min", 0.4))),
    "Max": (13, operators(("Max", 0.0))),
    "Max, Min": (13, operators(("Max", 0.0), ("Min", 0.4))),
    "Min, Relu": (13, operators(("Min", 0.4), ("Relu", None))),
    "Relu, Min": (13, operators(("Relu", None), ("Min", 0.4))),
    "Relu": (7, operators(("Relu", None))),
    "computed": (13, computed),
}


def network(folder: Path, kinds: Sequence[str], seed: int, form: str) -> Model:
    """Convolutions whose channels reach differently far, a clamp after each of two of them."""
    rng = np.random.default_rng(seed)
    weights: Weights = {"fb": np.zeros(10, np.float32)}
    opset = max(CLAMPS[kind][0] for kind in kinds)

    def weight(name: str, *shape: int) -> str:
        spread = np.exp(rng.normal(0, 1.5, (shape[0], *[1] * (len(shape) - 1))))
        drawn = rng.standard_normal(shape) * spread / np.sqrt(np.prod(shape[1:]))
        weights[name] = drawn.astype(np.float32)
        return name

    first, second = (CLAMPS[kind][1] for kind in kinds)
    nodes = [
        helper.make_node("Conv", ["x", weight("w1", CHANNELS, 3, 3, 3)], ["c1"], pads=[1] * 4),
        *first("c1", "a", weights),
    ]
    group = CHANNELS if form == "depthwise" else 1
    shape = (CHANNELS, CHANNELS // group, 3, 3)
    conv2 = helper.make_node("Conv", ["a", weight("w2", *shape)], ["c2"], pads=[1] * 4, group=group)
    nodes.append(conv2)
    if form == "sum":
        nodes.append(helper.make_node("Add", ["c2", "a"], ["s"]))
        nodes += second("s", "m", weights)
    elif form == "sum of clamped":
        nodes += [*second("c2", "r2", weights), helper.make_node("Add", ["r2", "a"], ["m"])]
    else:
        nodes += second("c2", "m", weights)
    nodes += [
        helper.make_node("GlobalAveragePool", ["m"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", weight("fc", 10, CHANNELS), "fb"], ["y"], transB=1),
    ]
    for node in nodes:
        node.name = node.name or f"n_{node.output[0]}"
    graph = helper.make_graph(
        nodes,
        "clamps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "m.onnx")
    return Model.load(folder / "m.onnx")


def sqnr(model: Model, int8: onnx.ModelProto) -> float:
    fresh = images(16, 7)
    with Runner(model, threads=1) as whole, Runner(int8, threads=1) as quantized:
        expected, found = whole(fresh), quantized(fresh)
    error = ((expected - found) ** 2).mean(0).sum()
    return float(10 * np.log10(expected.var(0).sum() / max(error, 1e-30)))


@pytest.mark.parametrize("form", ["plain", "depthwise", "sum", "sum of clamped"])
@pytest.mark.parametrize("kind", CLAMPS)
def test_scaling_never_costs_what_a_clamp_cuts_off(tmp_path: Path, kind: str, form: str) -> None:
    """Of the same network, with this clamp after both convolutions or beside a ReLU."""
    quick = {"ranges": "minmax", "range_search": False, "rounding": "nearest"}
    recipes = {
        "default": Recipe.model_validate(quick),
        "smooth": Recipe.model_validate({**quick, "smooth": 0.5}),
        "unscaled": Recipe.model_validate({**quick, "equalize": False}),
    }
    for kinds in ((kind, kind), ("Relu", kind)):
        model = network(tmp_path, kinds, 3, form)
        found = {
            name: sqnr(model, QuantlabEngine().quantize(model, recipe, Batches([images(24, 1)])))
            for name, recipe in recipes.items()
        }
        least = min(found["unscaled"], 20) - 4
        assert min(found["default"], found["smooth"]) > least, (kinds, found)


@pytest.mark.parametrize("smooth", [None, 0.5])
@pytest.mark.parametrize("form", ["plain", "depthwise", "sum", "sum of clamped"])
@pytest.mark.parametrize("kind", ["both", "max", "below zero", "zero", "Relu"])
def test_no_channel_is_scaled_beyond_its_activations_bound(
    tmp_path: Path, kind: str, form: str, smooth: float | None
) -> None:
    """Exactly: what calibration showed of a channel, scaled, is at most the bound."""
    for kinds in ((kind, kind), ("Relu", kind), (kind, "Relu"), ("both", kind)):
        proto = prepare(network(tmp_path, kinds, 5, form).proto())
        recipe = Recipe(smooth=smooth)
        net = read_net(proto, recipe)
        some = spread_batches(net, Batches([images(24, 1)]), 24)
        seen = ChannelWatch(net, [name for group in scaled_groups(net, recipe) for name in group])
        watch(net, [seen.watch], some)
        equalizer = Equalizer(net, recipe, seen.channels())
        for name, peaks in equalizer.peaks.items():
            for batch in some:
                copy = onnx.ModelProto()
                copy.CopyFrom(proto)
                del copy.graph.output[:]
                copy.graph.output.append(
                    helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
                )
                values = graph_session(copy, threads=1).run([name], {"x": batch})[0]
                peaks.update(np.asarray(values, np.float32))
        made = equalizer.finish()
        for name, by in made.scales.items():
            maker = net.producers[name]
            if maker.high < np.inf:
                assert maker.low == 0, "only what holds at zero and above may be scaled at all"
                reach = equalizer.peaks[name].peaks * by
                assert reach.max() <= maker.high * (1 + 2**-9)
            assert by.min() >= 1
