"""Range search: choose among candidate ranges those with the least error of the logits.

No way to estimate ranges is best for every network, and a tensor's own rounding error does not say
how much the answers suffer. So the quantized network itself is run on some calibration images, and
what counts is the error of its answers (see ``held_out``), on the worst images too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from quantlab.quantize.engine.grid import Doubles
from quantlab.quantize.engine.held_out import HeldOut, clearly_less, less
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.plan import QuantizationPlan, input_takes_output_quantizer, quantizers
from quantlab.quantize.engine.ranges import Range

METHODS = ("mean", "minmax", "percentile", "mse")
_ALIKE = 0.01
Choice = Mapping[str, Range]


@dataclass
class Search:
    """The plan chosen so far, with the errors that it gives."""

    judge: HeldOut
    plan: QuantizationPlan
    errors: Doubles = field(init=False)

    def __post_init__(self) -> None:
        self.errors = self.judge.errors(self.plan)

    def consider(self, plan: QuantizationPlan, *, adopt: bool = True) -> bool:
        """Whether the plan clearly lowers the error; it is then adopted.

        It is tried on the worst images first, and on no more than it takes to cost as much.
        """
        errors = np.zeros_like(self.errors)
        for rows, part in self.judge.in_parts(plan, self.judge.worst_first(self.errors)):
            errors[:, rows] = part
            if not less(errors, self.errors):
                return False
        gains = clearly_less(errors, self.errors)
        if gains and adopt:
            self.plan, self.errors = plan, errors
        return gains


def alike(first: Range, second: Range) -> bool:
    """Whether two ranges differ by less than a few percent of their width."""
    width = max(first[1], 0.0) - min(first[0], 0.0) + 1e-30
    return max(abs(first[0] - second[0]), abs(first[1] - second[1])) < _ALIKE * width


def search_ranges(search: Search, ranges: Choice, found: Mapping[str, Mapping[str, Range]]) -> None:
    """Puts in place of the plan's ``ranges`` those of ``found`` (by tensor, by method) that answer
    better.

    One method for all tensors first, then one for all of a kind: the image, sums, pools, and so
    on. Choosing tensor by tensor gained nothing more (see docs/engine.md).
    """
    net, grid, ranges = search.plan.net, search.plan.grid, dict(ranges)
    found = {name: by for name, by in found.items() if not input_takes_output_quantizer(net, name)}
    for names in (list(found), *_by_kind(net, found).values()):
        for method in METHODS:
            wanted = {name: found[name][method] for name in names}
            change = {n: r for n, r in wanted.items() if not alike(r, ranges[n])}
            changed = ranges | change
            plan = replace(search.plan, tensors=quantizers(net, changed, grid))
            if change and search.consider(plan):
                ranges = changed


def _by_kind(net: Net, names: Iterable[str]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(net.producers[name].kind if name in net.producers else "", []).append(name)
    return kinds
