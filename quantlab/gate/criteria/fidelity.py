"""FidelityCriterion: what every limit for how far answers may differ has in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from quantlab.compare.comparison import Comparison, Fidelity
from quantlab.gate.criterion import Criterion, Finding, Leads


class FidelityCriterion(Criterion):
    """How far int8's answers may be from fp32's. Needs no labels."""

    for_tuning: ClassVar[bool] = True
    leads_with: ClassVar[Leads] = "agreement"

    @abstractmethod
    def of(self, fidelity: Fidelity, not_finite: int = 0, *, anytime: bool = False) -> Finding:
        """What two models' answers say about it; the second's alone are not finite on so many
        images."""

    def measure(self, comparison: Comparison, *, anytime: bool = False) -> Finding:
        """See Criterion."""
        bad = comparison.int8.nonfinite
        not_finite = bad if bad > comparison.fp32.nonfinite else 0
        return self.of(comparison.fidelity, not_finite, anytime=anytime)
