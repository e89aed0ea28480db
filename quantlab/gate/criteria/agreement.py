"""AgreementCriterion: on which share of the images int8 must give fp32's first answer."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field

from quantlab.compare.comparison import Fidelity
from quantlab.gate.criteria.fidelity import FidelityCriterion
from quantlab.gate.criterion import Finding, Stopping, amount, percentage, plain
from quantlab.stats.anytime import anytime_share
from quantlab.stats.paired import Interval, images_to_clear, share_p


class AgreementCriterion(FidelityCriterion):
    """On which share of the images int8 must give fp32's first answer. Needs no labels.

    Source:
        Clopper & Pearson 1934, Biometrika 26:404.

    Examples:
        >>> from quantlab import AgreementCriterion
        >>> criterion = AgreementCriterion(least=0.96)
        >>> criterion.limit_text, criterion.written
        ('96%', 'agreement >= 96%')
    """

    examples: ClassVar[tuple[str, ...]] = ("agreement >= 95%",)
    what: ClassVar[str] = "agreement with fp32"
    measured_in: ClassVar[str] = "fraction of the answers that changed"
    relation: ClassVar[Literal["<=", ">=", ""]] = ">="

    least: float = Field(gt=0, le=1)
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The largest share of changed answers."""
        return 1 - self.least

    def amount(self, loss: float) -> str:
        """The agreement that is left: ``97.2%``."""
        return amount(1 - loss, "relative")

    def gap(self, loss: float) -> str:
        """A difference of two losses, in points."""
        return amount(loss, "absolute")

    def span(self, interval: Interval) -> str:
        """The interval of the agreement: ``96.10% to 98.02%``."""
        return f"{100 * (1 - interval.high):.2f}% to {100 * (1 - interval.low):.2f}%"

    @property
    def written_limit(self) -> str:
        """``96%``."""
        return f"{plain(100 * self.least)}%"

    @property
    def charted(self) -> tuple[str, str, float]:
        """The answers that changed, in percent."""
        return "changed answers", "%", 100.0

    @property
    def stopping(self) -> Stopping | None:
        """Whether the first answers agree."""
        return Stopping()

    @classmethod
    def read(cls, name: str, limit: str) -> Self:
        """``96%``. Raises ValueError."""
        return cls(least=percentage(limit))

    def of(self, fidelity: Fidelity, not_finite: int = 0, *, anytime: bool = False) -> Finding:
        """The share of changed answers with its exact interval."""
        share = fidelity.agreement
        changed, loss = share.n - share.count, 1 - share.value
        interval = Interval(1 - share.interval.high, 1 - share.interval.low)
        if anytime:
            interval = anytime_share(changed, share.n)
        return Finding(
            measured=loss,
            interval=interval,
            p=share_p(changed, share.n, self.limit),
            images=share.n,
            images_needed=images_to_clear(interval, loss - self.limit, share.n),
            leads_with="agreement",
            anytime=anytime,
            counts={"answers changed": changed},
        )
