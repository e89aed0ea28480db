"""The options of the verbs below ``quantlab runs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from quantlab.verbs import roles
from quantlab.verbs.options.option import Count, Option, Seconds
from quantlab.verbs.options.shared import OUTPUT_FLAGS, Force, RunOptions

Metric = Literal[
    "top1", "top5", "decline", "agreement", "kl", "latency", "speedup", "int8_macs"
]  # fmt: skip
Everywhere = Annotated[bool, Option("Of all machines and folders that share the --db.")]
OneRun = Annotated[str, Option(argument=True, role=roles.FOLDER)]
SeveralRuns = Annotated[tuple[str, ...], Option(argument=True, metavar="RUN...", role=roles.FOLDER)]


class LedgerOptions(RunOptions):
    """The options of ``quantlab runs ledger``."""

    COMMAND = "runs ledger"
    EXAMPLES = (
        "quantlab runs ledger",
        "quantlab runs ledger -o reports",
    )
    KEPT = False

    output: Annotated[
        Path | None,
        Option(
            "The folder for ledger.md and ledger.csv. Default: the page is printed.",
            group="Output",
            flags=OUTPUT_FLAGS,
            role=roles.FILLS_LEDGER,
        ),
    ] = None
    force: Force = False


class HistoryOptions(RunOptions):
    """Which runs. ``db`` is the URL of the index, None that of QUANTLAB_DB or a file beside the
    runs."""

    COMMAND = "runs index"
    EXAMPLES = (
        "quantlab runs index",
        "quantlab runs index --db sqlite:///history.db",
    )

    db: Annotated[
        str | None,
        Option(
            "URL of the index.  [default: $QUANTLAB_DB, else a file beside the runs]",
            role=roles.ADDS_ROWS,
        ),
    ] = None


class RunsListOptions(HistoryOptions):
    """The options of ``quantlab runs ls``; ``since`` is a date or an age such as 7d."""

    COMMAND = "runs ls"
    EXAMPLES = (
        "quantlab runs ls --verb tune --since 7d",
        "quantlab runs ls --model mobilenet --format csv",
    )

    verb: Annotated[str | None, Option("Only runs of this verb.", group="View")] = None
    model: Annotated[
        str | None, Option("Only of models with this in their name or sha256.", group="View")
    ] = None
    since: Annotated[
        str | None,
        Option("Only from this date on, or so old: 7d, 12h.", group="View", metavar="TIME"),
    ] = None
    limit: Annotated[Count | None, Option("So many at most.", group="View")] = None
    form: Annotated[
        Literal["table", "csv", "json"],
        Option("How they are printed.", flags=("--format",), group="Output"),
    ] = "table"
    everywhere: Everywhere = False


class SeveralRunsOptions(HistoryOptions):
    """The runs that are meant."""

    COMMAND = "runs"

    runs: SeveralRuns


class RunsShowOptions(HistoryOptions):
    """The options of ``quantlab runs show``."""

    COMMAND = "runs show"
    EXAMPLES = (
        "quantlab runs show latest",
        "quantlab runs show latest~1 --json",
    )

    run: OneRun


class RunsRemoveOptions(SeveralRunsOptions):
    """The options of ``quantlab runs rm``."""

    COMMAND = "runs rm"
    EXAMPLES = (
        "quantlab runs rm latest",
        "quantlab runs rm latest latest~1 --yes",
    )

    yes: Annotated[bool, Option("Do not ask.", flags=("--yes", "-y"))] = False


class RunsPruneOptions(HistoryOptions):
    """The options of ``quantlab runs prune``."""

    COMMAND = "runs prune"
    EXAMPLES = (
        "quantlab runs prune --errors",
        "quantlab runs prune --older-than 30d --errors --keep-best --dry-run",
    )

    older_than: Annotated[
        Seconds | None, Option("Runs that began so long ago: 30d, 12h.", group="View")
    ] = None
    errors: Annotated[
        bool, Option("Runs that ended with an error, or never ended.", group="View")
    ] = False
    keep_best: Annotated[
        bool, Option("Keep the fastest run of each model that passed.", group="View")
    ] = False
    dry_run: Annotated[bool, Option("Say what would go; remove nothing.", group="Output")] = False
    yes: Annotated[bool, Option("Do not ask.", flags=("--yes", "-y"))] = False


class RunsDiffOptions(HistoryOptions):
    """The options of ``quantlab runs diff``."""

    COMMAND = "runs diff"
    EXAMPLES = (
        "quantlab runs diff latest~1 latest",
        "quantlab runs diff latest~1 latest --json",
    )

    old: OneRun
    new: OneRun


class TrendOptions(HistoryOptions):
    """The options of ``quantlab runs trend``."""

    COMMAND = "runs trend"
    EXAMPLES = (
        "quantlab runs trend mobilenetv2-12",
        "quantlab runs trend mobilenetv2-12 --metric latency --plot trend.svg",
    )

    model: Annotated[str, Option(argument=True)]
    metrics: Annotated[
        tuple[Metric, ...],
        Option(
            "May be given several times.  [default: top1, latency]",
            flags=("--metric",),
            group="View",
        ),
    ] = ()
    plot: Annotated[
        Path | None,
        Option(
            "Draw it into this .png or .svg file.",
            group="Output",
            flags=("--plot", *OUTPUT_FLAGS),
            role=roles.WRITES_PLOT,
        ),
    ] = None
    force: Force = False
    everywhere: Everywhere = False


class ExportOptions(SeveralRunsOptions):
    """The options of ``quantlab runs export``; ``to`` is a tracking URI or a folder."""

    COMMAND = "runs export"
    EXAMPLES = (
        "quantlab runs export mlflow latest",
        "quantlab runs export mlflow latest --to mlruns --experiment int8",
    )

    target: Annotated[Literal["mlflow"], Option(argument=True, required=True, group="View")] = (
        "mlflow"
    )
    to: Annotated[
        str | None,
        Option(
            "A tracking URI or a folder.  [default: MLflow's own]",
            group="Output",
            metavar="PLACE",
            role=roles.FILLS_MLFLOW,
        ),
    ] = None
    experiment: Annotated[str, Option("MLflow's experiment.", group="Output")] = "quantlab"
