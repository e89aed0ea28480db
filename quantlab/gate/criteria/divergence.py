"""DivergenceCriterion: how large the mean KL divergence from fp32 may be."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field

from quantlab.compare.comparison import Fidelity
from quantlab.gate.criteria.fidelity import FidelityCriterion
from quantlab.gate.criterion import Finding, number, plain
from quantlab.stats.paired import Interval, images_to_clear, mean_p


class DivergenceCriterion(FidelityCriterion):
    """How large the mean KL(softmax fp32 || softmax int8) may be, in nats. Needs no labels.

    Source:
        Kullback & Leibler 1951, Annals of Mathematical Statistics 22:79.

    Examples:
        >>> from quantlab import DivergenceCriterion
        >>> criterion = DivergenceCriterion(most=0.01)
        >>> criterion.limit_text, criterion.written
        ('0.01 nats', 'kl <= 0.01')
    """

    examples: ClassVar[tuple[str, ...]] = ("kl <= 0.02",)
    what: ClassVar[str] = "KL divergence from fp32"
    measured_in: ClassVar[str] = "nats"

    most: float = Field(ge=0)
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The largest KL divergence."""
        return self.most

    def amount(self, loss: float) -> str:
        """``0.0123 nats``."""
        return f"{loss:.3g} nats"

    def span(self, interval: Interval) -> str:
        """``0.0101 to 0.0151 nats``."""
        return f"{interval.low:.3g} to {interval.high:.3g} nats"

    @property
    def written_limit(self) -> str:
        """``0.02``."""
        return plain(self.most)

    @classmethod
    def read(cls, name: str, limit: str) -> Self:
        """``0.01``. Raises ValueError."""
        return cls(most=number(limit))

    def of(self, fidelity: Fidelity, not_finite: int = 0, *, anytime: bool = False) -> Finding:
        """The mean with its bootstrap interval."""
        kl, interval, images = fidelity.kl, fidelity.kl_interval, fidelity.agreement.n
        if not_finite:
            return Finding(
                cause="not finite",
                status="fail",
                images=images,
                leads_with="agreement",
                counts={"not finite": not_finite},
            )
        if kl is None or interval is None:
            return Finding(
                cause="too few",
                measured=kl,
                status="inconclusive",
                images=images,
                leads_with="agreement",
            )
        return Finding(
            measured=kl,
            interval=interval,
            p=mean_p(kl, interval, self.limit),
            images=images,
            images_needed=images_to_clear(interval, kl - self.limit, images),
            leads_with="agreement",
        )
