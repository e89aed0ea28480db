"""quantlab's own quantization engine: ranges, equalization, rounding and bias correction.

    prepare → read_net → place → describe → equalize → ranges → weights → range search → write

Each part is a field of the Recipe. Nothing here needs more than numpy, scipy, onnx, onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.errors import QuantizeError
from quantlab.model.model import Model
from quantlab.quantize.checks import check_weights
from quantlab.quantize.costs import Costs, shipped_costs
from quantlab.quantize.engine.activations import HARD_SWISH_OPSET
from quantlab.quantize.engine.channels import ChannelWatch
from quantlab.quantize.engine.dynamic import write_dynamic
from quantlab.quantize.engine.equalize import Equalized, Equalizer, late, scaled_groups
from quantlab.quantize.engine.forms import to_int8_forms
from quantlab.quantize.engine.grid import Doubles, Grid, activation_grid, weight_storage
from quantlab.quantize.engine.held_out import HeldOut, Images, clearly_less
from quantlab.quantize.engine.net import Net, check_excluded, read_net
from quantlab.quantize.engine.observe import (
    Batches,
    Observe,
    Watch,
    fixed_batch,
    observe_tensors,
    showing,
    spread_batches,
    watch,
)
from quantlab.quantize.engine.place import (
    Shapes,
    Times,
    place,
    sizes_of,
    speed_front,
    tensor_values,
)
from quantlab.quantize.engine.plan import (
    QuantizationPlan,
    fixed_bounds,
    quantizers,
    shares_input_quantizer,
)
from quantlab.quantize.engine.qdq import INT16_OPSET, write_qdq
from quantlab.quantize.engine.qoperator import write_qoperator
from quantlab.quantize.engine.ranges import (
    Candidates,
    MinMax,
    Range,
    RangeEstimator,
    range_estimator,
)
from quantlab.quantize.engine.search import Search, search_ranges
from quantlab.quantize.engine.timed import times_of
from quantlab.quantize.engine.weights import fitted_weights, nearest_weights
from quantlab.quantize.placement import FrontPoint, Placement, write_placement
from quantlab.quantize.prepare import MIN_OPSET, prepare
from quantlab.quantize.protocol import Calibration
from quantlab.recipe import Recipe

SOME_IMAGES = 128
"""Channels are described by so many images, weights fitted on one half of them, and ranges
searched on the other; more gain little (see docs/engine.md)."""


TRIED = 32
"""Images that judge equalization, and as many for the ranges beside it."""
LEAST_GAIN = 0.8
"""Equalization is left off when the error without it is clearly less than this share."""
PLAIN = {
    "engine": "quantlab",
    "format": "qdq",
    "equalize": False,
    "smooth": None,
    "bias_correction": False,
    "rounding": "nearest",
    "range_search": False,
    "exclude": (),
}
"""What a recipe is changed by for a file that is made in no time: plain ranges, nearest weights."""
Told = Callable[[str, float], None]
"""Is told the step that begins and the share, 0 to 1, of all work that is done."""


def untold(step: str, share: float) -> None:
    """Tells nobody."""


_Made = tuple[tuple[str, Recipe], Calibration, QuantizationPlan, Placement | None]
_FAST_TYPES = ("u8", "s8")
"""Of activations and of weights: the table of costs holds for these."""


class QuantlabEngine:
    """See the package's docstring."""

    name = "quantlab"

    def __init__(self, observe: Observe = observe_tensors, told: Told = untold) -> None:
        self._observe, self.told = observe, told
        self._last: _Made | None = None

    def quantize(self, model: Model, recipe: Recipe, calibration: Calibration) -> onnx.ModelProto:
        """See Engine.quantize. Memory does not grow with the number of calibration images.

        The last plan is kept: another format of the same recipe costs no more than writing it.
        """
        key = (model.sha256, recipe.model_copy(update={"format": "qdq", "name": ""}))
        if self._last is None or self._last[0] != key or self._last[1] is not calibration:
            self.told("placing operators", 0.0)
            net, placement = placed_net(prepared_for(model, recipe), recipe, calibration)
            plan = make_plan(net, recipe, calibration, self._observe, self.told)
            self._last = (key, calibration, plan, placement)
        _, _, plan, placement = self._last
        proto = _writer(recipe)(plan)
        if placement is not None:
            write_placement(proto, placement)
        return proto


def _writer(recipe: Recipe) -> Callable[[QuantizationPlan], onnx.ModelProto]:
    if recipe.activations == "dynamic":
        return write_dynamic
    return write_qdq if recipe.format == "qdq" else write_qoperator


def prepared_for(model: Model, recipe: Recipe) -> onnx.ModelProto:
    """The graph that the engine quantizes: prepared, and of the opset that the types need.

    Raises QuantizeError when it cannot be prepared, weights are NaN or infinite, or a node to
    exclude does not exist.
    """
    wide = recipe.activations in ("u16", "s16") or recipe.weights in ("s4", "s16")
    usual = HARD_SWISH_OPSET if recipe.fused_activations else MIN_OPSET
    proto = prepare(model.proto(), min_opset=INT16_OPSET if wide else usual)
    check_weights(proto, model.path)
    names = {node.name for node in proto.graph.node}
    standard = recipe.operators == "standard"
    to_int8_forms(proto, standard=standard, fused=recipe.fused_activations)
    check_excluded(recipe, names | {node.name for node in proto.graph.node})
    proto.ir_version = max(proto.ir_version, 10 if wide else 0)
    del proto.graph.value_info[:]
    prepared = onnx.ModelProto()  # in the other all that was replaced still takes memory
    prepared.CopyFrom(proto)
    return prepared


def placed_net(
    prepared: onnx.ModelProto, recipe: Recipe, calibration: Calibration
) -> tuple[Net, Placement | None]:
    """The net with everything in int8 that the recipe's placement puts there, and the placement;
    None for types that no table of costs is for: they are placed the widest.

    Raises QuantizeError when nothing can be quantized.
    """
    net = read_net(prepared, recipe)
    fast = (recipe.activations, recipe.weights) == _FAST_TYPES and not recipe.fused_activations
    if not fast or not len(calibration):
        return net, None
    placement = place(*_timed(net, recipe, calibration), all_int8=recipe.placement == "widest")
    left = list(placement.left)
    return read_net(prepared, recipe, left) if left else net, placement


def placements(
    prepared: onnx.ModelProto,
    recipe: Recipe,
    calibration: Calibration,
    errors: Mapping[str, float],
) -> tuple[FrontPoint, ...]:
    """The front of speed against accuracy that begins with the recipe's own placement (see
    ``place.speed_front``). Raises QuantizeError when nothing can be quantized."""
    timed = _timed(read_net(prepared, recipe), recipe, calibration)
    return speed_front(*timed, errors=errors, all_int8=recipe.placement == "widest")


def _timed(
    net: Net, recipe: Recipe, calibration: Calibration
) -> tuple[Net, Shapes, Costs, Times | None]:
    """What a placement is chosen by: the net, its tensors' shapes on an image (or a fixed batch),
    the table of costs, and what was measured, if the recipe wants that."""
    images = next(iter(calibration))[: fixed_batch(net) or 1]
    values = tensor_values(net, images)
    measured = None
    if recipe.placement == "measured":
        plain = recipe.model_copy(update=PLAIN)
        measured = times_of(net, values, lambda: make_plan(net, plain, _Once(images)))
    return net, sizes_of(values), shipped_costs(), measured


class _Once(list[NDArray[np.generic]]):
    """One batch as calibration images."""

    def __init__(self, images: NDArray[np.generic]) -> None:
        super().__init__([images])


def make_plan(
    net: Net,
    recipe: Recipe,
    calibration: Calibration,
    observe: Observe = observe_tensors,
    told: Told = untold,
) -> QuantizationPlan:
    """Everything the recipe asks for, decided on the calibration images, which ``observe`` shows
    to range estimators. ``told`` hears of each step.

    Raises QuantizeError when there are none, or a tensor is NaN or infinite on one.
    """
    if not len(calibration):
        raise QuantizeError("there is no calibration image.")
    told("describing channels", 0.05)
    some = spread_batches(net, calibration, SOME_IMAGES)
    fitting = some[::2]
    equalizer, judge = _described(net, recipe, fitting, some[1::2])
    told("observing ranges", 0.2)
    start, seen = _observed(equalizer, recipe, calibration, observe)
    ranges = _ranges(start, seen)
    plan = _unrounded(start.net, ranges, recipe)
    corrects = recipe.rounding != "nearest" or recipe.bias_correction
    if corrects:
        told("fitting weights", 0.45)
        images = np.concatenate(fitting)
        plan = fitted_weights(
            plan, recipe, images, lambda share: told("fitting weights", 0.45 + 0.35 * share)
        )
    else:
        plan = nearest_weights(plan, recipe)
    if not recipe.range_search:
        return plan
    told("searching ranges", 0.8)
    found = {n: e.ranges() for n, e in seen.items() if isinstance(e, Candidates)}
    search = Search(judge, plan)
    search_ranges(search, ranges, found)
    widest = {name: by["minmax"] for name, by in found.items()} | equalizer.extremes()
    told("trying simpler plans", 0.95)
    plain = [search.plan] if corrects else []
    for simpler in (*plain, _unrounded(net, widest, recipe)):
        # The bound of pairs takes time and only makes weights worse.
        if search.consider(nearest_weights(simpler, _unbounded(recipe)), adopt=False):
            search.consider(nearest_weights(simpler, recipe))
    return search.plan


def _unrounded(net: Net, ranges: Mapping[str, Range], recipe: Recipe) -> QuantizationPlan:
    """The plan of these ranges, without weights."""
    grid, (dtype, zero) = activation_grid(recipe), weight_storage(recipe)
    tensors = quantizers(net, ranges, grid)
    return QuantizationPlan(net, grid, dtype, zero, tensors, {}, *_written(recipe))


def _unbounded(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"portable": False})


def _written(recipe: Recipe) -> tuple[Literal["auto", "int32", "fp32"], bool]:
    """How biases are written, and whether weights have one number as their scale."""
    return recipe.bias, recipe.operators == "standard" and not recipe.per_channel


@np.errstate(all="ignore")  # what is not finite is refused, by name, once all images are seen
def _described(
    net: Net, recipe: Recipe, fitting: Images, judging: Images
) -> tuple[Equalizer, HeldOut]:
    """What equalizes the network, and the images that judge, after one pass over both kinds of
    images: equalization is left off where it harms."""
    some = [*fitting, *judging]
    groups = scaled_groups(net, recipe)
    seen = ChannelWatch(net, [name for group in groups for name in group], late(net, groups))
    judge = HeldOut(net, judging or fitting, range(len(fitting) if judging else 0, len(some)))
    few = max(1, TRIED // len(some[0]))
    tries = recipe.equalize and groups
    others = [name for name in _open_tensors(net) if name not in seen.watch.names]
    extremes = {name: MinMax() for name in others} if tries else {}
    trial = Watch(list(extremes), showing(net, {}, extremes), range(few))
    judges = [judge.watch] if recipe.range_search or tries else []
    watch(net, [seen.watch, *judges, trial], some)
    equalizer = Equalizer(net, recipe, seen.channels())
    if tries:
        rows = np.arange(sum(map(len, fitting)))
        ranges = {name: found.range() for name, found in extremes.items()}
        if _equalization_harms(equalizer, rows, ranges, partial(judge.errors, batches=few)):
            plainly = recipe.model_copy(update={"equalize": False})
            equalizer = Equalizer(net, plainly, seen.channels())
    return equalizer, judge


def _equalization_harms(
    equalizer: Equalizer,
    rows: NDArray[np.int64],
    ranges: Mapping[str, Range],
    errors: Callable[[QuantizationPlan], Doubles],
) -> bool:
    """Whether the network clearly answers better without equalization to images that the channels'
    scales were not made of, which are the images of ``rows``: tried with min-max ranges, of the
    tensors that are never scaled ``ranges``, and nearest weights."""
    start, plain = equalizer.tried(rows)
    if not any(np.ptp(by) for by in start.scales.values()):
        return False
    recipe = _unbounded(equalizer.recipe)
    without, equalized = (
        errors(nearest_weights(_unrounded(n, {**ranges, **plain, **more}, recipe), recipe))
        for n, more in ((equalizer.net, {}), (start.net, start.ranges))
    )
    return clearly_less(without, equalized * LEAST_GAIN)


def _ranges(start: Equalized, seen: Mapping[str, RangeEstimator]) -> dict[str, Range]:
    return {**start.ranges, **{name: estimator.range() for name, estimator in seen.items()}}


def _open_tensors(net: Net) -> list[str]:
    """The tensors whose range is not given by the network."""
    return [
        name
        for name in net.quantized_tensors
        if not shares_input_quantizer(net, name) and fixed_bounds(net, name) is None
    ]


def _observed(
    equalizer: Equalizer,
    recipe: Recipe,
    calibration: Batches,
    observe: Observe,
) -> tuple[Equalized, dict[str, RangeEstimator]]:
    """The net equalized, and what was seen of each tensor whose range that leaves open: one pass
    over all images; what waits for its scales was seen before, on some of them."""
    net, grid = equalizer.net, activation_grid(recipe)
    names = [name for name in _open_tensors(net) if name not in equalizer.peaks]
    seen = {name: _estimator(recipe, grid) for name in names}
    early = {name: seen[name] for name in names if name not in equalizer.waiting}
    observe(net, equalizer.scales, {**early, **equalizer.peaks}, calibration)
    start = equalizer.finish()
    for name in (name for name in names if name not in early):
        equalizer.channels[name].show(name, seen[name], start.scales[name])
    return start, seen


def _estimator(recipe: Recipe, grid: Grid) -> RangeEstimator:
    own = range_estimator(recipe, grid.steps)
    return Candidates(own, grid.steps, recipe.percentile) if recipe.range_search else own
