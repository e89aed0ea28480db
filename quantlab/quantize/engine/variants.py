"""Variants: one plain plan, from which files with any nodes left in fp32 are written.

For asking many times "what if this stayed in fp32": equalization and fitted weights would have to
be made anew each time, plain ranges and nearest weights need not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx

from quantlab.model.model import Model
from quantlab.quantize.engine import (
    PLAIN,
    make_plan,
    placed_net,
    placements,
    prepared_for,
)
from quantlab.quantize.engine.net import read_net
from quantlab.quantize.engine.qdq import write_qdq
from quantlab.quantize.placement import FrontPoint
from quantlab.quantize.protocol import Calibration
from quantlab.recipe import Recipe


class Variants:
    """The recipe, made plain but placed as it wants, with any nodes in fp32. Raises QuantizeError
    as the engine does.

    ``layers`` are the names of the layers with weights that it quantizes.
    """

    def __init__(self, model: Model, recipe: Recipe, calibration: Calibration) -> None:
        self._recipe = recipe.model_copy(update=PLAIN)
        named = self._recipe.model_copy(update={"exclude": recipe.exclude})
        self._prepared = prepared_for(model, named)
        self._named, self._calibration = named, calibration
        net, placement = placed_net(self._prepared, self._recipe, calibration)
        self._left = () if placement is None else tuple(placement.left)
        self._plan = make_plan(net, self._recipe, calibration)
        layers = (x for x in self._plan.net.layers if x.quantized and x.weight is not None)
        self.layers = frozenset(layer.name for layer in layers)

    def front(self, errors: Mapping[str, float]) -> tuple[FrontPoint, ...]:
        """The recipe's placement and those with less error; ``errors`` are layers' own."""
        return placements(self._prepared, self._named, self._calibration, errors)

    def without(self, nodes: Sequence[str]) -> onnx.ModelProto:
        """The QDQ file that leaves these nodes in fp32; the fp32 graph when no layer is left."""
        if self.layers <= set(nodes):
            return self._prepared
        recipe = self._recipe.model_copy(update={"exclude": tuple(nodes)})
        net = read_net(self._prepared, recipe, self._left)
        quantized = set(net.quantized_tensors)
        layers = {layer.output for layer in net.layers if layer.quantized}
        return write_qdq(
            replace(
                self._plan,
                net=net,
                tensors={n: t for n, t in self._plan.tensors.items() if n in quantized},
                weights={n: w for n, w in self._plan.weights.items() if n in layers},
            )
        )
