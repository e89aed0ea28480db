"""Layers are left in fp32 where the table of costs says that int8 is slower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import CHANNELS_OF_MIDDLE as CHANNELS
from nets import Images, conv, executed, floats, network, node, ops, quantize, sqnr

from quantlab.inspect.kernels import executed_graph
from quantlab.quantize import engine
from quantlab.quantize.costs import Cost, Costs, shipped_costs
from quantlab.quantize.engine import placed_net, placements, prepared_for
from quantlab.quantize.engine.net import read_net
from quantlab.quantize.engine.place import FUSED, place, sizes_of, tensor_values, work_of
from quantlab.quantize.placement import read_placement
from quantlab.quantize.stamp import RECIPE_KEY, stamp
from quantlab.recipe import Recipe
from quantlab.testing.models import tiny_classifier

SECOND = 1e6
FAST = {"int8": Cost(start=SECOND), "fp32": Cost(start=2 * SECOND)}
SLOW = {"int8": Cost(start=2 * SECOND), "fp32": Cost(start=SECOND)}
NEARLY = {"int8": Cost(start=2), "fp32": Cost(start=1)}
KINDS = (
    "first", "dense", "depthwise", "uneven depthwise", "pointwise", "gemm", "globalaveragepool",
    "elementwise", "broadcast", "hardsigmoid", "maxpool", "move", "shuffle", "concat",
)  # fmt: skip
DEPTHWISE = {"k": floats(CHANNELS, 1, 3, 3, seed=4)}


def table(slow: tuple[str, ...] = (), conversion: float = 1.0) -> Costs:
    """A table by which int8 pays for all kinds but these."""
    one = Cost(start=conversion)
    by = dict.fromkeys(("quantize", "dequantize", "reorder", "transpose"), one)
    return Costs(
        instructions="none",
        onnxruntime="none",
        operators={kind: SLOW if kind in slow else FAST for kind in KINDS},
        conversions={"image": by, "matrix": by},
    )


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the table that the engine reads."""

    def use(found: Costs) -> None:
        monkeypatch.setattr(engine, "shipped_costs", lambda: found)

    return use


def metadata(proto: onnx.ModelProto) -> Mapping[str, str]:
    return {p.key: p.value for p in proto.metadata_props}


def left(proto: onnx.ModelProto) -> set[str]:
    placement = read_placement(metadata(proto))
    assert placement is not None
    return set(placement.left)


def graph(proto: onnx.ModelProto) -> bytes:
    return bytes(proto.graph.SerializeToString(deterministic=True))


def test_where_int8_pays_everywhere_the_file_is_the_widest(tmp_path: Path, costs: Any) -> None:
    model = network(tmp_path)
    costs(table())
    fastest = quantize(model)
    assert left(fastest) == set()
    assert graph(fastest) == graph(quantize(model, placement="widest"))


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, costs: Any) -> None:
    model = network(tmp_path, [conv("a k", "m", group=CHANNELS)], DEPTHWISE)
    costs(table(("uneven depthwise",)))
    first, second = (quantize(model).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_a_slow_layer_stays_in_fp32_as_it_is_between_int8_ones(tmp_path: Path, costs: Any) -> None:
    model = network(tmp_path, [conv("a k", "m", group=CHANNELS)], DEPTHWISE)
    costs(table(("uneven depthwise",)))
    proto = quantize(model)
    assert left(proto) == {"m"}
    ran = executed(proto, tmp_path)
    assert (ran["Conv"] + ran["FusedConv"], ran["QLinearConv"]) == (1, 2)
    assert sqnr(model, proto) > 25


def test_a_slow_layer_is_in_int8_where_conversions_cost_more(tmp_path: Path, costs: Any) -> None:
    model = network(tmp_path, [conv("a k", "m", group=CHANNELS)], DEPTHWISE)
    costs(table(("uneven depthwise",), conversion=SECOND))
    assert left(quantize(model)) == set()


def test_the_first_layers_need_nothing_that_keeps_them_in_fp32(tmp_path: Path, costs: Any) -> None:
    model = network(tmp_path)
    costs(table(("first",)))
    proto = quantize(model)
    assert left(proto) == {"c1"}
    assert "Max" not in ops(proto)
    ran = executed(proto, tmp_path)
    assert (ran["Conv"] + ran["FusedConv"], ran["QLinearConv"]) == (1, 1)


def test_a_pool_behind_a_layer_in_fp32_pools_floats(tmp_path: Path, costs: Any) -> None:
    pool = node("MaxPool", "a", "m", kernel_shape=[2, 2], strides=[2, 2])
    costs(table(("first", "maxpool", "elementwise")))
    proto = quantize(network(tmp_path, [pool]))
    assert left(proto) == {"c1", "m"}
    (tmp_path / "int8.onnx").write_bytes(proto.SerializeToString())
    ran = executed_graph(tmp_path / "int8.onnx").graph.node
    (pooled,) = [n for n in ran if n.op_type == "MaxPool"]
    assert not any(n.op_type == "QuantizeLinear" and pooled.input[0] in n.output for n in ran)


def test_a_hard_swish_goes_where_its_convolution_goes(tmp_path: Path, costs: Any) -> None:
    middle = [*(conv("a k", "d", group=CHANNELS), node("HardSwish", "d", "m"))]
    costs(table(("uneven depthwise",)))
    proto = quantize(network(tmp_path, middle, DEPTHWISE))
    assert len(left(proto)) == 3
    assert {"d", "m"} < left(proto)


def test_a_channel_shuffle_goes_where_what_it_shuffles_goes(tmp_path: Path, costs: Any) -> None:
    middle = [
        *(conv("a k", "c", group=CHANNELS), conv("a k", "d", group=CHANNELS)),
        *(node("Concat", "c d", "cd", axis=1), node("Reshape", "cd apart", "five")),
        *(node("Transpose", "five", "turned", perm=[0, 2, 1, 3, 4]),),
        *(node("Reshape", "turned together", "back"), node("Conv", "back half", "m")),
    ]
    shapes = {"apart": np.array([0, 2, 8, 16, 16]), "together": np.array([0, 16, 16, 16])}
    more = {**DEPTHWISE, **shapes, "half": floats(CHANNELS, 16, 1, 1)}
    found = table()
    operators = {**found.operators, "shuffle": {"int8": Cost(start=9 * SECOND), "fp32": Cost()}}
    costs(found.model_copy(update={"operators": operators}))
    model = network(tmp_path, middle, more)
    proto = quantize(model)
    assert left(proto) == {"cd", "five", "turned", "back"}
    assert sqnr(model, proto) > 25


def test_where_int8_never_pays_the_file_answers_as_fp32_does(tmp_path: Path, costs: Any) -> None:
    model = network(tmp_path)
    costs(table(KINDS))
    proto = quantize(model)
    assert "QuantizeLinear" not in ops(proto)
    assert sqnr(model, proto) > 100
    assert {"c1", "c2", "y"} <= left(proto)


def test_too_little_gain_is_no_reason(tmp_path: Path, costs: Any) -> None:
    found = table(KINDS).model_copy(update={"operators": dict.fromkeys(KINDS, NEARLY)})
    costs(found)
    assert left(quantize(network(tmp_path))) == set()


def test_types_that_the_table_is_not_for_are_the_widest(tmp_path: Path, costs: Any) -> None:
    model = network(tmp_path)
    costs(table(KINDS))
    assert "QuantizeLinear" in ops(quantize(model, activations="s8"))
    assert "QuantizeLinear" in ops(quantize(model, weights="u8"))
    assert "QuantizeLinear" in ops(quantize(model, activations="u16"))


def test_what_was_measured_is_stamped_as_a_recipe_that_makes_the_same_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(tmp_path, [conv("a k", "m", group=CHANNELS)], DEPTHWISE)

    def times(net: Any, values: Any, plan: Any) -> Any:
        slow, fast = {"int8": 900.0, "fp32": 1.0}, {"int8": 1.0, "fp32": 900.0}
        return lambda layer, precision: (slow if layer.name == "m" else fast)[precision]

    monkeypatch.setattr(engine, "times_of", times)
    recipe = Recipe(placement="measured")
    proto = quantize(model, placement="measured")
    measured = graph(proto)
    content = onnx.ModelProto.FromString(stamp(proto, model, recipe, "{}", []))
    stamped = Recipe.model_validate_json(metadata(content)[RECIPE_KEY])
    assert (stamped.placement, stamped.exclude) == ("widest", ("m",))
    assert left(content) == {"m"}
    assert graph(engine.QuantlabEngine().quantize(model, stamped, Images())) == measured


@pytest.mark.parametrize("placing", ["fastest", "widest"])
def test_each_point_of_the_front_is_what_its_recipe_is_placed_as(
    placing: str, tmp_path: Path, costs: Any
) -> None:
    model = network(tmp_path, [conv("a k", "m", group=CHANNELS)], DEPTHWISE)
    costs(table(("uneven depthwise",) if placing == "widest" else ()))
    errors = {"c1": 0.1, "m": 0.3, "c2": 0.01, "y": 0.001}
    recipe = Recipe(placement=placing)  # type: ignore[arg-type]
    start, *points = placements(prepared_for(model, recipe), recipe, Images(), errors)
    assert (start.exclude, start.error) == ((), pytest.approx(sum(errors.values())))
    assert [point.error for point in points] == pytest.approx([0.111, 0.011, 0.001])
    assert "m" in points[0].exclude
    for point in (start, *points):
        tried = recipe.model_copy(update={"exclude": point.exclude})
        net, placement = placed_net(prepared_for(model, tried), tried, Images())
        assert placement is not None
        assert placement.placed == pytest.approx(point.time, abs=20), "microseconds, of seconds"
        in_int8 = {x.name for x in net.layers if x.quantized}
        assert sum(errors[name] for name in errors.keys() & in_int8) == pytest.approx(point.error)


def test_where_int8_saves_no_time_the_fewest_layers_leave_it(tmp_path: Path, costs: Any) -> None:
    costs(table(KINDS).model_copy(update={"operators": dict.fromkeys(KINDS, NEARLY)}))
    recipe = Recipe()
    errors = {"c1": 0.1, "c2": 0.9, "y": 0.2}
    found = placements(prepared_for(network(tmp_path), recipe), recipe, Images(), errors)
    assert [set(point.exclude) & errors.keys() for point in found] == [set(), {"c2"}, {"c2", "y"}]


def test_nodes_that_the_engine_has_made_can_be_excluded(tmp_path: Path, costs: Any) -> None:
    """What is stamped for a measured placement names them."""
    middle = [*(conv("a k", "d", group=CHANNELS), node("HardSwish", "d", "m"))]
    costs(table(("uneven depthwise",)))
    model = network(tmp_path, middle, DEPTHWISE)
    placed = quantize(model)
    excluded = quantize(model, placement="widest", exclude=tuple(left(placed)))
    assert graph(excluded) == graph(placed)


def test_the_work_of_a_layer_follows_from_its_shapes(tmp_path: Path) -> None:
    model = network(tmp_path, [conv("a k", "m", group=CHANNELS)], DEPTHWISE)
    net = read_net(prepared_for(model, Recipe()), Recipe())
    sizes = sizes_of(tensor_values(net, np.zeros((1, 3, 16, 16), np.float32)))
    work = {layer.name: work_of(net, layer, sizes) for layer in net.layers}
    assert work["c1"].kind == "first"
    assert work["c1"].macs == 16 * 16 * 16 * 3 * 9  # channels are counted in blocks of sixteen
    assert (work["m"].kind, work["m"].macs) == ("uneven depthwise", 16 * 16 * 16 * 9)
    assert (work["y"].kind, work["y"].positions, work["y"].macs) == ("gemm", 1, 80)


def test_the_shipped_table_says_how_long_what_takes() -> None:
    costs = shipped_costs()
    assert {"first", "dense", "depthwise", "pointwise", "gemm", "broadcast"} <= set(costs.operators)
    for kind, by in costs.operators.items():
        assert set(by) == ({"fp32"} if kind == FUSED else {"int8", "fp32"})
    for conversions in costs.conversions.values():
        assert set(conversions) == {"quantize", "dequantize", "reorder", "transpose"}


def test_what_is_too_small_to_tell_stays_in_int8(tmp_path: Path) -> None:
    from quantlab.model.model import Model

    model = Model.load(tiny_classifier(tmp_path / "m.onnx", size=16))
    net = read_net(prepared_for(model, Recipe()), Recipe())
    sizes = sizes_of(tensor_values(net, np.zeros((1, 3, 16, 16), np.float32)))
    assert place(net, sizes, shipped_costs()).regions == ()


def test_convolutions_over_volumes_have_costs_of_their_own(tmp_path: Path) -> None:
    """Those over images tell nothing of them."""
    cube = {"cube": np.array([0, CHANNELS, 4, 8, 8]), "square": np.array([0, CHANNELS, 16, 16])}
    kernels = {
        "dense": floats(CHANNELS, CHANNELS, 1, 3, 1),
        "pointwise": floats(CHANNELS, CHANNELS, 1, 1, 1),
        "grouped": floats(CHANNELS, 2, 1, 3, 1), "depthwise": floats(CHANNELS, 1, 1, 3, 1),
    }  # fmt: skip
    nodes, name = [node("Reshape", "a cube", "v0")], "v0"
    for kind, kernel in kernels.items():
        groups = CHANNELS // kernel.shape[1]
        pads = [0, kernel.shape[3] // 2, 0] * 2
        nodes.append(node("Conv", f"{name} {kind}", f"v{kind}", group=groups, pads=pads))
        name = f"v{kind}"
    nodes.append(node("Reshape", f"{name} square", "m"))
    net = read_net(prepared_for(network(tmp_path, nodes, cube | kernels), Recipe()), Recipe())
    sizes = sizes_of(tensor_values(net, next(iter(Images(1, 1)))))
    work = {layer.name: work_of(net, layer, sizes) for layer in net.layers}
    assert all(work[f"v{kind}"].kind == f"volume {kind}" for kind in kernels)
    assert {w.kind for w in work.values() if "volume" in w.kind} <= set(shipped_costs().operators)
