"""Write the report of a run, for any verb, and register its files in the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from quantlab._util.reporter import Reporter
from quantlab.compare.comparison import Comparison
from quantlab.data.crops import Crops
from quantlab.data.thumbnails import thumbnails
from quantlab.gate.criterion import Criterion
from quantlab.gate.verdict import Verdict
from quantlab.report.content import report_page, unjudged_page
from quantlab.report.context import ReportContext
from quantlab.report.document import Page
from quantlab.report.files import HTML, MARKDOWN, write_page
from quantlab.report.plots import draw
from quantlab.report.tables import shown_flips
from quantlab.runs.run import Run
from quantlab.verbs.checks import known_layers, known_plot


def context_of(
    run: Run,
    reporter: Reporter,
    crops: Crops,
    data: Mapping[str, str],
    verdict: Verdict,
    judged: Sequence[Criterion] = (),
) -> ReportContext:
    """The context of a comparison's report: conditions, data, command. ``judged`` are all that a
    gate judges: the report's verdict is on one of them."""
    criterion = verdict.criterion
    alone = f"This page judges the {criterion.title} alone; gate.md has the gate's decision."
    return ReportContext(
        command=run.record.command,
        environment=run.record.environment,
        data=data,
        problems=crops.problems,
        warnings=(*reporter.warnings, *([alone] if {*judged} - {criterion} else [])),
    )


def report(
    run: Run, comparison: Comparison, verdict: Verdict, context: ReportContext, crops: Crops
) -> None:
    """Write a comparison's report, with thumbnails of the ``crops`` that int8 lost, and with the
    error of layers if it was measured. Raises OutputError."""
    shown = {flip.image for flip in shown_flips(comparison)}
    layers = known_layers(comparison.fp32.sha256, comparison.int8.sha256)
    context = replace(context, thumbnails=thumbnails(crops, shown), layers=layers)
    plots = draw(comparison, context, known_plot)
    publish(run, report_page(comparison, verdict, context, plots), plots)


def report_unjudged(run: Run, context: ReportContext) -> None:
    """The report of a tune that ended before anything was evaluated. Raises OutputError."""
    publish(run, unjudged_page(context))


def publish(run: Run, page: Page, plots: Mapping[str, bytes] = {}) -> None:
    """Any page as the run's report; ``plots`` are SVG files by name. Raises OutputError."""
    write_page(run.folder, page, plots)
    run.artifact("report", MARKDOWN)
    run.artifact("html_report", HTML)
