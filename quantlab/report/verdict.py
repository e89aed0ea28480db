"""Sentences for a verdict: its reason, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from quantlab.compare.comparison import Change, ClassChange, OtherCpus
from quantlab.gate.criteria.accuracy import METRIC_NAMES
from quantlab.gate.notation import spelled_now
from quantlab.gate.rules import Decision
from quantlab.gate.verdict import ALPHA, Verdict
from quantlab.model.kinds import ONNX_RUNTIME
from quantlab.report.where import cpus_remedy, cpus_words
from quantlab.stats.paired import CONFIDENCE, POWER, Share

CLASSES_NAMED = 5
Words = tuple[str, str]
"""A reason and a remedy."""


def reason(verdict: Verdict) -> str:
    """Why the verdict is what it is."""
    words = _WORDS.get(verdict.cause, _measured)(verdict)[0]
    if verdict.held_p is None:
        return words
    return (
        f"{words} Alone it would fail; beside the other rules that is not sure enough "
        f"(p {verdict.held_p:.2g} after Holm's correction, {ALPHA:.2g} is needed)."
    )


def remedy(verdict: Verdict) -> str:
    """What to do about it."""
    if verdict.held_p is not None:
        return "More images decide it, or fewer required rules."
    return _WORDS.get(verdict.cause, _measured)(verdict)[1]


def alarms(risen: Mapping[str, Change]) -> tuple[str, ...]:
    """A sentence for every accuracy that surely rose: that is rarely quantization's doing."""
    return tuple(
        f"The {METRIC_NAMES[metric]} accuracy surely rose, by {-100 * change.difference:.2f} "
        f"points (95% interval {-100 * change.difference_interval.high:.2f} to "
        f"{-100 * change.difference_interval.low:.2f}, McNemar p {change.mcnemar_p:.2g}). "
        "Quantization seldom does that: check that both are the same model, and that these images "
        "did not calibrate or train it."
        for metric, change in risen.items()
    )


def family(decision: Decision) -> str:
    """How the error rate over all rules is controlled, in a sentence; empty for one rule."""
    count = sum(j.verdict.p is not None for j in decision.required)
    if count < 2:
        return ""
    return (
        f"{count} required rules rest on samples and are one decision: any wrong failure has "
        f"a chance of at most {ALPHA:.1%} (Holm), a wrong pass of at most {ALPHA:.1%} (every "
        "rule must pass)."
    )


def spelling(text: str) -> str:
    """How an older spelling of a criterion or a rule is written now; "" for any other text."""
    now = spelled_now(text)
    return f"{text!r} is an older spelling of {now!r}." if now != text else ""


def class_words(classes: Sequence[ClassChange]) -> str:
    """``207 golden retriever (9 of 10 lost), ...``, the first few."""
    named = [
        f"{c.index}{' ' + c.name.split(',')[0] if c.name else ''} "
        f"({c.lost} lost, {c.gained} gained of {c.n})"
        for c in classes[:CLASSES_NAMED]
    ]
    more = len(classes) - CLASSES_NAMED
    return ", ".join(named) + (f" and {more:,} more" if more > 0 else "")


def rounded_up(count: int) -> int:
    """``count`` rounded up to two significant digits: 5,641 is 5,700."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step


def _side(v: Verdict) -> str:
    """Where what was measured lies: ``wholly within`` the limit."""
    if v.held_p is None and v.status == "inconclusive":
        return "on both sides of"
    kept = v.status == "pass"
    if v.criterion.relation == ">=":
        return "wholly above" if kept else "wholly below"
    return "wholly within" if kept else "wholly beyond"


def _loss(v: Verdict) -> str:
    return "" if v.measured is None else v.criterion.amount(v.measured)


def _span(v: Verdict) -> str:
    return "" if v.interval is None else v.criterion.span(v.interval)


def _measured(v: Verdict) -> Words:
    if v.measured is None:
        return f"The {v.criterion.title} could not be measured.", ""
    when = ", valid whenever one stops," if v.anytime else ""
    interval = f" ({CONFIDENCE:.0%} interval{when} {_span(v)})" if v.interval else ""
    seen = ", ".join(f"{count:,} {what}" for what, count in v.counts.items())
    words = (
        f"The {v.criterion.title} on {v.images:,} images is {_loss(v)}{interval}, {_side(v)} the "
        f"limit of {v.criterion.limit_text}{seen and f': {seen}'}."
    )
    few = v.criterion.declines and v.leads_with == "agreement"
    return f"{_agreement(v.agreement)} {words}" if few else words, _measured_remedy(v)


def _measured_remedy(v: Verdict) -> str:
    if v.status == "pass":
        return ""
    if v.status == "fail":
        return (
            "Tune with more calibration images or another recipe, keep the most sensitive layers "
            "in fp32, or accept the loss with a higher limit."
        )
    sees = (
        ""
        if v.smallest_decline is None
        else (
            f" {v.images:,} images tell a decline of {v.criterion.amount(v.smallest_decline)} or "
            f"more from none ({POWER:.0%} power)."
        )
    )
    if v.images_needed is None:
        what = "decline" if v.criterion.declines else v.criterion.title
        return (
            f"The {what} lies so near to {v.criterion.limit_text} that no practical number of "
            f"images decides it: set the limit higher or lower.{sees}"
        )
    return (
        f"About {rounded_up(v.images_needed):,} images would decide it, if the models differ as "
        f"they seem to.{sees}"
    )


def _unpaired(v: Verdict) -> Words:
    words = (
        f"The {v.criterion.title} is {_loss(v)} (95% interval, not paired, {_span(v)}), {_side(v)} "
        f"the limit of {v.criterion.limit_text}."
    )
    if v.status != "inconclusive":
        return words, ""
    needed = v.images_needed
    more = f"about {needed:,} unpaired images" if needed else "no practical number of images"
    return words, (
        "Put the baseline's answers (.npz) beside it: paired by image the interval is narrower. "
        f"Without them {more} would decide it."
    )


def _same_file(v: Verdict) -> Words:
    sha256 = str(v.facts["sha256"])
    return (
        f"Both are one and the same file (sha256 {sha256[:12]}): nothing can have changed.",
        "",
    )


def _same_outputs(v: Verdict) -> Words:
    rounding = ", but for float32 rounding," if v.facts["rounding"] else ""
    return (
        f"Every output of int8{rounding} is fp32's on all {v.facts['images']:,} images: nothing "
        f"changed on any of them. Of other images at most {v.facts['most']:.1%} can have another "
        f"output ({CONFIDENCE:.0%} interval).",
        "",
    )


def _classes(v: Verdict) -> Words:
    many, limit = v.counts["classes"], v.criterion.limit_text
    if v.status == "fail" or v.held_p is not None:
        fell = "falls" if len(v.shown) == 1 else "fall"
        return (
            f"{len(v.shown):,} of {many:,} classes surely {fell} by more than {limit}: "
            f"{class_words(v.shown)}.",
            "Look at these classes' images, and tune with calibration images of them or another "
            "recipe.",
        )
    worst = class_words(v.shown[:1])
    if v.status == "pass":
        return f"None of {many:,} classes falls by more than {limit}; the worst is {worst}.", ""
    return (
        f"No class surely falls by more than {limit}, but for {v.counts['open']:,} of {many:,} it "
        f"cannot be excluded; the worst is {worst}.",
        f"A class in which nothing changes needs {v.facts['least images']:,} images to be cleared; "
        f"there are {v.images / many:,.1f} a class here. Give more images; as an advisory rule it "
        "still warns when a class surely falls.",
    )


def _timed(v: Verdict) -> Words:
    noisy = "; the machine is too noisy to tell" if v.facts["too noisy"] else ""
    words = (
        f"int8 takes {_loss(v)} of fp32's median time at batch {v.facts['batch size']} "
        f"({CONFIDENCE:.0%} interval {_span(v)}), {_side(v)} the limit of "
        f"{v.criterion.limit_text}{noisy}."
    )
    return words, {
        "pass": "",
        "fail": "quantlab inspect and quantlab bench --profile say where the time goes.",
        "inconclusive": f"Use a quieter machine, or more rounds: --rounds {v.facts['rounds']}.",
    }[v.status]


def _own_time(v: Verdict) -> Words:
    return (
        f"Both are one and the same file, which takes as long as itself: {_loss(v)} is {_side(v)} "
        f"the limit of {v.criterion.limit_text}.",
        "" if v.status == "pass" else "Give the int8 file that is to be faster.",
    )


def _file(v: Verdict) -> Words:
    return (
        f"The int8 file has {v.measured:,.0f} bytes, {_side(v)} the limit of "
        f"{v.criterion.limit:,.0f}.",
        "" if v.status == "pass" else "Quantize more of it, or allow a larger file.",
    )


def _no_labels(v: Verdict) -> Words:
    return (
        f"{_agreement(v.agreement)} The images have no labels, so accuracy cannot be judged.",
        "Give labels: a folder per class, or a list file with `name label` lines.",
    )


def _never_right(v: Verdict) -> Words:
    return (
        f"The fp32 model gets none of {v.images:,} images right, so there is no accuracy to lose.",
        "Check the order of the labels and the preprocessing (--pipeline).",
    )


def _not_finite(v: Verdict) -> Words:
    return (
        f"The int8 model gives a NaN or an infinity on {v.counts['not finite']:,} of "
        f"{v.images:,} images: there its KL divergence has no limit.",
        "Tune with more calibration images or another recipe.",
    )


def _too_few(v: Verdict) -> Words:
    mean = f"Their mean KL divergence is {_loss(v)}. " if v.measured is not None else ""
    return (
        f"{_agreement(v.agreement)} {mean}{v.images:,} images do not tell what the KL divergence "
        "would be on others.",
        "Compare on more images, and check that the fp32 model gives finite outputs.",
    )


def _not_positive(v: Verdict) -> Words:
    metric = v.criterion.metric_function
    return (
        f"The fp32 model's mean {metric} is {v.facts['mean']:.4g}, not surely above 0, so a share "
        "of it says nothing.",
        f"Limit the difference itself: --criterion '{v.criterion.name} <= 1pp' allows 0.01.",
    )


def _no_answers(v: Verdict) -> Words:
    return (
        f"The baseline's answers are not here, so {v.criterion.title} cannot be judged.",
        "Put the .npz that the baseline names beside it: quantlab baseline update writes it.",
    )


def _cpus(v: Verdict) -> Words:
    found = OtherCpus.model_validate(v.facts)
    own = v.facts["runtime"] == ONNX_RUNTIME
    remedy = cpus_remedy(found, onnx_runtime=own)
    words = f"Other CPUs: {cpus_words(found, onnx_runtime=own)}."
    return words, remedy and f"{remedy[0].upper()}{remedy[1:]}."


def _two_runtimes(v: Verdict) -> Words:
    beside = f"Beside {v.facts['own']} the file ran in {v.facts['other']}."
    remedy = "Judge the file in the runtime that it is for (--runtime), or allow more."
    if bad := v.counts.get("not finite"):
        return f"{beside} There alone it gives a NaN or an infinity on {bad:,} images.", remedy
    if v.interval is None:
        mean = "" if v.measured is None else f" The {v.criterion.title} is {_loss(v)}."
        few = f"{v.images:,} images do not tell what it would be on others."
        return f"{beside}{mean} {few}", "Give more images."
    words, usual = _measured(v)
    return f"{beside} {words}", remedy if v.status == "fail" else usual


_TWO_MODELS = (
    "Give two models and this rule: quantlab gate FP32 INT8 --require RULE, or "
    "quantlab.gate((fp32, int8), RULE, images=...)."
)


def _told(reason: str, remedy: str) -> Callable[[Verdict], Words]:
    return lambda _: (reason, remedy)


_WORDS: dict[str, Callable[[Verdict], Words]] = {
    "stored": lambda v: v.stored or ("", ""),
    "measured": _measured,
    "unpaired": _unpaired,
    "same file": _same_file,
    "same outputs": _same_outputs,
    "classes": _classes,
    "timed": _timed,
    "own time": _own_time,
    "not timed": _told(
        "No latency was measured.", "Give both models' files: they are timed side by side."
    ),
    "file": _file,
    "no file": _told(
        "The answers come from another device: the file's size is not known.",
        "Give the int8 file.",
    ),
    "cpus": _cpus,
    "cpus not known": _told(
        "What other CPUs answer is not known: that needs the int8 file.",
        _TWO_MODELS,
    ),
    "two runtimes": _two_runtimes,
    "one runtime": _told(
        "What another runtime answers is not known: that needs two models, run for this rule.",
        _TWO_MODELS,
    ),
    "no labels": _no_labels,
    "never right": _never_right,
    "baseline never right": _told(
        "The baseline gets no image right, so there is no accuracy to lose.", ""
    ),
    "no answers": _no_answers,
    "not finite": _not_finite,
    "too few": _too_few,
    "not positive": _not_positive,
}
"""By what was found. A kind of criterion needs none of its own: ``_measured`` serves all."""


def _agreement(share: Share | None) -> str:
    assert share is not None
    return (
        f"The two models give the same first answer on {share.count:,} of {share.n:,} images "
        f"({share.value:.1%}, {CONFIDENCE:.0%} interval {100 * share.interval.low:.1f}% to "
        f"{100 * share.interval.high:.1f}%)."
    )
