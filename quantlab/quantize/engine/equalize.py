"""Cross-layer equalization: scale channels so that one quantizer fits them all.

A channel multiplied by v where it is made and divided by v where it is read changes nothing in fp32
(Nagel et al. 2019, Data-free quantization). It also works through ReLU6: with v ≥ 1, and v times
what a channel reaches at most 6, the quantizer that ends at 6 serves for the clip, and each channel
is clipped where its own values end. Through any other clip nothing is scaled. A depthwise reader
takes v at no cost; other readers' weights get less even, so that the exponent of v is chosen by the
noise that both would make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quantlab.model import graph as g
from quantlab.model.large import Weights
from quantlab.quantize.engine.channels import Channels, ImageChannels
from quantlab.quantize.engine.grid import Doubles, Floats, activation_grid, weight_limit
from quantlab.quantize.engine.net import Layer, Net
from quantlab.quantize.engine.ranges import ChannelPeaks, Range
from quantlab.recipe import Recipe

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
WEIGHT_NOISE = {"nearest": 1.0, "output-error": 0.3}
"""What is left of the rounding noise of weights, by how they are rounded."""
_FLOOR = {True: 1e-3, False: 1e-2}


@dataclass(frozen=True, eq=False)
class Equalized:
    """The net with scaled weights; float32 [channels] scales of tensors; ranges known already."""

    net: Net
    scales: Mapping[str, Floats]
    ranges: Mapping[str, Range]


class Equalizer:
    """Equalizes every group of tensors that allows it; with ``smooth`` alone, those that a Gemm
    reads.

    Some images say how far channels usually reach, and give ``scales`` of tensors without an
    activation at once. Activations wait until ``peaks`` have been shown all images: some channels
    fire for one class only, and a range that a few images suggest, or that clips them to spare all
    others a little rounding noise, costs little on average and everything on that class.
    """

    @np.errstate(all="ignore")  # what is not finite is refused, by name, once all images are seen
    def __init__(self, net: Net, recipe: Recipe, channels: Mapping[str, ImageChannels]) -> None:
        self.net, self.recipe, self.channels = net, recipe, channels
        groups = scaled_groups(net, recipe)
        facts = {name: channels[name].facts for group in groups for name in group}
        groups = [g for g in groups if len({len(facts[name].top) for name in g}) == 1]
        self._waiting = [group for group in groups if _activations(net, group)]
        self._groups, self._facts = groups, facts
        self.scales = self._scales([g for g in groups if g not in self._waiting], facts)
        bounded = (name for name in self.waiting if net.never_negative(name))
        self.peaks = {name: ChannelPeaks() for name in bounded}

    @property
    def waiting(self) -> list[str]:
        """Tensors whose scales are not known before ``finish``."""
        return [name for group in self._waiting for name in group]

    def finish(self) -> Equalized:
        """All scales, the ranges of activations, and the weights scaled."""
        facts = dict(self._facts)
        for name, seen in self.peaks.items():
            facts[name] = replace(facts[name], top=seen.peaks)
        scales = self.scales | self._scales(self._waiting, facts)
        ranges = {n: (0.0, float((p.peaks * scales[n]).max())) for n, p in self.peaks.items()}
        return Equalized(_scaled_net(self.net, scales), scales, ranges)

    def extremes(self) -> dict[str, Range]:
        """The tensors' min-max ranges without equalization, once ``peaks`` have seen all images."""
        names = [name for group in self._groups for name in group]
        some = {name: self.channels[name].extremes() for name in names}
        return some | {name: (0.0, float(p.peaks.max())) for name, p in self.peaks.items()}

    def tried(self, rows: NDArray[np.int64]) -> tuple[Equalized, dict[str, Range]]:
        """What it would be if there were no images but these of ``some``, with the tensors' min-max
        ranges on them, and those that they have without equalization."""
        part = {name: channels.of(rows) for name, channels in self.channels.items()}
        scales = self._scales(self._groups, {name: seen.facts for name, seen in part.items()})
        ranges = {name: part[name].extremes(by) for name, by in scales.items()}
        plain = {name: seen.extremes() for name, seen in part.items()}
        return Equalized(_scaled_net(self.net, scales), scales, ranges), plain

    def _scales(
        self, groups: Sequence[Sequence[str]], facts: Mapping[str, Channels]
    ) -> dict[str, Floats]:
        by = {tuple(group): _group_scales(self.net, group, facts, self.recipe) for group in groups}
        return {name: scales for group, scales in by.items() for name in group}


def scaled_groups(net: Net, recipe: Recipe) -> list[list[str]]:
    """The groups of tensors that the recipe wants scaled, and that can be."""
    return [
        group
        for group in tensor_groups(net)
        if (recipe.equalize or (recipe.smooth is not None and _read_by_gemm(net, group)))
        and _can_scale(net, group)
    ]


def late(net: Net, groups: Sequence[Sequence[str]]) -> set[str]:
    """The tensors of these groups whose scales are not known before ``finish``, nor their ranges
    then: of these the channels' values are to be kept."""
    waiting = (name for group in groups if _activations(net, group) for name in group)
    return {name for name in waiting if not net.never_negative(name)}


def tensor_groups(net: Net) -> list[list[str]]:
    """Groups of quantized tensors, with the floats between quantized layers, that must have the
    same channel scales, in order of appearance."""
    root = {name: name for name in net.exchanged_tensors}

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for layer in net.layers:
        if layer.quantized and layer.row.scales_channels:
            for name in layer.inputs:
                root[find(name)] = find(layer.output)
    groups: dict[str, list[str]] = {}
    for name in net.exchanged_tensors:
        groups.setdefault(find(name), []).append(name)
    return list(groups.values())


def _can_scale(net: Net, group: Sequence[str]) -> bool:
    if _normalized(net, group):
        return not any(reader.huge for reader in net.consumers[group[0]])
    outputs = {v.name for v in net.proto.graph.output}
    touching = [reader for name in group for reader in net.consumers.get(name, [])]
    producers = [net.producers[name] for name in group if name in net.producers]
    return (
        len(producers) == len(group)
        and not outputs.intersection(group)
        and all(_takes_scale(layer) for layer in (*touching, *producers))
        and (_activations(net, group) or all(maker.high == np.inf for maker in producers))
        and all(layer.groups == 1 or layer.depthwise for layer in touching)
        and not any(layer.huge for layer in (*touching, *producers))
    )


def _read_by_gemm(net: Net, group: Sequence[str]) -> bool:
    return any(r.kind == "Gemm" for name in group for r in net.consumers.get(name, []))


def _takes_scale(layer: Layer) -> bool:
    """Whether scaled inputs make scaled outputs; an upper bound is kept to by ``_within_bounds``,
    and for that the lower one has to be zero."""
    known = layer.weight is not None or layer.row.scales_channels
    flat = layer.kind != "Flatten" or g.attribute(layer.node, "axis", 1) == 1
    unbounded = layer.low == -np.inf and layer.high == np.inf
    written = layer.quantized or layer.kind == "Conv"
    return written and known and flat and (layer.low == 0 or unbounded)


def _normalized(net: Net, group: Sequence[str]) -> bool:
    """Whether the group is one tensor that a LayerNormalization in fp32 makes for products."""
    return len(group) == 1 and bool(net.normalization(group[0]))


def _activations(net: Net, group: Sequence[str]) -> bool:
    """Whether every tensor that a layer with weights or a sum makes here is never negative."""
    if _normalized(net, group):
        return False
    made = [
        n for n in group if net.producers[n].weight is not None or net.producers[n].kind == "Add"
    ]
    return all(net.never_negative(name) for name in made)


def _group_scales(
    net: Net, group: Sequence[str], facts: Mapping[str, Channels], recipe: Recipe
) -> Floats:
    """Scales ≥ 1 of a group's channels, float32 [channels]."""
    noise = RoundingNoise.of_recipe(recipe)
    pairs = [(name, r) for name in group for r in net.consumers.get(name, [])]
    consumers = [(name, r) for name, r in pairs if r.weight is not None]
    if recipe.smooth is not None and _read_by_gemm(net, group):
        scales = smooth_scales(group, facts, consumers, recipe.smooth)
    elif not _activations(net, group):
        scales = sum_scales(group, facts, consumers, noise)
    else:
        scales = _activation_scales(net, group, facts, consumers, noise)
    return _stable(_within_bounds(net, group, facts, scales / scales.min()))


def _within_bounds(
    net: Net, group: Sequence[str], facts: Mapping[str, Channels], scales: Doubles
) -> Doubles:
    """Scales ≥ 1 lowered so far that no channel reaches beyond its activation's upper bound."""
    for name in group:
        high = net.producers[name].high
        if high < np.inf:
            scales = np.minimum(scales, np.maximum(high / np.maximum(facts[name].top, 1e-30), 1.0))
    return scales


def _activation_scales(
    net: Net,
    group: Sequence[str],
    facts: Mapping[str, Channels],
    consumers: Sequence[tuple[str, Layer]],
    noise: RoundingNoise,
) -> Doubles:
    """Of tensors that are never negative: the power of what channels reach that makes least noise
    in all readers."""
    reach = np.max([facts[n].top for n in group if net.never_negative(n)], axis=0)
    reach = _relative(reach, _FLOOR[True])
    costs = [sum(noise(r, facts[n], reach**-a) for n, r in consumers) for a in EXPONENTS]
    return np.asarray(reach ** -EXPONENTS[int(np.argmin(costs))])


def _relative(reach: Doubles, floor: float) -> Doubles:
    """Shares of the largest; dead channels count as ``floor``."""
    return np.asarray(np.maximum(reach / max(reach.max(), 1e-30), floor))


def _stable(scales: Doubles) -> Floats:
    """Scales of at least 1, to 9 bits: the last bits of sums must not decide the file."""
    mantissa, exponent = np.frexp(scales / scales.min())
    return np.asarray(np.ldexp(np.rint(mantissa * 512) / 512, exponent), np.float32)


def linear_scales(
    group: Sequence[str], facts: Mapping[str, Channels], consumers: Sequence[tuple[str, Layer]]
) -> Doubles:
    """Of tensors without an activation, residual sums above all: √(weight / reach), where what a
    channel reaches and the weights that read it meet in the middle (Nagel et al. 2019).

    Whatever scales a model came with, the same ones result.
    """
    reach = np.exp(np.mean([np.log(np.maximum(facts[n].usual, 1e-30)) for n in group], axis=0))
    weight = np.ones_like(reach)
    if matrices := [_columns(layer) for _, layer in consumers if not layer.depthwise]:
        shares = [m / np.maximum(m.max((1, 2), keepdims=True), 1e-30) for m in matrices]
        weight = np.sqrt(sum((share**2).sum((0, 2)) for share in shares))
        weight = np.maximum(weight, 1e-6 * (weight.max() or 1.0))
    return np.asarray(weight / np.sqrt(_relative(reach * weight, _FLOOR[False])))


def sum_scales(
    group: Sequence[str],
    facts: Mapping[str, Channels],
    consumers: Sequence[tuple[str, Layer]],
    noise: RoundingNoise,
) -> Doubles:
    """The power of ``linear_scales`` that makes least noise in all readers.

    Each tensor of the group is rounded with a step of its own; a sum carries the rounding of those
    before it on, so that every reader is given the noise of all.
    """
    scales = linear_scales(group, facts, consumers)
    scales = scales / scales.min()

    def cost(exponent: float) -> float:
        by = scales**exponent
        reach = np.sqrt(sum(float((facts[name].top * by).max()) ** 2 for name in group))
        return sum(
            noise(reader, replace(facts[name], top=reach / by), by) for name, reader in consumers
        )

    costs = [cost(exponent) for exponent in EXPONENTS]
    return np.asarray(scales ** EXPONENTS[int(np.argmin(costs))])


def smooth_scales(
    group: Sequence[str],
    facts: Mapping[str, Channels],
    consumers: Sequence[tuple[str, Layer]],
    strength: float,
) -> Doubles:
    """SmoothQuant (Xiao et al. 2023): activations over max|X|^α / max|W|^(1−α), per channel."""
    activations = np.max([facts[name].usual for name in group], axis=0)
    matrices = [_columns(layer) for _, layer in consumers if layer.kind == "Gemm"]
    weights = np.max([matrix.max((0, 2)) for matrix in matrices], axis=0)
    migrated = _relative(activations, 1e-3) ** strength / _relative(weights, 1e-3) ** (1 - strength)
    return np.asarray(1 / migrated)


def _columns(layer: Layer) -> Doubles:
    """|weights| as [out, in, kernel size]; in is out for a depthwise layer."""
    assert layer.weight is not None
    weight = np.abs(layer.weight.astype(np.float64))
    return weight.reshape(*weight.shape[:2], -1)


@dataclass(frozen=True)
class RoundingNoise:
    """What rounding to ``steps`` intervals of an input, and to ``limit`` on either side of zero of
    a weight, does to a layer's output; ``weights`` is the share of the latter that is left."""

    steps: int
    limit: int
    weights: float

    @classmethod
    def of_recipe(cls, recipe: Recipe) -> RoundingNoise:
        """By the recipe's types and rounding."""
        steps, limit = activation_grid(recipe).steps, weight_limit(recipe)
        return cls(steps, limit, WEIGHT_NOISE[recipe.rounding])

    def __call__(self, reader: Layer, facts: Channels, scales: Doubles) -> float:
        """Output noise over output power of a layer that reads channels scaled so: that of rounding
        its inputs and, unless it is depthwise, its weights."""
        step = float((facts.top * scales).max()) / self.steps
        weight = _columns(reader)
        energy = (weight**2).sum(2)
        if reader.depthwise:
            energy = energy.T
        power = float((energy * facts.power).sum()) + 1e-30
        rounding = float((energy / scales**2).sum()) * step**2 / 12
        if reader.depthwise:
            return rounding / power
        row_steps = (weight / scales[:, None]).max((1, 2)) / self.limit
        inputs = float((scales**2 * facts.power).sum()) * weight.shape[2]
        return float((rounding + self.weights * (row_steps**2).sum() / 12 * inputs) / power)


def _scaled_net(net: Net, scales: Mapping[str, Floats]) -> Net:
    constants = _scaled_constants(net, scales)
    layers = (_scaled_layer(layer, scales, constants.get(layer.name, {})) for layer in net.layers)
    return replace(net, layers=tuple(layers))


def _scaled_constants(net: Net, scales: Mapping[str, Floats]) -> dict[str, dict[int, Floats]]:
    """Constants of normalizations in fp32, by their layer's name, with what reads them scaled."""
    weights = Weights(net.proto.graph)
    found: dict[str, dict[int, Floats]] = {}
    for name, by in scales.items():
        for layer, i in net.normalization(name):
            value = weights[layer.node.input[i]].astype(np.float32) * by
            found.setdefault(layer.name, {})[i] = value
    return found


def _scaled_layer(
    layer: Layer, scales: Mapping[str, Floats], constants: Mapping[int, Floats]
) -> Layer:
    """Its weights scaled; those of a convolution in fp32 are to be read in place of its own."""
    if layer.weight is None or layer.bias is None:
        return replace(layer, constants=constants)
    weight, bias = layer.weight, layer.bias
    made, read = scales.get(layer.output), scales.get(layer.inputs[0])
    if made is not None:
        weight, bias = weight * made.reshape(-1, *[1] * (weight.ndim - 1)), bias * made
    if read is not None:
        axis = -1 if layer.depthwise else 1
        shape = (-1, *[1] * (weight.ndim - 1)) if axis == -1 else (1, -1, *[1] * (weight.ndim - 2))
        weight = weight / read.reshape(shape)
    if not layer.quantized and (made is not None or read is not None):
        given = len(layer.node.input) > 2 and layer.node.input[2]
        constants = {**constants, 1: weight, **({2: bias} if given else {})}
    return replace(layer, weight=weight, bias=bias, constants=constants)
