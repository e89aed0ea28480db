"""Range search: choose among candidate ranges those with the least error of the logits.

No way to estimate ranges is best for every network, and a tensor's own rounding error does not say
how much the answers suffer. So the quantized network itself is run on some calibration images, and
what counts is the squared error of its logits to the fp32 network's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from quantlab.quantize.engine.grid import Affine, Doubles
from quantlab.quantize.engine.held_out import HeldOut, clearly_less
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.plan import QuantizationPlan, input_takes_output_quantizer, quantizers
from quantlab.quantize.engine.ranges import Range

METHODS = ("mean", "minmax", "percentile", "mse")
_ALIKE = 0.01
Choice = Mapping[str, Range]


@dataclass
class RangeSearch:
    """The ranges chosen so far, with the errors that they give."""

    trial: HeldOut
    plan: QuantizationPlan
    ranges: dict[str, Range]
    errors: Doubles = field(init=False)

    def __post_init__(self) -> None:
        self.errors = self._errors(self.ranges)

    def _errors(self, ranges: Choice) -> Doubles:
        tensors = quantizers(self.plan.net, ranges, self.plan.grid)
        return self.trial.errors(replace(self.plan, tensors=tensors))

    def consider(self, change: Choice) -> bool:
        """Adopt the change when it clearly lowers the error."""
        change = {n: r for n, r in change.items() if not alike(r, self.ranges[n])}
        if not change:
            return False
        ranges = {**self.ranges, **change}
        errors = self._errors(ranges)
        if not clearly_less(errors, self.errors):
            return False
        self.ranges, self.errors = ranges, errors
        return True


def alike(first: Range, second: Range) -> bool:
    """Whether two ranges differ by less than a few percent of their width."""
    width = max(first[1], 0.0) - min(first[0], 0.0) + 1e-30
    return max(abs(first[0] - second[0]), abs(first[1] - second[1])) < _ALIKE * width


def searched(
    plan: QuantizationPlan, ranges: Choice, found: Mapping[str, Mapping[str, Range]], trial: HeldOut
) -> dict[str, Affine]:
    """The quantizers of ``ranges``, with those of ``found`` (by tensor, by method) that answer
    better.

    One method for all tensors first, then one for all of a kind: the image, sums, pools, and so
    on. Choosing tensor by tensor gained nothing more (see docs/engine.md).
    """
    found = {
        name: by for name, by in found.items() if not input_takes_output_quantizer(plan.net, name)
    }
    search = RangeSearch(trial, plan, dict(ranges))
    for method in METHODS:
        search.consider({name: by[method] for name, by in found.items()})
    for names in _by_kind(plan.net, found).values():
        for method in METHODS:
            search.consider({name: found[name][method] for name in names})
    return quantizers(plan.net, search.ranges, plan.grid)


def _by_kind(net: Net, names: Iterable[str]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(net.producers[name].kind if name in net.producers else "", []).append(name)
    return kinds
