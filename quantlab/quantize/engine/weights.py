"""Round weights and correct biases layer by layer, in order, on the outputs of the quantized layers
before.

Each layer runs alone, on integers, so memory holds the few tensors that are still to be read, for a
fixed number of images. A piece of these at a time is computed by one thread, so that the number of
threads does not decide the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from quantlab.data.threads import ordered_map
from quantlab.errors import QuantizeError
from quantlab.quantize.engine.grid import Affine, Doubles, Floats, Grid, weight_limit
from quantlab.quantize.engine.moments import Moments, input_moments
from quantlab.quantize.engine.net import Layer
from quantlab.quantize.engine.observe import fixed_batch
from quantlab.quantize.engine.plan import QuantizationPlan, Rounded, room_for_bias
from quantlab.quantize.engine.qdq import integers, one_layer
from quantlab.quantize.engine.rounding import (
    PAIR,
    Bound,
    nearest,
    plain_scales,
    round_depthwise,
    round_rows,
    search_scales,
)
from quantlab.recipe import Recipe
from quantlab.runtime.environment import default_threads
from quantlab.runtime.graphs import graph_session

WIDEST = 8192
"""Inputs of a row from which on its weights are rounded to the nearest: the covariance of so many,
and what is computed of it, would take gigabytes."""
_PADDING = 0.01
"""The share of vectors of zeros from which on they are padding."""
_PIECE = 8
_WEIGHTS_AT_ONCE = 2**24
Tensors = dict[str, list[NDArray[np.generic]]]
"""By name, a tensor's values on one piece of the images after the other."""


def nearest_weights(plan: QuantizationPlan, recipe: Recipe) -> QuantizationPlan:
    """Weights to the nearest integer, biases as they are; needs no images."""
    made = {
        layer.output: round_layer(layer, None, plan, recipe)
        for layer in plan.net.layers
        if layer.quantized and layer.weight is not None
    }
    return replace(plan, weights=made)


def fitted_weights(
    plan: QuantizationPlan,
    recipe: Recipe,
    images: NDArray[np.generic],
    told: Callable[[float], None] = lambda share: None,
) -> QuantizationPlan:
    """Weights and biases by the recipe's ``rounding`` and ``bias_correction``.

    ``images`` are some calibration images as the model wants them, [n, …]; ``told`` hears which
    share of the layers is done.
    """
    rng = np.random.default_rng(recipe.seed)
    last = {name: i for i, layer in enumerate(plan.net.layers) for name in layer.inputs}
    step = fixed_batch(plan.net) or _PIECE
    pieces = [images[i : i + step] for i in range(0, len(images), step)]
    held: Tensors = {plan.net.input: [_first(plan, piece) for piece in pieces]}
    for i, layer in enumerate(plan.net.layers):
        told(i / len(plan.net.layers))
        if layer.quantized and layer.weight is not None:
            name = layer.inputs[0]
            seen = [np.asarray(piece, dtype=plan.grid.dtype) for piece in held[name]]
            second = _by_output_error(recipe) and layer.weight[0].size <= WIDEST
            moments = input_moments(layer, seen, plan.tensors[name], rng, second=second)
            made = round_layer(layer, moments, plan, recipe)
            plan = replace(plan, weights={**plan.weights, layer.output: made})
        if set(layer.outputs) & set(last):
            held.update(_run(plan, layer, held, len(pieces)))
        held = {name: values for name, values in held.items() if last.get(name, -1) > i}
    return plan


def _first(plan: QuantizationPlan, images: NDArray[np.generic]) -> NDArray[np.generic]:
    if plan.net.input not in plan.tensors:
        return images
    return quantized(np.asarray(images, np.float32), plan.tensors[plan.net.input], plan.grid)


def quantized(values: Floats, by: Affine, grid: Grid) -> NDArray[np.generic]:
    """What QuantizeLinear makes of float32 values: nearest even, saturated."""
    units = np.rint(values / np.float32(by.scale)) + by.zero
    return np.asarray(np.clip(units, grid.low, grid.high), grid.dtype)


def _run(plan: QuantizationPlan, layer: Layer, held: Tensors, count: int) -> Tensors:
    proto, feeds = one_layer(plan, layer, {name: held[name][0].dtype for name in layer.inputs})
    session = graph_session(proto, threads=1)
    names = [value.name for value in proto.graph.output]

    def answers(i: int) -> list[NDArray[np.generic]]:
        return list(session.run(names, {f: held[n][i] for n, f in feeds.items()}))

    made = list(ordered_map(answers, count, default_threads()))
    if not all(isinstance(array, np.ndarray) for array in made[0]):
        raise QuantizeError(
            f"node {layer.name} makes a sequence, and weights are fitted on tensors only.",
            "Use rounding: nearest with bias_correction: false.",
        )
    back = {integers(plan, name): name for name in layer.outputs}
    return {
        back.get(name, name): list(pieces)
        for name, pieces in zip(names, zip(*made, strict=True), strict=True)
    }


def round_layer(
    layer: Layer, moments: Moments | None, plan: QuantizationPlan, recipe: Recipe
) -> Rounded:
    """The layer's integers, scales and bias. Without ``moments``: nearest, bias as it is.

    The bias is corrected for what rounding did to the mean of each output channel:
    b' = b + (W − Ŵ) · E[x] (Nagel et al. 2019, Data-free quantization, with E[x] measured). Where
    zeros pad what the layer reads, as in Swin's windows, a channel without a bias is exactly zero,
    and what follows may divide by its norm: such a channel is left without one.
    """
    assert layer.weight is not None
    assert layer.bias is not None
    if layer.huge and layer.groups == 1 and recipe.per_channel:
        return _by_pieces(layer, moments, plan, recipe)
    rows = layer.weight.reshape(len(layer.weight), -1).astype(np.float64)
    bias = layer.bias.astype(np.float64)
    least = room_for_bias(np.zeros(len(rows)), bias, plan.tensors[layer.inputs[0]].scale)
    made, scales = _integers(layer, rows, moments, least, recipe)
    stored = scales.astype(np.float32)
    if moments is not None and recipe.bias_correction:
        lost = (rows - made * stored[:, None]).reshape(layer.groups, -1, rows.shape[1])
        padded = np.repeat(moments.zeros > _PADDING, len(rows) // layer.groups)
        shift = np.einsum("grk,gk->gr", lost, moments.mean).reshape(-1)
        bias = bias + np.where(padded & (bias == 0), 0.0, shift)
    kind = np.min_scalar_type(-weight_limit(recipe))
    return Rounded(made.astype(kind).reshape(layer.weight.shape), stored, bias)


def _by_pieces(
    layer: Layer, moments: Moments | None, plan: QuantizationPlan, recipe: Recipe
) -> Rounded:
    """The same, some rows at a time."""
    assert layer.weight is not None
    assert layer.bias is not None
    count = min(len(layer.weight), -(-layer.weight.size // _WEIGHTS_AT_ONCE))
    pieces = zip(
        np.array_split(layer.weight, count), np.array_split(layer.bias, count), strict=True
    )
    found = [
        round_layer(replace(layer, weight=weight, bias=bias), moments, plan, recipe)
        for weight, bias in pieces
    ]
    return Rounded(
        np.concatenate([part.integers for part in found]),
        np.concatenate([part.scales for part in found]),
        np.concatenate([part.bias for part in found]),
    )


def _by_output_error(recipe: Recipe) -> bool:
    """Rounding by output error chooses a scale for each row; one for all leaves no choice."""
    return recipe.rounding == "output-error" and recipe.per_channel


def _integers(
    layer: Layer, rows: Doubles, moments: Moments | None, least: Doubles, recipe: Recipe
) -> tuple[Doubles, Doubles]:
    bound = weight_bound(layer, recipe)
    covariance = None if moments is None else moments.covariance
    if covariance is None:
        # A single pair is not worth another scale for a very wide row, or for the whole tensor.
        if rows.shape[1] > WIDEST or not recipe.per_channel:
            scales = np.maximum(plain_scales(rows, bound.limit), least)
        else:
            scales = search_scales(rows, None, bound, least)
        if not recipe.per_channel:
            scales = np.full(len(rows), scales.max())
        scales = scales.astype(np.float32).astype(np.float64)
        return nearest(rows, scales, bound), scales
    if layer.depthwise:
        return round_depthwise(rows, covariance, bound.limit, least)
    groups = np.split(rows, layer.groups), covariance, np.split(least, layer.groups)
    with threadpool_limits(1, "blas"):
        parts = [round_rows(part, H, bound, low) for part, H, low in zip(*groups, strict=True)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def weight_bound(layer: Layer, recipe: Recipe) -> Bound:
    """What the layer's integers are bound to by the recipe's types and ``portable``.

    Kernels without VNNI add two neighbours in 16 bits: input channels of one kernel position, then
    of the next (ONNX Runtime's MLAS), or within each position (oneDNN); with an even number of
    channels that is the same. Depthwise convolutions are summed in 32 bits.
    """
    limit = weight_limit(recipe)
    assert layer.weight is not None
    pairs = recipe.portable and recipe.activations in ("u8", "dynamic") and recipe.weights == "s8"
    if not pairs or limit <= PAIR // 2 or layer.depthwise:
        return Bound(limit)
    channels, positions = layer.weight.shape[1], math.prod(layer.weight.shape[2:])
    row = np.arange(channels * positions).reshape(channels, positions)
    flat, each = row.T.reshape(-1), row.T
    found = [_partners(flat[None])]
    if channels % 2 and positions > 1:
        found.append(_partners(each))
    return Bound(limit, tuple(found))


def _partners(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each number in rows [n, m] the neighbour that it is added to, itself for an odd last."""
    found = np.arange(order.size)
    even = order.shape[1] // 2 * 2
    first, second = order[:, :even:2].reshape(-1), order[:, 1:even:2].reshape(-1)
    found[first], found[second] = second, first
    return found
