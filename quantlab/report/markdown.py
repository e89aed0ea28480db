"""The markdown report: the verdict first, then the figures, then how to get them again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from quantlab.comparison import Comparison
from quantlab.gate import FEW_IMAGES, METRIC_NAMES, Policy, Verdict
from quantlab.report import formats, plots, tables
from quantlab.report.context import ReportContext
from quantlab.store import write_whole

PROBLEMS_SHOWN = 10


def write_report(
    folder: Path,
    comparison: Comparison,
    verdict: Verdict,
    context: ReportContext,
    kept: plots.Kept = plots.drawn_anew,
) -> Path:
    """Write ``report.md`` and its plots into ``folder`` and return its path; ``kept`` may know a
    plot from before. Raises OutputError."""
    pictures = plots.draw(comparison, folder, context.trials, kept)
    path = folder / "report.md"
    write_whole(path, render(comparison, verdict, context, pictures))
    return path


def render(
    comparison: Comparison,
    verdict: Verdict,
    context: ReportContext,
    pictures: Mapping[str, str] | None = None,
) -> str:
    """The report as markdown. ``pictures`` maps the plots' names to files beside the report."""
    page = _templates().get_template("report.md.j2")
    rendered = page.render(
        c=comparison,
        verdict=verdict,
        context=context,
        pictures=pictures or {},
        headline=headline(comparison, verdict),
        zoo_sentence=zoo_sentence(comparison),
        sections=_sections(verdict),
        problems_shown=PROBLEMS_SHOWN,
        few=comparison.n < FEW_IMAGES,
    )
    return re.sub(r"\n{3,}", "\n\n", rendered)


def render_unjudged(context: ReportContext) -> str:
    """The report of a tune that ended before anything was evaluated."""
    page = _templates().get_template("unjudged.md.j2")
    return re.sub(r"\n{3,}", "\n\n", page.render(context=context, pictures={}))


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("quantlab.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    templates.filters["details"] = tables.details
    templates.globals["tables"] = tables
    return templates


def headline(comparison: Comparison, verdict: Verdict) -> str:
    """The verdict in one line."""
    status, policy = verdict.status.upper(), verdict.policy
    few = isinstance(policy, Policy) and verdict.leads_with == "agreement"
    if few or verdict.decline is None or verdict.interval is None:
        same = comparison.fidelity.agreement
        return (
            f"{status}: {_obstacle(comparison, verdict)}; {comparison.int8.name} agrees with fp32 "
            f"on {same.count:,} of {same.n:,} ({formats.percent(same.value, 1)})"
        )
    return (
        f"{status}: {comparison.int8.name}, {policy.title} {policy.amount(verdict.decline)} "
        f"(95% interval {policy.span(verdict.interval)}), limit {policy.limit_text}"
    )


def _obstacle(comparison: Comparison, verdict: Verdict) -> str:
    policy = verdict.policy
    if not isinstance(policy, Policy):
        known = comparison.fidelity.kl is not None and verdict.status != "fail"
        return "too few images to judge the KL by" if known else "outputs that are not finite"
    if policy.metric not in METRIC_NAMES:
        if verdict.decline is None:
            return f"fp32's mean {policy.metric} is not above 0"
    elif not comparison.labelled:
        return "no labels to judge accuracy by"
    elif comparison.top1 is not None and comparison.top1.ratio is None:
        return "fp32 gets no image right"
    return f"{comparison.n:,} images are too few to judge accuracy"


def zoo_sentence(comparison: Comparison) -> str:
    """The ONNX model zoo's own phrase, or "" for unlabelled images."""
    first, fifth = comparison.top1, comparison.top5
    if first is None or fifth is None or first.ratio is None or fifth.ratio is None:
        return ""
    declines = (
        f"Compared with the fp32 {comparison.fp32.name}, int8 {comparison.int8.name}'s "
        f"Top-1 accuracy decline ratio is {formats.percent(first.ratio)}, "
        f"Top-5 accuracy decline ratio is {formats.percent(fifth.ratio)}"
    )
    if comparison.speedup is None:
        return f"{declines}."
    return f"{declines} and performance improvement is {formats.times(comparison.speedup)}."


def _sections(verdict: Verdict) -> tuple[str, ...]:
    first = ("accuracy", "fidelity")
    return (
        *(first if verdict.leads_with == "accuracy" else first[::-1]),
        "metrics",
        "speed",
        "tuning",
    )
