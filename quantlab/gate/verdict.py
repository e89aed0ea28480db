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
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from quantlab.compare.classes import classes_exceeding
from quantlab.compare.comparison import Change, ClassChange, Comparison
from quantlab.errors import RecipeError
from quantlab.gate.criteria import (
    METRIC_NAMES,
    AgreementPolicy,
    ClassPolicy,
    Criterion,
    DivergencePolicy,
    LatencyPolicy,
    Limit,
    Policy,
    SizePolicy,
    amount,
    parse_criterion,
    parse_policy,
)
from quantlab.stats.anytime import Kind, anytime_decline, anytime_share
from quantlab.stats.paired import (
    CONFIDENCE,
    POWER,
    Interval,
    clopper_pearson,
    images_needed,
    images_to_clear,
    mean_p,
    paired_decline_p,
    paired_difference,
    paired_difference_p,
    share_p,
    smallest_decline,
    smallest_distance,
    z_value,
)

__all__ = [
    "METRIC_NAMES",
    "AgreementPolicy",
    "ClassPolicy",
    "Criterion",
    "DivergencePolicy",
    "Kind",
    "LatencyPolicy",
    "Limit",
    "Policy",
    "SizePolicy",
    "Verdict",
    "amount",
    "judge",
    "parse_criterion",
    "parse_policy",
]

Status = Literal["pass", "fail", "inconclusive"]

EXIT_CODES: dict[Status, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
ALPHA = (1 - CONFIDENCE) / 2
"""How likely a limit that is just kept is said to be broken, and one that is just broken kept."""
FEW_IMAGES = 200
"""With fewer images an undecided accuracy says so little that agreement is told first."""


class Verdict(BaseModel):
    """What the gate says, with its reason and what to do about it, in sentences.

    ``decline`` and ``interval`` are what was judged, the loss that the policy limits: a decline in
    the policy's kind, the share of changed answers, or the KL; None when nothing could be.
    ``images_needed`` would decide an inconclusive verdict at 80% power if the models really differ
    as they seem to, None when that is settled or hopeless. ``smallest_decline`` is the smallest
    true decline that so many images tell from none. ``leads_with`` is what a reader should be told
    first. ``anytime``: the interval is valid whenever one stops. ``unchanged``: there is no
    interval, for int8 is fp32, or gives all of its outputs. ``p`` says how likely at least such a
    loss is if the limit is just kept, None where no chance is involved or nothing was measured.
    ``classes`` are those that surely fall beyond the limit, where it is one of classes.

    Examples:
        >>> from quantlab import compare, judge
        >>> from quantlab.testing import fake_predictions
        >>> pair = [fake_predictions(2000, 10, rate, seed=0) for rate in (0, 0.02)]
        >>> verdict = judge(compare(*pair), "top1.decline <= 3%")
        >>> verdict.status, verdict.exit_code, verdict.meets
        ('pass', 0, True)
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Status
    reason: str
    remedy: str = ""
    policy: Limit
    decline: float | None = None
    interval: Interval | None = None
    p: float | None = None
    images_needed: int | None = None
    smallest_decline: float | None = None
    leads_with: Literal["accuracy", "agreement"] = "accuracy"
    anytime: bool = False
    unchanged: bool = False
    classes: tuple[ClassChange, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive."""
        return EXIT_CODES[self.status]

    def _repr_html_(self) -> str:
        from quantlab.report.notebook import verdict_html

        return verdict_html(self)

    @property
    def meets(self) -> bool:
        """Whether the measured loss is within the limit and the policy's tolerance, however sure
        that is. Where nothing could be measured, whether nothing speaks against it."""
        return self.excess <= 0

    @property
    def excess(self) -> float:
        """How far the measured loss is beyond what is allowed, as a fraction of the limit.

        0 or less when it is met; of a limit of 0, the loss itself.
        """
        if self.decline is None:
            return math.inf if self.status == "fail" else 0.0
        over = self.decline - (self.policy.limit + self.policy.tolerance)
        return over / self.policy.limit if self.policy.limit else over


def judge(comparison: Comparison, policy: Limit, *, anytime: bool = False) -> Verdict:
    """The verdict on what the policy limits.

    With ``anytime`` it holds although the images ended because of what was seen of them; for top-1,
    top-5 and agreement, others raise ValueError. Raises RecipeError when the policy limits a metric
    of the user's that the comparison does not hold.
    """
    own = isinstance(policy, Policy) and policy.metric not in METRIC_NAMES
    if anytime and (own or not isinstance(policy, Policy | AgreementPolicy)):
        raise ValueError(f"{policy.title} has no interval that is valid whenever one stops")
    if isinstance(policy, SizePolicy):
        return size_verdict(comparison.int8.size_bytes, policy)
    if isinstance(policy, LatencyPolicy):
        return same_latency(policy) if comparison.same_file else _latency(comparison, policy)
    if _is_unchanged(comparison, policy, anytime):
        return unchanged_verdict(policy, _unchanged_words(comparison))
    if isinstance(policy, AgreementPolicy):
        return _agreement(comparison, policy, anytime)
    if isinstance(policy, ClassPolicy):
        return _classes(comparison, policy)
    if isinstance(policy, DivergencePolicy):
        return _divergence(comparison, policy)
    if policy.metric not in METRIC_NAMES:
        return _custom(comparison, policy)
    change = comparison.top1 if policy.metric == "top1" else comparison.top5
    if change is None:
        return _unlabelled(comparison, policy)
    if change.ratio is None or change.ratio_interval is None:
        return _never_right(comparison, policy)
    relative = policy.kind == "relative"
    decline = change.ratio if relative else change.difference
    interval = change.ratio_interval if relative else change.difference_interval
    if anytime:
        counts = (change.both, change.lost, change.gained, change.n)
        interval = anytime_decline(*counts, policy.kind)
    return _decide(comparison, policy, change, decline, interval, anytime)


def _is_unchanged(comparison: Comparison, policy: Limit, anytime: bool) -> bool:
    """Whether no image shows any change. What ended because of what was seen is left to its own
    test, but for one and the same file, which needs none."""
    if not comparison.fidelity.unchanged or (anytime and not comparison.same_file):
        return False
    if isinstance(policy, Policy) and policy.metric not in METRIC_NAMES:
        change = comparison.custom.get(policy.metric)
        return change is not None and not (change.lower or change.higher)
    return True


def _unchanged_words(comparison: Comparison) -> str:
    if comparison.same_file:
        return same_file_words(comparison.int8.sha256)
    rounding = "" if comparison.fidelity.identical else ", but for float32 rounding,"
    most = clopper_pearson(0, comparison.n).high
    return (
        f"Every output of int8{rounding} is fp32's on all {comparison.n:,} images: nothing changed "
        f"on any of them. Of other images at most {most:.1%} can have another output "
        f"({CONFIDENCE:.0%} interval)."
    )


def same_file_words(sha256: str) -> str:
    """Why there is nothing to judge between a file and itself."""
    return f"Both are one and the same file (sha256 {sha256[:12]}): nothing can have changed."


def unchanged_verdict(policy: Limit, words: str) -> Verdict:
    """A pass, because of what ``words`` say: nothing was lost."""
    return Verdict(
        status="pass",
        reason=words,
        policy=policy,
        decline=0.0,
        leads_with="accuracy" if isinstance(policy, Policy) else "agreement",
        unchanged=True,
    )


def same_latency(policy: LatencyPolicy) -> Verdict:
    """The verdict on a file beside itself: it takes its own time, and no clock is needed."""
    status: Status = "pass" if policy.limit >= 1 else "fail"
    return Verdict(
        status=status,
        reason=(
            f"Both are one and the same file, which takes as long as itself: {policy.amount(1)} is "
            f"{side_words(status, policy)} the limit of {policy.limit_text}."
        ),
        remedy="" if status == "pass" else "Give the int8 file that is to be faster.",
        policy=policy,
        decline=1.0,
    )


def _decide(
    comparison: Comparison,
    policy: Policy,
    change: Change,
    decline: float,
    interval: Interval,
    anytime: bool,
) -> Verdict:
    needed, relative = None, policy.kind == "relative"
    counts = (change.both, change.lost, change.gained, change.n)
    p = (
        paired_decline_p(*counts[:3], policy.limit)
        if relative
        else paired_difference_p(*counts[1:], policy.limit)
    )
    if status_of(interval, policy.limit) == "inconclusive":
        needed = images_needed(*counts, limit=policy.limit, relative=relative)
    scale = (change.both + change.lost) / change.n if relative else 1.0
    smallest = min(1.0, smallest_decline(change.lost, change.gained, change.n) / scale)
    seen = f": {change.lost:,} lost, {change.gained:,} gained"
    return _verdict(
        comparison, policy, decline, interval, seen, needed, smallest, p=p, anytime=anytime
    )


def _agreement(comparison: Comparison, policy: AgreementPolicy, anytime: bool) -> Verdict:
    share = comparison.fidelity.agreement
    loss = 1 - share.value
    interval = Interval(1 - share.interval.high, 1 - share.interval.low)
    if anytime:
        interval = anytime_share(share.n - share.count, share.n)
    needed = images_to_clear(interval, loss - policy.limit, share.n)
    seen = f": {share.n - share.count:,} answers changed"
    p = share_p(share.n - share.count, share.n, policy.limit)
    return _verdict(comparison, policy, loss, interval, seen, needed, p=p, anytime=anytime)


def _divergence(comparison: Comparison, policy: DivergencePolicy) -> Verdict:
    kl, interval = comparison.fidelity.kl, comparison.fidelity.kl_interval
    if comparison.int8.nonfinite > comparison.fp32.nonfinite:
        return _broken(comparison, policy)
    if kl is None or interval is None:
        return _unknown_divergence(comparison, policy)
    needed = images_to_clear(interval, kl - policy.limit, comparison.n)
    p = mean_p(kl, interval, policy.limit)
    return _verdict(comparison, policy, kl, interval, "", needed, p=p)


def _custom(comparison: Comparison, policy: Policy) -> Verdict:
    change = comparison.custom.get(policy.metric)
    if change is None:
        raise RecipeError(
            f"the comparison does not hold the metric {policy.metric}.",
            "Give its function to compare(metrics=...).",
        )
    relative = policy.kind == "relative"
    decline = change.ratio if relative else change.difference
    interval = change.ratio_interval if relative else change.difference_interval
    if decline is None or interval is None:
        return _not_positive(policy, change.fp32)
    needed = images_to_clear(interval, decline - policy.limit, change.n)
    seen = f": {change.lower:,} images score lower, {change.higher:,} higher"
    smallest = smallest_distance(interval)
    p = mean_p(decline, interval, policy.limit)
    return _verdict(comparison, policy, decline, interval, seen, needed, smallest, p=p)


def _classes(comparison: Comparison, policy: ClassPolicy) -> Verdict:
    """Fails when a class surely falls beyond the limit, all of them considered; passes when every
    class's interval lies within it."""
    if not comparison.classes:
        return _unlabelled(comparison, policy)
    tested = classes_exceeding(comparison.classes, policy.limit)
    fallen = [c for c, p in tested if p <= ALPHA]
    worst = max(comparison.classes, key=lambda c: (c.net_loss / c.n, c.n))
    open_ = [
        c
        for c in comparison.classes
        if paired_difference(c.lost, c.gained, c.n).high > policy.limit
    ]
    status: Status = "fail" if fallen else "inconclusive" if open_ else "pass"
    shown = fallen or [worst]
    many = len(comparison.classes)
    fell = "falls" if len(fallen) == 1 else "fall"
    reason = {
        "fail": f"{len(fallen):,} of {many:,} classes surely {fell} by more than "
        f"{policy.limit_text}: {class_words(fallen)}.",
        "inconclusive": f"No class surely falls by more than {policy.limit_text}, but for "
        f"{len(open_):,} of {many:,} it cannot be excluded; the worst is {class_words([worst])}.",
        "pass": f"None of {many:,} classes falls by more than {policy.limit_text}; the worst is "
        f"{class_words([worst])}.",
    }[status]
    return Verdict(
        status=status,
        reason=reason,
        remedy=_class_remedy(status, policy, comparison),
        policy=policy,
        decline=shown[0].net_loss / shown[0].n,
        interval=paired_difference(shown[0].lost, shown[0].gained, shown[0].n),
        p=tested[0][1],
        classes=tuple(fallen),
    )


CLASSES_NAMED = 5


def class_words(classes: Sequence[ClassChange]) -> str:
    """``207 golden retriever (9 of 10 lost), ...``, the first few."""
    named = [
        f"{c.index}{' ' + c.name.split(',')[0] if c.name else ''} "
        f"({c.lost} lost, {c.gained} gained of {c.n})"
        for c in classes[:CLASSES_NAMED]
    ]
    more = len(classes) - CLASSES_NAMED
    return ", ".join(named) + (f" and {more:,} more" if more > 0 else "")


def _class_remedy(status: Status, policy: ClassPolicy, comparison: Comparison) -> str:
    if status == "pass":
        return ""
    if status == "fail":
        return (
            "Look at these classes' images, and tune with calibration images of them or another "
            "recipe."
        )
    z = z_value()
    least = math.ceil(z * z * (1 - policy.limit) / policy.limit)
    mean = comparison.n / len(comparison.classes)
    return (
        f"A class in which nothing changes needs {least:,} images to be cleared; there are "
        f"{mean:,.1f} a class here. Give more images; as an advisory rule it still warns when a "
        "class surely falls."
    )


def _latency(comparison: Comparison, policy: LatencyPolicy) -> Verdict:
    speed = min(comparison.speeds, key=lambda s: s.batch_size, default=None)
    if speed is None:
        return unmeasured_latency(policy)
    ratio, interval = 1 / speed.speedup, Interval(1 / speed.interval.high, 1 / speed.interval.low)
    logs = Interval(math.log(interval.low), math.log(interval.high))
    status = "inconclusive" if speed.too_noisy else status_of(interval, policy.limit)
    noisy = "; the machine is too noisy to tell" if speed.too_noisy else ""
    rounds = speed.rounds_needed or 2 * speed.rounds
    remedy = {
        "pass": "",
        "fail": "quantlab inspect and quantlab bench --profile say where the time goes.",
        "inconclusive": f"Use a quieter machine, or more rounds: --rounds {rounds}.",
    }[status]
    return Verdict(
        status=status,
        reason=(
            f"int8 takes {policy.amount(ratio)} of fp32's median time at batch {speed.batch_size} "
            f"({CONFIDENCE:.0%} interval {policy.span(interval)}), {side_words(status, policy)} "
            f"the limit of {policy.limit_text}{noisy}."
        ),
        remedy=remedy,
        policy=policy,
        decline=ratio,
        interval=interval,
        p=mean_p(math.log(ratio), logs, math.log(policy.limit)),
    )


def unmeasured_latency(policy: LatencyPolicy) -> Verdict:
    """The verdict where only one of the two models is at hand."""
    return Verdict(
        status="inconclusive",
        reason="No latency was measured.",
        remedy="Give both models' files: they are timed side by side.",
        policy=policy,
    )


def size_verdict(size_bytes: int | None, policy: SizePolicy) -> Verdict:
    """The verdict on a file's size; inconclusive when there is no file."""
    if size_bytes is None:
        return Verdict(
            status="inconclusive",
            reason="The answers come from another device: the file's size is not known.",
            remedy="Give the int8 file.",
            policy=policy,
        )
    status: Status = "pass" if size_bytes <= policy.limit else "fail"
    return Verdict(
        status=status,
        reason=f"The int8 file has {size_bytes:,} bytes, {side_words(status, policy)} the limit of "
        f"{policy.most_bytes:,}.",
        remedy="" if status == "pass" else "Quantize more of it, or allow a larger file.",
        policy=policy,
        decline=float(size_bytes),
    )


def _verdict(
    comparison: Comparison,
    policy: Criterion,
    loss: float,
    interval: Interval,
    seen: str,
    needed: int | None,
    smallest: float | None = None,
    *,
    p: float | None = None,
    anytime: bool = False,
) -> Verdict:
    status = status_of(interval, policy.limit)
    needed = needed if status == "inconclusive" else None
    accuracy = isinstance(policy, Policy)
    few = accuracy and status == "inconclusive" and comparison.n < FEW_IMAGES
    when = ", valid whenever one stops," if anytime else ""
    reason = (
        f"The {policy.title} on {comparison.n:,} images is {policy.amount(loss)} "
        f"({CONFIDENCE:.0%} interval{when} {policy.span(interval)}), "
        f"{side_words(status, policy)} the limit of {policy.limit_text}{seen}."
    )
    return Verdict(
        status=status,
        reason=f"{_agreement_text(comparison)} {reason}" if few else reason,
        remedy=_remedy(status, policy, comparison.n, needed, smallest),
        policy=policy,
        decline=loss,
        interval=interval,
        p=p,
        images_needed=needed,
        smallest_decline=smallest,
        leads_with="accuracy" if accuracy and not few else "agreement",
        anytime=anytime,
    )


def status_of(interval: Interval, limit: float) -> Status:
    """Pass wholly within the limit, fail wholly beyond it."""
    if interval.high <= limit:
        return "pass"
    return "fail" if interval.low > limit else "inconclusive"


def side_words(status: Status, policy: Limit) -> str:
    """Where the interval lies: ``wholly within`` the limit."""
    if status == "inconclusive":
        return "on both sides of"
    if isinstance(policy, AgreementPolicy):
        return "wholly above" if status == "pass" else "wholly below"
    return "wholly within" if status == "pass" else "wholly beyond"


def _remedy(
    status: Status, policy: Criterion, n: int, needed: int | None, smallest: float | None
) -> str:
    if status == "pass":
        return ""
    if status == "fail":
        return (
            "Tune with more calibration images or another recipe, keep the most sensitive layers "
            "in fp32, or accept the loss with a higher limit."
        )
    sees = (
        ""
        if smallest is None
        else (
            f" {n:,} images tell a decline of {policy.amount(smallest)} or more from none "
            f"({POWER:.0%} power)."
        )
    )
    if needed is None:
        what = "decline" if isinstance(policy, Policy) else policy.title
        return (
            f"The {what} lies so near to {policy.limit_text} that no practical number of images "
            f"decides it: set the limit higher or lower.{sees}"
        )
    return (
        f"About {rounded_up(needed):,} images would decide it, if the models differ as they seem "
        f"to.{sees}"
    )


def _unlabelled(comparison: Comparison, policy: Policy | ClassPolicy) -> Verdict:
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


def _broken(comparison: Comparison, policy: DivergencePolicy) -> Verdict:
    return Verdict(
        status="fail",
        reason=(
            f"The int8 model gives a NaN or an infinity on {comparison.int8.nonfinite:,} of "
            f"{comparison.n:,} images: there its KL divergence has no limit."
        ),
        remedy="Tune with more calibration images or another recipe.",
        policy=policy,
        leads_with="agreement",
    )


def _unknown_divergence(comparison: Comparison, policy: DivergencePolicy) -> Verdict:
    kl = comparison.fidelity.kl
    mean = "" if kl is None else f"Their mean KL divergence is {policy.amount(kl)}. "
    few = f"{comparison.n:,} images do not tell what the KL divergence would be on others."
    return Verdict(
        status="inconclusive",
        reason=f"{_agreement_text(comparison)} {mean}{few}",
        remedy="Compare on more images, and check that the fp32 model gives finite outputs.",
        policy=policy,
        decline=kl,
        leads_with="agreement",
    )


def _not_positive(policy: Policy, mean: float) -> Verdict:
    return Verdict(
        status="inconclusive",
        reason=(
            f"The fp32 model's mean {policy.metric} is {mean:.4g}, not surely above 0, so a share "
            "of it says nothing."
        ),
        remedy=f"Limit the difference itself: --criterion '{policy.metric} 1pp' allows 0.01.",
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


def rounded_up(count: int) -> int:
    """``count`` rounded up to two significant digits: 5,641 is 5,700."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step
