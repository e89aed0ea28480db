"""quantlab runs"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.files import VerbGroup
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import options_from, recorded_run

if TYPE_CHECKING:
    from quantlab.cli.console import ConsoleReporter
    from quantlab.report.history import Form


@click.group(
    "runs", cls=VerbGroup, short_help="What runs have left: lists, differences, trends, the ledger."
)
def command() -> None:
    """What the run folders hold, taken together.

    A RUN is a folder's name, the beginning or end of one, a path, latest, or latest~1 for the one
    before.
    """


@command.command(
    "ledger",
    short_help="Published and measured figures of every recipe.",
    options="runs:LedgerOptions",
)
def ledger(**params: Any) -> None:
    """Every recipe with what is published of it, and what the runs of --runs-dir measured."""
    from quantlab.verbs.ledger import LedgerOptions, compare_with_published
    from quantlab.verbs.publish import publish

    with recorded_run("runs", params) as (run, reporter):
        spec = options_from(params, LedgerOptions)
        page, rows = publish(compare_with_published(spec, reporter), run, reporter).value
    if params["as_json"]:
        return
    if params["output"] is None:
        click.echo(page.rstrip())
        return
    count, written = sum(row.whose == "here" for row in rows), params["output"] / "ledger.md"
    click.echo(f"Wrote {written} and ledger.csv: {len(rows)} rows, {count} measured here")


def _reporter(params: dict[str, Any]) -> ConsoleReporter:
    from quantlab.cli.console import ConsoleReporter

    return ConsoleReporter(quiet=params["quiet"] or params["as_json"])


def _as_json(facts: Any) -> str:
    return json.dumps(facts, indent=1)


@command.command("ls", short_help="All runs, the newest first.", options="runs:RunsListOptions")
def ls(**params: Any) -> None:
    """List the runs: verb, model, verdict, top-1, decline."""
    from quantlab.report.history import listing
    from quantlab.verbs.runs import RunsListOptions, list_runs

    found = list_runs(options_from(params, RunsListOptions), _reporter(params))
    form: Form = "json" if params["as_json"] else params["form"]
    click.echo(listing(found, form, params["runs_dir"], everywhere=params["everywhere"]))


@command.command(
    "show",
    short_help="One run: asked, conditions, results, artifacts.",
    options="runs:RunsShowOptions",
)
def show(**params: Any) -> None:
    """Print what RUN was asked, under which conditions, what came out, and what repeats it."""
    from quantlab.report.history import run_page
    from quantlab.verbs.runs import SeveralRunsOptions, show_run

    spec = options_from(params, SeveralRunsOptions, runs=(params["run"],))
    shown = show_run(spec, _reporter(params))
    if params["as_json"]:
        click.echo(_as_json(shown.record.model_dump()))
    else:
        print_result(run_page(shown.folder, shown.record, shown.entry, shown.artifacts))


@command.command(
    "diff", short_help="What changed between two runs.", options="runs:RunsDiffOptions"
)
def diff(**params: Any) -> None:
    """Say what changed from run OLD to run NEW: first what most likely explains another result.

    Where both runs have kept their answers, these are compared image by image.
    """
    from quantlab.report.history import diff_page, diff_rows
    from quantlab.verbs.runs import RunsDiffOptions, diff_runs

    found = diff_runs(options_from(params, RunsDiffOptions), _reporter(params))
    sides = (found.changes, found.outcomes, found.comparison)
    if params["as_json"]:
        click.echo(_as_json(diff_rows(*sides)))
    else:
        names = (found.folders[0].name, found.folders[1].name)
        print_result(diff_page(names, *sides, found.unpaired))


@command.command(
    "trend", short_help="A model's accuracy and latency over runs.", options="runs:TrendOptions"
)
def trend(**params: Any) -> None:
    """Show MODEL (a name, as runs ls has it) over runs, with intervals and change points."""
    from quantlab.report.history import trend_page, trend_rows
    from quantlab.verbs.runs import TrendOptions, show_trend

    found = show_trend(options_from(params, TrendOptions), _reporter(params))
    if params["as_json"]:
        click.echo(_as_json(trend_rows(found.series)))
        return
    print_result(trend_page(found.model, found.series, found.causes))
    if params["plot"]:
        print_result(f"\nWrote {params['plot']}")


@command.command(
    "rm", short_help="Remove runs with all that they left.", options="runs:RunsRemoveOptions"
)
def rm(**params: Any) -> None:
    """Remove the folders of RUNs from the runs folder, after asking."""
    from quantlab.verbs.runs import HistoryOptions, SeveralRunsOptions, find_removable, remove_runs

    reporter, spec = _reporter(params), options_from(params, SeveralRunsOptions)
    found = find_removable(spec, reporter)
    for folder, _ in found:
        click.echo(folder, err=True)
    words = "this run" if len(found) == 1 else f"these {len(found)} runs"
    if not params["yes"] and not click.confirm(f"Remove {words}?", err=True):
        click.echo("Nothing was removed.", err=True)
        return
    remove_runs(options_from(params, HistoryOptions), [folder for folder, _ in found], reporter)
    names = [folder.name for folder, _ in found]
    click.echo(_as_json({"removed": names}) if params["as_json"] else f"Removed {len(names)}.")


@command.command("prune", short_help="Remove old and failed runs.", options="runs:RunsPruneOptions")
def prune(**params: Any) -> None:
    """Remove runs by age, or because they failed, after asking.

    Never removed: a run at work, what another run's options name, and what is about a baseline's
    model.
    """
    from quantlab.report.history import prunable_table
    from quantlab.verbs.runs import HistoryOptions, RunsPruneOptions, find_prunable, remove_runs

    reporter = _reporter(params)
    found = find_prunable(options_from(params, RunsPruneOptions), reporter)
    rows = [{"run": p.folder.name, "why": p.why, "bytes": p.bytes} for p in found]
    if found and not params["as_json"]:
        print_result(prunable_table(rows))
    if found and not params["dry_run"]:
        if not params["yes"] and not click.confirm(f"Remove {_count(len(found))}?", err=True):
            click.echo("Nothing was removed.", err=True)
            return
        remove_runs(options_from(params, HistoryOptions), [p.folder for p in found], reporter)
    if params["as_json"]:
        click.echo(_as_json({"removed": not params["dry_run"], "runs": rows}))
        return
    size = sum(p.bytes for p in found) / 1e6
    words = "Would remove" if params["dry_run"] else "Removed"
    click.echo(f"{words} {_count(len(found))}, {size:.2f} MB.")


def _count(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


@command.command(
    "index", short_help="Make the index anew from the run folders.", options="runs:HistoryOptions"
)
def index(**params: Any) -> None:
    """Read all run folders into the index again. The other verbs keep it up to date."""
    from quantlab.verbs.runs import HistoryOptions, rebuild_index

    url, count = rebuild_index(options_from(params, HistoryOptions), _reporter(params))
    found = {"index": url, "runs": count}
    click.echo(_as_json(found) if params["as_json"] else f"{count} runs in the index {url}")


@command.command("export", short_help="Log runs with MLflow.", options="runs:ExportOptions")
def export(**params: Any) -> None:
    """Log RUNs with MLflow: options, figures and artifacts. What is there already stays."""
    from quantlab.verbs.runs import ExportOptions, export_runs

    found = export_runs(options_from(params, ExportOptions), _reporter(params))
    if params["as_json"]:
        click.echo(_as_json([vars(logged) for logged in found]))
        return
    for logged in found:
        words = "Logged as" if logged.new else "Already there as"
        click.echo(f"{words} {logged.run_id} in experiment {logged.experiment}")
