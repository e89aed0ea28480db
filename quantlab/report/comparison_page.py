"""The content of a report, in order: verdict, figures, conditions, command."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import yaml

from quantlab.compare.comparison import Comparison
from quantlab.compare.speeds import WORTH_SEEING
from quantlab.gate.verdict import FEW_IMAGES, Verdict
from quantlab.report import comparison_tables, formats
from quantlab.report.advice import unfinished
from quantlab.report.context import ReportContext, Unfinished
from quantlab.report.document import (
    Block,
    Bullets,
    Code,
    Gallery,
    Listing,
    Page,
    Paragraph,
    Plot,
    Section,
    Strong,
    prose,
    say,
    section,
)
from quantlab.report.pays_off import worth
from quantlab.report.where import where_line

PROBLEMS_SHOWN = 10


def report_page(
    c: Comparison, verdict: Verdict, context: ReportContext, plots: Collection[str] = ()
) -> Page:
    """The report of a comparison; ``plots`` are the names of those that were drawn."""
    judged = [_accuracy(c, context, plots), _fidelity(c, context, plots)]
    sections = (
        *(judged if verdict.leads_with == "accuracy" else judged[::-1]),
        section("Your metrics", _metrics(c)),
        section("Layers", _layers(context, plots)),
        section("Speed", _speed(c, plots)),
        _tuning(context, plots),
        section("Images that could not be used", _problems(context)),
        section("Conditions", _conditions(c, context)),
        _reproduction(context),
    )
    return Page(
        status=verdict.status.upper(),
        title=finding(c, verdict),
        blocks=tuple(_lead(c, verdict, context)),
        sections=tuple(x for x in sections if x is not None),
        first=_first(c, context),
    )


def _first(c: Comparison, context: ReportContext) -> tuple[Block, ...]:
    """The sentence that a limit ended a tune, which stands before the verdict."""
    if context.unfinished is None:
        return ()
    pays = worth(c, context.trials)
    return (_ended(context.unfinished), *([say(pays)] if pays else []))


def _ended(end: Unfinished) -> Block:
    before, command = unfinished(end).removesuffix(end.command), Code(end.command)
    return say(before, command)


def unjudged_page(context: ReportContext) -> Page:
    """The report of a tune that ended before anything was evaluated."""
    environment = tuple((f"{name}: {value}",) for name, value in context.environment.items())
    sections = (
        _tuning(context, ()),
        section("Conditions", [Bullets(environment)]),
        _reproduction(context),
    )
    nearest = "The int8 model nearest to fp32 on calibration images so far is "
    found = say(nearest, Code(context.output), ".") if context.output else None
    return Page(
        status="",
        title="No verdict: the tune ended before a recipe was evaluated",
        blocks=(found or say("There is no int8 model."), *_notes(context.warnings)),
        sections=tuple(x for x in sections if x is not None),
        first=(_ended(context.unfinished),) if context.unfinished else (),
    )


def headline(c: Comparison, verdict: Verdict) -> str:
    """The verdict in one line."""
    return f"{verdict.status.upper()}: {finding(c, verdict)}"


def finding(c: Comparison, verdict: Verdict) -> str:
    """What the verdict rests on, in one line."""
    criterion = verdict.criterion
    if verdict.unchanged and verdict.measured is not None:
        return (
            f"{c.int8.name}, {criterion.title} {criterion.amount(verdict.measured)}, nothing "
            f"changed; limit {criterion.limit_text}"
        )
    few = criterion.declines and verdict.leads_with == "agreement"
    if few or verdict.measured is None or verdict.cause == "too few":
        same = c.fidelity.agreement
        return (
            f"{_obstacle(c, verdict)}; {c.int8.name} agrees with fp32 "
            f"on {same.count:,} of {same.n:,} ({formats.percent(same.value, 1)})"
        )
    interval = verdict.interval
    span = "" if interval is None else f" (95% interval {criterion.span(interval)})"
    limit = f", limit {criterion.limit_text}" if criterion.relation else ""
    return f"{c.int8.name}, {criterion.title} {criterion.amount(verdict.measured)}{span}{limit}"


_OBSTACLES = {
    "no labels": "no labels to judge accuracy by",
    "never right": "fp32 gets no image right",
    "not finite": "outputs that are not finite",
    "not timed": "nothing was timed",
    "no file": "no file whose size is known",
    "cpus": "nothing is known of other CPUs",
    "cpus not known": "nothing is known of other CPUs",
    "one runtime": "no answers in another runtime",
}
"""By what was found: why there is nothing to judge by."""


def _obstacle(c: Comparison, verdict: Verdict) -> str:
    if verdict.cause == "too few":
        known = c.fidelity.kl is not None
        return "too few images to judge the KL by" if known else _OBSTACLES["not finite"]
    if verdict.cause == "not positive":
        return f"fp32's mean {verdict.criterion.metric_function} is not above 0"
    if verdict.measured is not None:
        return f"{c.n:,} images are too few to judge accuracy"
    return _OBSTACLES.get(verdict.cause, f"no {verdict.criterion.title} to judge by")


def zoo_sentence(c: Comparison) -> str:
    """The ONNX model zoo's own phrase, or "" for unlabelled images."""
    first, fifth = c.top1, c.top5
    if first is None or fifth is None or first.ratio is None or fifth.ratio is None:
        return ""
    declines = (
        f"Compared with the fp32 {c.fp32.name}, int8 {c.int8.name}'s "
        f"Top-1 accuracy decline ratio is {formats.percent(first.ratio)}, "
        f"Top-5 accuracy decline ratio is {formats.percent(fifth.ratio)}"
    )
    if c.speedup is None:
        return f"{declines}."
    return f"{declines} and performance improvement is {formats.times(c.speedup)}."


def _lead(c: Comparison, verdict: Verdict, context: ReportContext) -> Iterator[Block]:
    if where := where_line(c.where):
        yield say(where)
    yield from map(say, c.lead)
    if context.unfinished is None and (pays := worth(c, context.trials)):
        yield say(pays)
    yield say(verdict.reason)
    if context.early:
        yield say(context.early)
    if verdict.remedy:
        yield say(Strong("What to do:"), f" {verdict.remedy}")
    if context.shortfall:
        yield say(Strong("No recipe met the criterion."), f" {context.shortfall}")
    if context.zoo and (quote := zoo_sentence(c)):
        yield Paragraph((quote,), quoted=True)
        yield comparison_tables.zoo(c)
        if c.n < FEW_IMAGES:
            yield say(f"These are the figures of {c.n} images: too few to quote.")
    yield from _notes(c.notes + context.warnings)
    yield comparison_tables.summary(c)
    if context.output:
        yield say("The int8 model is ", Code(context.output), ".")


def _notes(sentences: tuple[str, ...]) -> Iterator[Block]:
    if sentences:
        yield Bullets(tuple((Strong("Note:"), f" {sentence}") for sentence in sentences))


def _accuracy(c: Comparison, context: ReportContext, plots: Collection[str]) -> Section | None:
    if not c.labelled:
        return None
    return section(
        "Accuracy",
        _decline(c),
        section("Classes that lost most", _classes(c, plots)),
        section(
            "Lost images, those fp32 was surest of first",
            [comparison_tables.flips(c, context.thumbnails)],
        ),
    )


def _decline(c: Comparison) -> Iterator[Block]:
    yield comparison_tables.decline(c)
    yield say(
        f"Both models saw the same {c.n:,} images. Lost images are those that only fp32 gets "
        "right, gained ones those that only int8 does. The intervals are Wilson's for one "
        "accuracy, Tango's for the decline and the score interval of Tang, Tang and Chan for its "
        "ratio."
    )


def _classes(c: Comparison, plots: Collection[str]) -> Iterator[Block]:
    worst = c.worst_classes(1)
    yield comparison_tables.classes(c)
    if worst and worst[0].net_loss == 1:
        yield say("No class lost more than one image net: this is within chance.")
    changed = [x for x in c.classes if x.lost or x.gained]
    if "classes" in plots:
        lost, gained = (sum(getattr(x, kind) for x in changed) for kind in ("lost", "gained"))
        yield Plot(
            "classes",
            "Images lost and gained per class",
            f"Bars of the images that each class lost and gained; of {len(c.classes)} classes "
            f"{len(changed)} changed, {lost} images were lost and {gained} gained.",
        )
    if "scatter" in plots:
        worse = sum(x.net_loss > 0 for x in c.classes)
        better = sum(x.net_loss < 0 for x in c.classes)
        yield Plot(
            "scatter",
            "Accuracy of every class, fp32 across and int8 up",
            f"Every class by its accuracy in fp32 and in int8: {worse} classes are worse in int8, "
            f"{better} better and {len(c.classes) - worse - better} the same.",
        )


def _fidelity(c: Comparison, context: ReportContext, plots: Collection[str]) -> Section | None:
    blocks: list[Block] = [comparison_tables.fidelity(c)]
    if "confidence" in plots:
        changed = sum(c.confidence.changed)
        about = f"of all {c.n:,} images, and of the {changed:,} whose first answer changed."
        blocks.append(
            Plot(
                "confidence",
                "Probability of the first answer",
                f"Histograms of how sure fp32 and int8 are {about}",
            )
        )
    flips: list[Gallery] = [] if c.labelled else [comparison_tables.flips(c, context.thumbnails)]
    title = "Changed answers, those fp32 was surest of first"
    return section("Fidelity", blocks, section(title, flips))


def _metrics(c: Comparison) -> Iterator[Block]:
    if not c.custom:
        return
    yield comparison_tables.metrics(c)
    yield say(
        "The decline is fp32's mean score less int8's, its ratio a share of fp32's; the intervals "
        "are paired bootstraps over images. Lower and higher count the images that int8 scores "
        "lower and higher."
    )


def _layers(context: ReportContext, plots: Collection[str]) -> Iterator[Block]:
    found = context.layers
    if found is None:
        return
    yield comparison_tables.layers(found)
    yield say(
        f"SQNR against fp32 on {found.images} images: local of one layer with fp32's inputs, "
        f"accumulated of all errors on the way to it. {comparison_tables.break_words(found)}"
    )
    if "layers" in plots:
        yield Plot(
            "layers",
            "SQNR of every layer",
            f"Lines of the accumulated, local and weights' SQNR over {len(found.layers)} layers.",
        )


def _speed(c: Comparison, plots: Collection[str]) -> Iterator[Block]:
    if not c.speeds:
        return
    yield comparison_tables.ratios(c)
    yield from map(say, map(comparison_tables.runtime_sentence, c.runtime_gains))
    if c.runtime_speed is not None:
        yield say(comparison_tables.other_runtime_sentence(c.runtime_speed))
    yield comparison_tables.speed(c)
    yield say(
        f"The models ran in turns, {len(c.speeds[0].fp32.samples)} timed runs each. The speedup is "
        "that of runs side by side, not the ratio of the two p50. A difference within the noise "
        "floor, which is what fp32 showed against itself in the same run, means nothing."
    )
    for speed in c.speeds:
        if (speed.resolution or 0) > WORTH_SEEING:
            words = comparison_tables.coarse_sentence(speed.resolution, speed.rounds_needed)
            yield say(f"At batch {speed.batch_size}: {words}")
    if "latency" in plots:
        medians = "; ".join(
            f"at batch {s.batch_size} the medians are {s.fp32.p50:.2f} and {s.int8.p50:.2f} ms"
            for s in c.speeds
        )
        yield Plot(
            "latency",
            "Latency distributions",
            f"Histograms of the run times of fp32 and int8; {medians}.",
        )


def _tuning(context: ReportContext, plots: Collection[str]) -> Section | None:
    kept = section("Kept in fp32", _reverted(context) if context.trials else ())
    front = section("Speed against accuracy, as predicted", _front(context))
    shown = section("Decline against speed", _tradeoff(context, plots))
    time = section("Where the time went", _timeline(context))
    return section("Tuning", _trials(context) if context.trials else (), kept, front, shown, time)


def _trials(context: ReportContext) -> Iterator[Block]:
    failed = [trial for trial in context.trials if trial.error]
    yield comparison_tables.trials(context.trials)
    crosses = "; ✗ one that failed" if failed else ""
    yield say(
        f"→ marks the recipe that was kept{crosses}. KL calib. is the mean KL to fp32 on some "
        "calibration images, by which recipes are ranked before they are evaluated; KL eval. and "
        "the figures beside it are of the evaluation images, KL p99 the 99th percentile over them."
    )
    if failed:
        yield Bullets(tuple((Code(t.recipe), f" failed: {t.error}") for t in failed))
    if context.suggestions:
        yield say("What to try next:")
        yield Bullets(tuple(map(prose, context.suggestions)))


def _reverted(context: ReportContext) -> Iterator[Block]:
    if not context.reverted:
        return
    yield comparison_tables.reverted(context.reverted)
    yield say(
        "What each gains by staying in fp32, and how much longer the file takes for it. By trials: "
        "two that differ by just these nodes (KL on calibration images, top-1 on the evaluation "
        "images). By ranking: the KL that the group causes when nothing else is in int8. By plain "
        "files: with and without the group, quantized without corrections and timed in turns. Each "
        "figure holds for what else is in fp32 in its two files: neighbours in fp32 save the "
        "conversions between them, a lone one adds them. A few percent of time either way are the "
        "machine's own noise."
    )


def _front(context: ReportContext) -> Iterator[Block]:
    if not context.front:
        return
    yield comparison_tables.front(context.front)
    yield say(
        "The first missed the criterion; those below leave more nodes in fp32, as counted. Each "
        "takes the least time that its error allows, as predicted: the time by the costs of "
        "operators, the error as the sum of the KLs that groups of nodes cause when nothing else "
        "is in int8. The other figures were measured, where it was tried."
    )


def _timeline(context: ReportContext) -> Iterator[Block]:
    if not context.steps:
        return
    yield comparison_tables.timeline(context.steps)
    yield say(
        "Steps whose bars overlap ran side by side. Nothing else of the tune runs while models "
        "are timed."
    )


def _tradeoff(context: ReportContext, plots: Collection[str]) -> Iterator[Block]:
    if "tradeoff" not in plots:
        return
    front = ", ".join(trial.recipe for trial in context.trials if trial.front)
    yield Plot(
        "tradeoff",
        "Decline against speed of every trial",
        f"Every trial by its speedup and its decline; no other one beats {front}.",
    )
    yield Paragraph(
        prose(
            "The line joins the trials that no other one beats in decline, speed and size "
            "together; the star is the one that was kept. "
            "`--resume RUN --pick fastest|smallest|most-accurate` writes another."
        )
    )


def _problems(context: ReportContext) -> Iterator[Block]:
    if not context.problems:
        return
    count, shown = len(context.problems), context.problems[:PROBLEMS_SHOWN]
    first = f"; the first {PROBLEMS_SHOWN}" if count > PROBLEMS_SHOWN else ""
    yield say(f"{count:,} images are left out{first}:")
    yield Bullets(tuple((Code(p.name), f": {p.reason}") for p in shown))


def _conditions(c: Comparison, context: ReportContext) -> Iterator[Block]:
    yield comparison_tables.conditions(c, context)
    for title, fields in (("Preprocessing", c.pipeline), ("Recipe", context.recipe)):
        if fields:
            yield say(f"{title} in full:")
            yield Listing(_as_yaml(fields), "yaml")


def _reproduction(context: ReportContext) -> Section | None:
    return section("How to reproduce", [Listing(context.command)])


def _as_yaml(fields: Mapping[str, object]) -> str:
    return yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True).rstrip()
