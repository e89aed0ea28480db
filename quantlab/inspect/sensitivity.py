"""Measure what each quantizer group costs: all in int8 but it, and only it in int8.

A group is what one int8 kernel computes (see ``quantize.groups``). Ranges are plain and weights
rounded to nearest (see ``Variants``), so that a hundred networks take a minute.

Groups are ranked by what they cost alone. On few images that is by far the surer figure: beside the
error of fifty other groups, one more or less drowns in chance (figures in docs/inspect.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab._util.reporter import Advance
from quantlab.evaluate.proxy import Distance, Proxy
from quantlab.quantize.groups import Group, kernel_groups
from quantlab.quantize.prepare import prepare
from quantlab.recipe import Recipe

if TYPE_CHECKING:
    from quantlab.quantize.engine.variants import Variants

WORTH = 0.05
"""The share of the whole KL that a group must cause alone to be worth excluding."""
EXCLUDED = 5
BATCH = 8


class GroupCost(BaseModel):
    """``left_out``: everything in int8 but this group; ``alone``: only this group in int8, with the
    quantizers of what it reads.

    ``gain`` is by how much leaving it out makes the KL fall, in nats.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    nodes: tuple[str, ...]
    gain: float
    left_out: Distance
    alone: Distance

    @property
    def name(self) -> str:
        """The name of its first node."""
        return self.nodes[0]


class Sensitivity(BaseModel):
    """``whole`` is everything in int8; ``groups`` are ranked, the costliest alone first.

    ``exclude`` are the nodes of the groups whose KL alone is WORTH of the whole or more, at most
    EXCLUDED groups.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    images: int
    whole: Distance
    groups: tuple[GroupCost, ...]
    exclude: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class GroupProbe:
    """Distances to fp32 with groups of nodes in fp32 that the recipe has in int8."""

    proxy: Proxy
    recipe: Recipe

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Those that the recipe does not exclude already."""
        found = kernel_groups(prepare(self.proxy.model.proto()))
        return tuple(group for group in found if group.nodes[0] not in self.recipe.exclude)

    @cached_property
    def variants(self) -> Variants:
        """The recipe made plain. Raises QuantizeError."""
        from quantlab.quantize.engine.variants import Variants

        model, images = self.proxy.model, self.proxy.inputs
        return Variants(model, self.recipe, _Images(images, model.input.batch or BATCH))

    @cached_property
    def whole(self) -> Distance:
        """Everything in int8 that the recipe has in int8."""
        return self._distance(())

    def left_out(self, group: Group) -> Distance:
        """Everything in int8 but this group."""
        return self._distance(group.nodes)

    def alone(self, group: Group) -> Distance:
        """Nothing in int8 but this group."""
        return self._distance([n for g in self.groups if g != group for n in g.nodes])

    def _distance(self, nodes: Sequence[str]) -> Distance:
        return self.proxy.distance(self.variants.without((*self.recipe.exclude, *nodes)))


@dataclass(frozen=True)
class _Images:
    """An array of inputs as a Calibration."""

    images: NDArray[np.generic]
    step: int

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        starts = range(0, len(self.images), self.step)
        return (self.images[i : i + self.step] for i in starts)


def measure_sensitivity(probe: GroupProbe, advance: Advance) -> Sensitivity:
    """Every group that the engine quantizes, left out and alone. Raises QuantizeError."""
    costs = []
    for i, group in enumerate(probe.groups):
        if group.nodes[0] in probe.variants.layers:
            left_out, alone = probe.left_out(group), probe.alone(group)
            gain = probe.whole.kl - left_out.kl
            costs.append(
                GroupCost(
                    kind=group.kind, nodes=group.nodes, gain=gain, left_out=left_out, alone=alone
                )
            )
        advance(i + 1, group.name)
    ranked = tuple(sorted(costs, key=lambda cost: (-cost.alone.kl, cost.name)))
    return Sensitivity(
        model=probe.proxy.model.name,
        images=len(probe.proxy.inputs),
        whole=probe.whole,
        groups=ranked,
        exclude=worth_excluding(ranked, probe.whole.kl),
    )


def worth_excluding(ranked: Sequence[GroupCost], whole: float) -> tuple[str, ...]:
    """See Sensitivity."""
    worth = [cost for cost in ranked[:EXCLUDED] if 0 < WORTH * whole <= cost.alone.kl]
    return tuple(node for cost in worth for node in cost.nodes)
