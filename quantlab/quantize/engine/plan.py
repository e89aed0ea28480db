"""Plan: all decisions that a writer needs to write the quantized file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quantlab.quantize.engine.grid import Affine, Doubles, Floats, Grid, affine
from quantlab.quantize.engine.net import Layer, Net, hard_sigmoid_of
from quantlab.quantize.engine.ranges import Range


@dataclass(frozen=True, eq=False)
class Rounded:
    """A layer's weights: ``integers`` (signed, shaped like the weight) times ``scales`` float32
    [out], and its bias in real units, float64 [out]."""

    integers: NDArray[np.signedinteger]
    scales: Floats
    bias: Doubles


@dataclass(frozen=True, eq=False)
class QuantizationPlan:
    """The net, the quantizer of each tensor, the weights of each layer (by its output's name).

    ``per_tensor``: scales of weights are written as the one number that they all are.
    """

    net: Net
    grid: Grid
    weight_dtype: np.dtype[np.generic]
    weight_zero: int
    tensors: Mapping[str, Affine]
    weights: Mapping[str, Rounded]
    bias: Literal["auto", "int32", "fp32"] = "auto"
    per_tensor: bool = False

    @property
    def integer_bias(self) -> bool:
        """Whether biases are int32, as integer kernels want them: by default with 8-bit types."""
        eight_bit = self.grid.dtype.itemsize == 1 and self.weight_dtype in (np.int8, np.uint8)
        return eight_bit if self.bias == "auto" else self.bias == "int32"

    def requantizer(self, layer: Layer) -> Affine | None:
        """How a HardSigmoid's input becomes its output's integers, None for other layers.

        clip(α·x + β, 0, 1) is what rounding x to a scale of 1/α over the whole grid gives, with β
        as the zero point: QuantizeLinear saturates where HardSigmoid does.
        """
        if layer.kind != "HardSigmoid" or self.net.standard:
            return None
        alpha, beta = hard_sigmoid_of(layer.node)
        zero = int(np.floor(beta * self.grid.steps + 0.5)) + self.grid.low
        return Affine(float(np.float32(1 / (alpha * self.grid.steps))), zero)

    def stored_weight(self, name: str) -> NDArray[np.generic]:
        """The integers as they are stored."""
        integers = self.weights[name].integers
        if self.weight_zero:
            integers = integers.astype(np.int32) + self.weight_zero
        return integers.astype(self.weight_dtype)

    def bias_scales(self, name: str) -> Floats:
        """The scale of each int32 bias: that of the input times that of the weight."""
        source = self.net.producers[name].inputs[0]
        scale = np.float32(self.tensors[source].scale)
        return np.asarray(scale * self.weights[name].scales, np.float32)

    def stored_bias(self, name: str) -> NDArray[np.int32]:
        """Biases in units of ``bias_scales``, int32 [out]."""
        units = self.weights[name].bias / self.bias_scales(name).astype(np.float64)
        return np.clip(np.rint(units), -(2**31), 2**31 - 1).astype(np.int32)


def room_for_bias(scales: Doubles, bias: Doubles, input_scale: float) -> Doubles:
    """Weight scales [out] raised, where needed, so that the bias fits well into 32 bits,
    also when the input's range is changed later.

    Dead channels have weights near zero beside an ordinary bias.
    """
    least = np.abs(bias) / (2.0**27 * input_scale)
    return np.maximum(scales, np.maximum(least, 1e-30))


def quantizers(net: Net, ranges: Mapping[str, Range], grid: Grid) -> dict[str, Affine]:
    """The quantizer of every tensor that has one; some tensors take over their source's."""
    names = set(net.quantized_tensors)
    found = {n: affine(*within(net, n, ranges[n]), grid) for n in ranges if n in names}
    for layer in reversed(net.layers):
        if layer.kind == "Concat" and layer.quantized and layer.output in found:
            found.update(
                {
                    n: found[layer.output]
                    for n in layer.inputs
                    if input_takes_output_quantizer(net, n)
                }
            )
    for name in net.quantized_tensors:
        if (bounds := fixed_bounds(net, name)) is not None:
            found[name] = _whole_grid(*bounds, grid, standard=net.standard)
        elif name not in found:
            found[name] = found[net.producers[name].inputs[0]]
    return found


def fixed_bounds(net: Net, name: str) -> Range | None:
    """The bounds of a tensor whose quantizer its operator decides, else None."""
    maker = net.producers.get(name)
    return maker.row.bounds if maker is not None and maker.quantized else None


def _whole_grid(low: float, high: float, grid: Grid, *, standard: bool) -> Affine:
    """The map of the bounds to the ends of the grid, both exact; ``standard``: a power of two as
    the scale, one step short of the upper bound, as other runtimes fix it."""
    if grid.symmetric:
        return affine(low, high, grid)
    return Affine(float(np.float32((high - low) / (grid.steps + standard))), grid.low)


def shares_input_quantizer(net: Net, name: str) -> bool:
    """Whether the tensor has its source's quantizer: what only moves numbers about, and averages
    where these are to."""
    maker = net.producers.get(name)
    if maker is None or not maker.quantized:
        return False
    return maker.moves or (net.shared_scales and maker.kind == "AveragePool")


def input_takes_output_quantizer(net: Net, name: str) -> bool:
    """Whether only a quantized Concat reads the tensor, a layer's own output: the Concat's
    quantizer then serves both, and the Concat need not compute.

    Not where that would undo the layer's activation: a ReLU beside a tensor that can be negative.
    """
    consumers, maker = net.consumers.get(name, []), net.producers.get(name)
    concat = len(consumers) == 1 and consumers[0].kind == "Concat" and consumers[0].quantized
    given = shares_input_quantizer(net, name) or fixed_bounds(net, name) is not None
    if not concat or maker is None or given:
        return False
    beside = [within(net, other, (-np.inf, np.inf)) for other in consumers[0].inputs]
    return all(maker.low <= low and high <= maker.high for low, high in beside)


def within(net: Net, name: str, found: Range) -> Range:
    """The range cut to what the tensor's activation lets through and its readers can tell apart."""
    maker = net.producers.get(name)
    low, high = (maker.low, maker.high) if maker is not None else (-np.inf, np.inf)
    seen = net.window(name)
    return max(found[0], low, seen[0]), min(found[1], high, seen[1])
