"""quantlab's own engine: ranges, equalization, rounding and biases chosen on the outputs they make.

    prepare → read_net → equalize → ranges → weights and biases → write

Each part is a field of the Recipe. Nothing here needs more than numpy, scipy, onnx, onnxruntime.
"""

from __future__ import annotations

import onnx

from quantlab.errors import QuantizeError
from quantlab.model import Model
from quantlab.quantize.engine.equalize import Equalized, equalized
from quantlab.quantize.engine.grid import activation_grid, affine, weight_storage
from quantlab.quantize.engine.net import SAME_SCALE, Net, classifier_as_gemm, read_net
from quantlab.quantize.engine.observe import First, first_images, observed_ranges
from quantlab.quantize.engine.plan import Plan
from quantlab.quantize.engine.qdq import INT16_OPSET, write_qdq
from quantlab.quantize.engine.qoperator import write_qoperator
from quantlab.quantize.engine.ranges import Range
from quantlab.quantize.engine.weights import IMAGES, fitted_weights, nearest_weights
from quantlab.quantize.prepare import MIN_OPSET, prepare
from quantlab.quantize.protocol import Calibration
from quantlab.recipe import Recipe

EQUALIZE_IMAGES = 128


class QuantlabEngine:
    """See the package's docstring."""

    name = "quantlab"

    def __init__(self) -> None:
        self._last: tuple[tuple[str, Recipe], Calibration, Plan] | None = None

    def quantize(self, model: Model, recipe: Recipe, calibration: Calibration) -> onnx.ModelProto:
        """See Engine.quantize. Memory does not grow with the number of calibration images.

        The last plan is kept: another format of the same recipe costs no more than writing it.
        """
        key = (model.sha256, recipe.model_copy(update={"format": "qdq", "name": ""}))
        if self._last is None or self._last[0] != key or self._last[1] is not calibration:
            net = read_net(prepared_for(model, recipe), recipe)
            self._last = (key, calibration, make_plan(net, recipe, calibration))
        plan = self._last[2]
        return write_qdq(plan) if recipe.format == "qdq" else write_qoperator(plan)


def prepared_for(model: Model, recipe: Recipe) -> onnx.ModelProto:
    """The graph that the engine quantizes: prepared, and of the opset that the types need."""
    wide = recipe.activations in ("u16", "s16") or recipe.weights in ("s4", "s16")
    proto = prepare(model.proto(), min_opset=INT16_OPSET if wide else MIN_OPSET)
    classifier_as_gemm(proto)
    proto.ir_version = max(proto.ir_version, 10 if wide else 0)
    del proto.graph.value_info[:]
    return proto


def make_plan(net: Net, recipe: Recipe, calibration: Calibration) -> Plan:
    """Everything the recipe asks for, decided on the calibration images.

    Raises QuantizeError when there are none, or a tensor is NaN or infinite on one.
    """
    if not len(calibration):
        raise QuantizeError("there is no calibration image.")
    grid = activation_grid(recipe)
    start = Equalized(net, {}, {})
    if recipe.equalize or recipe.smooth is not None:
        start = equalized(net, First(calibration, EQUALIZE_IMAGES), recipe)
    net = start.net
    names = [n for n in net.quantized_tensors if n not in start.ranges and not _borrows(net, n)]
    ranges = {
        **start.ranges,
        **observed_ranges(net, start.scales, names, calibration, recipe, grid),
    }
    tensors = {n: affine(*within(net, n, ranges[n]), grid) for n in ranges}
    for name in net.quantized_tensors:
        if name not in tensors:
            tensors[name] = tensors[net.makers[name].inputs[0]]
    dtype, zero = weight_storage(recipe)
    plan = Plan(net, grid, dtype, zero, tensors, {})
    if recipe.rounding == "nearest" and not recipe.bias_correction:
        return nearest_weights(plan, recipe)
    return fitted_weights(plan, recipe, first_images(calibration, IMAGES))


def _borrows(net: Net, name: str) -> bool:
    """Whether the tensor only moves numbers about, and has its source's quantizer."""
    maker = net.makers.get(name)
    return maker is not None and maker.quantized and maker.kind in SAME_SCALE


def within(net: Net, name: str, found: Range) -> Range:
    """The range cut to what the tensor's activation lets through."""
    maker = net.makers.get(name)
    low, high = (maker.low, maker.high) if maker is not None else (-float("inf"), float("inf"))
    return max(found[0], low), min(found[1], high)
