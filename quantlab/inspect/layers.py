"""Compare an int8 model with its fp32 original layer by layer.

Both networks see the same images. A tensor's *accumulated* SQNR compares it in both as they run:
all errors on the way to it. Its *local* SQNR is that of one layer alone: the fp32 network's inputs
of the layer, through the quantizers that the int8 file has for them (their rounding and cutting
belongs to the layers before), go into the int8 layer and into the fp32 one, and their outputs are
compared. All layers' inputs are replaced in one graph, so that one run measures them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab.errors import ModelError
from quantlab.inspect.exposed import Cut, Exposed, matched_sources
from quantlab.inspect.matching import COMPUTING, Pair, match
from quantlab.inspect.noise import Noise
from quantlab.inspect.weights import ONE, Floats, WeightReport, compare_weights
from quantlab.model import graph as g
from quantlab.model.model import Model
from quantlab.quantize.prepare import prepare

SHARP_DROP = 3.0
"""dB that a tensor loses against the worst of its inputs: noise doubled within one layer."""
BROKEN = 20.0
"""dB below which such a drop is called a break."""
OUTLIER = 6.0
"""dB below the median local SQNR from which on a layer is worth excluding."""
EXCLUDED = 5


class LayerError(BaseModel):
    """One layer's errors in dB, None where there is no error (or nothing to compare).

    ``drop`` is what the accumulated SQNR loses against the worst of the layer's inputs; ``weight``
    the SQNR of its weights.
    """

    model_config = ConfigDict(frozen=True)

    tensor: str
    node: str
    op_type: str
    accumulated: float | None
    local: float | None
    drop: float | None
    weight: float | None


class LayerReport(BaseModel):
    """``layers`` in the order of computation; see LayerError.

    ``first_break`` is the first tensor that loses SHARP_DROP or more in one layer and ends below
    BROKEN, "" when none does. ``exclude`` are the nodes whose local SQNR lies OUTLIER or more below
    the median of all layers, the worst first. ``rescaled``: the int8 file equalized channels, so
    fp32 tensors were brought to its channels' scales first.
    """

    model_config = ConfigDict(frozen=True)

    fp32: str
    int8: str
    images: int
    layers: tuple[LayerError, ...]
    unmatched: tuple[str, ...]
    first_break: str
    exclude: tuple[str, ...]
    rescaled: bool


def debug_layers(fp32: Model, int8: Model, batches: Iterable[NDArray[np.generic]]) -> LayerReport:
    """Compares every tensor that both networks have, on images as the models take them.

    Raises ModelError when they have none in common but their ends.
    """
    original, quantized = prepare(fp32.proto()), int8.proto()
    found = match(original.graph, quantized.graph)
    inner = [pair for pair in found.pairs if pair.op_type != "input"]
    if len(inner) < 2:
        raise ModelError(
            f"{int8.path.name} has no inner tensor of {fp32.path.name} by name.",
            "Give the fp32 model that it was quantized from.",
        )
    sources = matched_sources(original.graph, [pair.tensor for pair in found.pairs])
    weights = compare_weights(original.graph, quantized.graph, found.pairs, sources)
    meter = _Meter(original, quantized, found.pairs, weights.gains)
    images = 0
    for batch in batches:
        for part in _few(batch, int8.input.batch):
            meter.add(part)
            images += len(part)
    return LayerReport(
        fp32=fp32.name,
        int8=int8.name,
        images=images,
        layers=(layers := _layers(found.pairs, meter, weights, sources)),
        unmatched=found.unmatched,
        first_break=first_break(layers),
        exclude=worth_excluding(layers),
        rescaled=bool(weights.gains),
    )


def _few(batch: NDArray[np.generic], fixed: int | None) -> Iterable[NDArray[np.generic]]:
    step = fixed or 2
    return (batch[i : i + step] for i in range(0, len(batch), step))


class _Meter:
    """fp32 and int8, each whole and cut into its layers, and the noise seen so far."""

    def __init__(
        self,
        original: onnx.ModelProto,
        quantized: onnx.ModelProto,
        pairs: Sequence[Pair],
        gains: Mapping[str, Floats],
    ) -> None:
        self.pairs, self._gains = pairs, gains
        self.accumulated = [Noise() for _ in pairs]
        self.local = [Noise() for _ in pairs]
        self._fp32 = Exposed(original, [p.tensor for p in pairs])
        self._int8 = Exposed(quantized, [p.other for p in pairs])
        self._fp32_cut = Cut(original, [p.tensor for p in pairs])
        self._int8_cut = Cut(quantized, [p.other for p in pairs])

    def add(self, images: NDArray[np.generic]) -> None:
        """Run one batch and add its errors."""
        exact, int8 = self._fp32.run(images), self._int8.run(images)
        for pair, noise in zip(self.pairs, self.accumulated, strict=True):
            noise.add(self._scaled(pair, exact[pair.tensor]), _real(pair, int8[pair.other]))
        self._add_local(images, exact)

    def _add_local(self, images: NDArray[np.generic], exact: Mapping[str, g.Array]) -> None:
        given = {p: _stored(p, self._scaled(p, exact[p.tensor])) for p in self.pairs}
        shared = {p.tensor: _real(p, v) / self._gain(p, v) for p, v in given.items()}
        fp32 = self._fp32_cut.run(images, shared)
        int8 = self._int8_cut.run(images, {p.other: v for p, v in given.items()})
        for pair, noise in zip(self.pairs, self.local, strict=True):
            noise.add(self._scaled(pair, fp32[pair.tensor]), _real(pair, int8[pair.other]))

    def _gain(self, pair: Pair, values: g.Array) -> Floats:
        """The factors of the tensor's channels, its second axis."""
        gains = self._gains.get(pair.tensor, ONE)
        if gains.size == 1 or values.shape[1] % gains.size:
            return ONE
        each = np.repeat(gains, values.shape[1] // gains.size)
        return each.reshape(1, -1, *[1] * (values.ndim - 2))

    def _scaled(self, pair: Pair, values: g.Array) -> Floats:
        return np.asarray(values, np.float32) * self._gain(pair, values)


def _stored(pair: Pair, values: g.Array) -> g.Array:
    return values if pair.quantizer is None else pair.quantizer.quantized(values)


def _real(pair: Pair, values: g.Array) -> Floats:
    floats = np.asarray(values) if pair.quantizer is None else pair.quantizer.real(values)
    return np.asarray(floats, np.float32)


def _layers(
    pairs: Sequence[Pair],
    meter: _Meter,
    weights: WeightReport,
    sources: Mapping[str, Sequence[str]],
) -> tuple[LayerError, ...]:
    accumulated = {p.tensor: n.db for p, n in zip(pairs, meter.accumulated, strict=True)}
    return tuple(
        LayerError(
            tensor=pair.tensor,
            node=pair.node,
            op_type=pair.op_type,
            accumulated=accumulated[pair.tensor],
            local=noise.db,
            drop=_drop(accumulated, pair.tensor, sources[pair.tensor]),
            weight=weights.sqnr_db.get(pair.tensor),
        )
        for pair, noise in zip(pairs, meter.local, strict=True)
        if pair.op_type == "input" or pair.op_type in COMPUTING
    )


def _drop(
    accumulated: Mapping[str, float | None], tensor: str, sources: Sequence[str]
) -> float | None:
    after = accumulated[tensor]
    before = [db for name in sources if (db := accumulated[name]) is not None]
    return min(before) - after if before and after is not None else None


def first_break(layers: Sequence[LayerError]) -> str:
    """See LayerReport."""
    return next(
        (
            one.tensor
            for one in layers
            if one.drop is not None and one.drop >= SHARP_DROP and (one.accumulated or 0) < BROKEN
        ),
        "",
    )


def worth_excluding(layers: Sequence[LayerError]) -> tuple[str, ...]:
    """See LayerReport: at most EXCLUDED nodes."""
    known = [(one.local, one.node) for one in layers if one.local is not None and one.node]
    if not known:
        return ()
    limit = float(np.median([db for db, _ in known])) - OUTLIER
    return tuple(node for db, node in sorted(known)[:EXCLUDED] if db <= limit)
