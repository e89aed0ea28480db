"""gate: a Comparison against a criterion gives a Verdict. Pure.

What is lost is judged by its whole 95% interval: pass when its upper end is within the limit, fail
when its lower end is beyond it, inconclusive otherwise, and then with the number of images that
would decide it. The interval is one for a fixed number of images; where they ended because of what
was seen (``anytime``), it is a confidence sequence, which allows that.

Where nothing changed there is nothing to estimate, and the verdict is a pass without an interval:
for one and the same file, which cannot lose anything, and for another file that gives every output
of fp32's on all images. Two models that compute something else differ in some output of nearly
every image, long before they differ in a first answer; one whose outputs differ on a share q of all
images is taken for unchanged with a chance of (1 - q)^n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, Field, computed_field, model_validator

from quantlab.compare.comparison import Comparison
from quantlab.gate.criterion import AnyCriterion, Criterion, Finding, Unpaired, VerdictStatus
from quantlab.stats.paired import CONFIDENCE, Interval, Share, clopper_pearson

EXIT_CODES: dict[VerdictStatus, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
ALPHA = (1 - CONFIDENCE) / 2
"""How likely a limit that is just kept is said to be broken, and one that is just broken kept."""
STORED = "stored"
"""The cause of a verdict that holds its sentences, and no facts to make them of."""
FEW_IMAGES = 200
"""With fewer images an undecided accuracy says so little that agreement is told first."""


class Verdict(Finding):
    """What a gate says: the Finding of a criterion, and whether it is kept.

    ``agreement`` is what is known all the same of an inconclusive one. ``held_p`` is given where it
    would fail alone, but not beside the other rules of a gate: its p after Holm's correction.
    ``stored`` are the reason and the remedy of a record that holds no facts to tell them by.

    Examples:
        >>> from quantlab import compare, judge
        >>> from quantlab.testing import fake_predictions
        >>> pair = [fake_predictions(2000, 10, rate, seed=0) for rate in (0, 0.02)]
        >>> verdict = judge(compare(*pair), "top1.decline <= 3%")
        >>> verdict.status, verdict.exit_code, verdict.meets
        ('pass', 0, True)
    """

    status: VerdictStatus
    criterion: AnyCriterion = Field(validation_alias=AliasChoices("criterion", "policy"))
    agreement: Share | None = None
    held_p: float | None = None
    stored: tuple[str, str] | None = Field(None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _without_facts(cls, data: Any) -> Any:
        """A record of a version before causes were kept."""
        if not isinstance(data, Mapping) or data.get("cause", STORED) != STORED:
            return data
        sentences = data.get("stored") or (data.get("reason", ""), data.get("remedy", ""))
        return {**data, "cause": STORED, "stored": sentences}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def unit(self) -> str:
        """What ``measured`` and ``interval`` count."""
        return self.criterion.unit

    @computed_field  # type: ignore[prop-decorator]
    @property
    def reason(self) -> str:
        """Why, in sentences."""
        from quantlab.report.verdict import reason

        return reason(self)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def remedy(self) -> str:
        """What to do about it, in sentences."""
        from quantlab.report.verdict import remedy

        return remedy(self)

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive."""
        return EXIT_CODES[self.status]

    def _repr_html_(self) -> str:
        from quantlab.report.notebook import verdict_html

        return verdict_html(self)

    @property
    def meets(self) -> bool:
        """Whether the measured loss is within the limit and the criterion's tolerance, however sure
        that is. Where nothing could be measured, whether nothing speaks against it."""
        return self.excess <= 0

    @property
    def excess(self) -> float:
        """How far the measured loss is beyond what is allowed, as a fraction of the limit.

        0 or less when it is met; of a limit of 0, the loss itself.
        """
        if self.measured is None:
            return math.inf if self.status == "fail" else 0.0
        over = self.measured - (self.criterion.limit + self.criterion.tolerance)
        return over / self.criterion.limit if self.criterion.limit else over


def judge(comparison: Comparison, criterion: Criterion, *, anytime: bool = False) -> Verdict:
    """The verdict on what the criterion limits.

    With ``anytime`` it holds although the images ended because of what was seen of them; criteria
    without a sequential test raise ValueError. Raises RecipeError when the criterion limits a
    metric of the user's that the comparison does not hold.
    """
    if anytime and criterion.stopping is None:
        raise ValueError(f"{criterion.title} has no interval that is valid whenever one stops")
    if not criterion.is_unchanged(comparison, anytime=anytime):
        finding = criterion.measure(comparison, anytime=anytime)
    elif comparison.same_file:
        finding = criterion.nothing_changed("same file", sha256=comparison.int8.sha256)
    else:
        finding = criterion.nothing_changed(
            "same outputs",
            images=comparison.n,
            most=clopper_pearson(0, comparison.n).high,
            rounding=not comparison.fidelity.identical,
        )
    return verdict_of(criterion, finding, comparison.fidelity.agreement)


def judge_unpaired(criterion: Criterion, known: Unpaired) -> Verdict:
    """The verdict without the first model's answers."""
    return verdict_of(criterion, criterion.measure_unpaired(known))


def verdict_of(criterion: Criterion, finding: Finding, agreement: Share | None = None) -> Verdict:
    """The same for every criterion: what was found, against the limit."""
    status = finding.status or _status(finding, criterion.limit)
    undecided = status == "inconclusive"
    sampled = criterion.declines and finding.cause == "measured"
    few = undecided and sampled and finding.images < FEW_IMAGES
    return Verdict.model_validate(
        dict(finding)
        | {
            "status": status,
            "criterion": criterion,
            "images_needed": finding.images_needed if undecided else None,
            "leads_with": "agreement" if few else finding.leads_with,
            "agreement": agreement if undecided else None,
        }
    )


def _status(finding: Finding, limit: float) -> VerdictStatus:
    """Pass wholly within the limit, fail wholly beyond it."""
    if finding.measured is None:
        return "inconclusive"
    ends = finding.interval or Interval(finding.measured, finding.measured)
    if ends.high <= limit:
        return "pass"
    return "fail" if ends.low > limit else "inconclusive"
