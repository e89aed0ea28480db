"""gate: a Comparison against a Policy gives a Verdict. Pure.

A decline is judged by its whole 95% interval: pass when its upper end is within the limit, fail
when its lower end is beyond it, inconclusive otherwise, and then with the number of images that
would decide it.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quantlab.comparison import Change, Comparison
from quantlab.errors import RecipeError
from quantlab.stats import CONFIDENCE, POWER, Interval, images_needed, smallest_decline

Status = Literal["pass", "fail", "inconclusive"]
Kind = Literal["relative", "absolute"]
Metric = Literal["top1", "top5"]

EXIT_CODES: dict[Status, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
FEW_IMAGES = 200
"""With fewer images an undecided accuracy says so little that agreement is told first."""

_LIMIT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%|pp|points?)\s*", re.IGNORECASE)
METRIC_NAMES: dict[Metric, str] = {"top1": "top-1", "top5": "top-5"}


class Policy(BaseModel):
    """How much accuracy may be lost.

    ``max_decline`` is a fraction: of the fp32 model's accuracy when ``kind`` is relative, of all
    images (percentage points / 100) when it is absolute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_decline: float = Field(0.01, ge=0, lt=1)
    kind: Kind = "relative"
    metric: Metric = "top1"

    @property
    def limit_text(self) -> str:
        """``1%`` or ``0.5 points``."""
        return amount(self.max_decline, self.kind)


def parse_policy(text: str, metric: Metric = "top1") -> Policy:
    """Read ``1%`` (of the fp32 accuracy) or ``1pp``, ``0.5 points`` (percentage points).

    Raises RecipeError for anything else.
    """
    match = _LIMIT.fullmatch(text)
    if not match or float(match[1]) >= 100:
        raise RecipeError(
            f"{text!r} is not a limit for the decline.",
            "Write 1% for one hundredth of the fp32 accuracy, or 1pp for one percentage point.",
        )
    kind: Kind = "relative" if match[2] == "%" else "absolute"
    return Policy(max_decline=float(match[1]) / 100, kind=kind, metric=metric)


class Verdict(BaseModel):
    """What the gate says, with its reason and what to do about it, in sentences.

    ``decline`` and ``interval`` are what was judged, in the policy's kind, None when nothing could
    be. ``images_needed`` would decide an inconclusive verdict at 80% power if the models really
    differ as they seem to, None when that is settled or hopeless. ``smallest_decline`` is the
    smallest true decline that so many images tell from none. ``leads_with`` is what a reader
    should be told first.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Status
    reason: str
    remedy: str = ""
    policy: Policy
    decline: float | None = None
    interval: Interval | None = None
    images_needed: int | None = None
    smallest_decline: float | None = None
    leads_with: Literal["accuracy", "agreement"] = "accuracy"

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive."""
        return EXIT_CODES[self.status]


def judge(comparison: Comparison, policy: Policy) -> Verdict:
    """The verdict on the decline of the policy's metric."""
    change = comparison.top1 if policy.metric == "top1" else comparison.top5
    if change is None:
        return _unlabelled(comparison, policy)
    if change.ratio is None or change.ratio_interval is None:
        return _never_right(comparison, policy)
    if policy.kind == "relative":
        return _decide(comparison, policy, change, change.ratio, change.ratio_interval)
    return _decide(comparison, policy, change, change.difference, change.difference_interval)


def _decide(
    comparison: Comparison, policy: Policy, change: Change, decline: float, interval: Interval
) -> Verdict:
    status = _status(interval, policy.max_decline)
    needed = _needed(change, policy) if status == "inconclusive" else None
    scale = (change.both + change.lost) / change.n if policy.kind == "relative" else 1.0
    smallest = min(1.0, smallest_decline(change.lost, change.gained, change.n) / scale)
    few = status == "inconclusive" and change.n < FEW_IMAGES
    reason = _reason(status, policy, change, decline, interval)
    return Verdict(
        status=status,
        reason=f"{_agreement_text(comparison)} {reason}" if few else reason,
        remedy=_remedy(status, policy, change.n, needed, smallest),
        policy=policy,
        decline=decline,
        interval=interval,
        images_needed=needed,
        smallest_decline=smallest,
        leads_with="agreement" if few else "accuracy",
    )


def _status(interval: Interval, limit: float) -> Status:
    if interval.high <= limit:
        return "pass"
    return "fail" if interval.low > limit else "inconclusive"


def _needed(change: Change, policy: Policy) -> int | None:
    return images_needed(
        change.both,
        change.lost,
        change.gained,
        change.n,
        limit=policy.max_decline,
        relative=policy.kind == "relative",
    )


def _reason(
    status: Status, policy: Policy, change: Change, decline: float, interval: Interval
) -> str:
    end = {
        "pass": "wholly within",
        "fail": "wholly beyond",
        "inconclusive": "on both sides of",
    }[status]
    return (
        f"The {METRIC_NAMES[policy.metric]} decline on {change.n:,} images is "
        f"{amount(decline, policy.kind)} ({CONFIDENCE:.0%} interval "
        f"{span(interval, policy.kind)}), {end} the limit of {policy.limit_text}: "
        f"{change.lost:,} lost, {change.gained:,} gained."
    )


def _remedy(status: Status, policy: Policy, n: int, needed: int | None, smallest: float) -> str:
    if status == "pass":
        return ""
    if status == "fail":
        return (
            "Tune with more calibration images or another recipe, keep the most sensitive layers "
            "in fp32, or accept the loss with a higher --max-decline."
        )
    sees = (
        f"{n:,} images tell a decline of {amount(smallest, policy.kind)} or more from none "
        f"({POWER:.0%} power)."
    )
    if needed is None:
        return (
            f"The decline lies so near to {policy.limit_text} that no practical number of images "
            f"decides it: set --max-decline higher or lower. {sees}"
        )
    return (
        f"About {rounded_up(needed):,} images would decide it, if the models differ as they seem "
        f"to. {sees}"
    )


def _unlabelled(comparison: Comparison, policy: Policy) -> Verdict:
    return Verdict(
        status="inconclusive",
        reason=(
            f"{_agreement_text(comparison)} The images have no labels, so accuracy cannot be "
            "judged."
        ),
        remedy="Give labels: a folder per class, or a list file with `name label` lines.",
        policy=policy,
        leads_with="agreement",
    )


def _never_right(comparison: Comparison, policy: Policy) -> Verdict:
    return Verdict(
        status="inconclusive",
        reason=(
            f"The fp32 model gets none of {comparison.n:,} images right, so there is no accuracy "
            "to lose."
        ),
        remedy="Check the order of the labels and the preprocessing (--pipeline).",
        policy=policy,
        leads_with="agreement",
    )


def _agreement_text(comparison: Comparison) -> str:
    share = comparison.fidelity.agreement
    return (
        f"The two models give the same first answer on {share.count:,} of {share.n:,} images "
        f"({share.value:.1%}, {CONFIDENCE:.0%} interval {100 * share.interval.low:.1f}% to "
        f"{100 * share.interval.high:.1f}%)."
    )


def amount(fraction: float, kind: Kind) -> str:
    """``0.25%`` or ``0.2 points``, with no more decimals than it has, two at most."""
    number = f"{100 * fraction:.2f}".rstrip("0").rstrip(".")
    number = "0" if number == "-0" else number
    if kind == "relative":
        return f"{number}%"
    return f"{number} point" if number in ("1", "-1") else f"{number} points"


def span(interval: Interval, kind: Kind) -> str:
    """``-0.37% to 0.37%`` or ``-0.29 to 0.29 points``."""
    unit = "%" if kind == "relative" else ""
    tail = "" if unit else " points"
    return f"{100 * interval.low:.2f}{unit} to {100 * interval.high:.2f}{unit}{tail}"


def rounded_up(count: int) -> int:
    """``count`` rounded up to two significant digits: 5,641 is 5,700."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step
