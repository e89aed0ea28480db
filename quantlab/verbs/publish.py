"""Publish what a verb returned: the files, the report and the record of its run folder.

Verbs return a ``VerbResult`` and know nothing of runs; this is the one place that writes into one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from quantlab._util.files import write_whole
from quantlab._util.reporter import Reporter
from quantlab._util.terminal import table_width
from quantlab.report.plots import draw
from quantlab.runs.record import RunStatus
from quantlab.runs.run import Run
from quantlab.verbs.cached_results import known_layers, known_plot

if TYPE_CHECKING:  # most verbs have no report
    from quantlab.compare.comparison import Comparison
    from quantlab.data.crops import Crops
    from quantlab.gate.verdict import Verdict
    from quantlab.report.context import ReportContext
    from quantlab.report.document import Page

T = TypeVar("T")
R = TypeVar("R", bound="VerbResult")


@dataclass(frozen=True)
class PageConditions:
    """What a run knows beside the result: the ``command`` that repeats it, the machine and the
    versions, every warning, the run folder, in ``source`` the run whose trials it picked, and
    whether the ONNX model zoo's table is wanted."""

    command: str
    environment: Mapping[str, str]
    warnings: tuple[str, ...]
    folder: Path
    source: str | None = None
    zoo: bool = False

    def complete(self, context: ReportContext) -> ReportContext:
        """The context of a report with these conditions; its own warnings come last."""
        source = {} if self.source is None else {"Picked from the trials of": self.source}
        return replace(
            context,
            data={**context.data, **source},
            command=self.command,
            environment=self.environment,
            warnings=(*self.warnings, *context.warnings),
            zoo=self.zoo,
        )


@dataclass(frozen=True)
class Artifact:
    """A file of the run folder: its ``name`` in the record, its file name, what writes it."""

    name: str
    file: str
    write: Callable[[Path], object]


class VerbResult:
    """What a verb returns: a value that says what a run folder holds of it."""

    def status(self) -> RunStatus:
        """The run's status."""
        return "success"

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        return 0

    def failure(self) -> BaseException | None:
        """The error that the verb ends with although there is something to publish."""
        return None

    def facts(self) -> dict[str, Any]:
        """The results for the record."""
        return {}

    def artifacts(self, conditions: PageConditions) -> Iterable[Artifact]:
        """The files of the run folder, in the order in which they are written."""
        return ()

    def deliver(self, conditions: PageConditions, reporter: Reporter) -> None:
        """Write files that were asked for outside of the run folder; say what was written."""


@dataclass(frozen=True)
class Returned(VerbResult, Generic[T]):
    """Any value, with its facts for the record, its files, and whether it is what it should be."""

    value: T
    record: Mapping[str, Any]
    files: tuple[Artifact, ...] = ()
    passed: bool = True

    @property
    def exit_code(self) -> int:
        """1 for what is not as it should be."""
        return 0 if self.passed else 1

    def facts(self) -> dict[str, Any]:
        """See Result."""
        return dict(self.record)

    def artifacts(self, conditions: PageConditions) -> Iterable[Artifact]:
        """See Result."""
        return self.files


class Failed(VerbResult):
    """What is left of a verb that ended with an error."""

    error: BaseException

    def failure(self) -> BaseException:
        """The error."""
        return self.error


def publish(result: R | Failed, run: Run, reporter: Reporter) -> R:
    """Leave the result in the run folder; returns it.

    Raises OutputError, and the error that the result is of.
    """
    record, warnings = run.record, tuple(reporter.warnings)
    conditions = PageConditions(
        record.command,
        record.environment,
        warnings,
        run.folder,
        record.source,
        zoo=record.spec.get("compat") == "zoo",
    )
    with table_width(None):
        if run.kept:
            write_artifacts(run, result.artifacts(conditions))
        run.record.results = result.facts()
        result.deliver(conditions, reporter)
    if (status := result.status()) != "success":
        run.finish(status)
    return succeeded(result)


def succeeded(result: R | Failed) -> R:
    """The result itself. Raises the error that it is of."""
    if (error := result.failure()) is not None:
        raise error
    assert not isinstance(result, Failed)
    return result


def write_artifacts(run: Run, artifacts: Iterable[Artifact]) -> None:
    """Write files into the run folder and register them in its record. Raises OutputError."""
    for artifact in artifacts:
        artifact.write(run.artifact(artifact.name, artifact.file))


def text_file(name: str, file: str, text: str) -> Artifact:
    """A text as a file of the run folder."""
    return Artifact(name, file, lambda path: write_whole(path, text))


def report_files(page: Page, plots: Mapping[str, bytes] = {}) -> list[Artifact]:
    """Any page as the run's report; ``plots`` are SVG files by name, which lie beside it."""
    from quantlab.report.files import HTML, MARKDOWN, write_page

    return [
        Artifact("report", MARKDOWN, lambda path: write_page(path.parent, page, plots)),
        Artifact("html_report", HTML, lambda path: None),  # written with the other
    ]


def comparison_report(
    comparison: Comparison, verdict: Verdict, context: ReportContext, crops: Crops
) -> list[Artifact]:
    """A comparison's report, with thumbnails of the ``crops`` that int8 lost, and with the error
    of layers if it was measured."""
    from quantlab.data.thumbnails import thumbnails
    from quantlab.report.comparison_page import report_page
    from quantlab.report.comparison_tables import shown_flips

    shown = {flip.image for flip in shown_flips(comparison)}
    layers = known_layers(comparison.fp32.sha256, comparison.int8.sha256)
    context = replace(context, thumbnails=thumbnails(crops, shown), layers=layers)
    plots = draw(comparison, context, known_plot)
    return report_files(report_page(comparison, verdict, context, plots), plots)
