"""quantlab baseline"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.files import Group
from quantlab.cli.options import (
    FilePath,
    Name,
    data_options,
    evaluation_options,
    force_option,
    model_options,
    pick,
    recorded_run,
    run_options,
)
from quantlab.verbs import roles

FILE = Path("quantlab-baseline.yaml")


@click.group(
    "baseline", cls=Group, short_help="Accept a model's answers, for the gate to compare with."
)
def command() -> None:
    """A small file to review and to commit; nothing changes it but quantlab baseline update."""


@command.command("update", short_help="Evaluate a model and accept what it answers.")
@click.argument("model", type=Name(roles.MODEL))
@click.option(
    "--baseline",
    type=FilePath(roles.WRITES_BASELINE),
    default=FILE,
    show_default=True,
    help="The file to write.",
)
@click.option("--no-predictions", is_flag=True, help="Write no answers (.npz) beside it.")
@force_option
@data_options
@evaluation_options
@model_options
@run_options
def update(**params: Any) -> None:
    """Write what MODEL answers today, and its answers beside it as .npz."""
    from quantlab.report.gate import baseline_summary, changes_summary
    from quantlab.verbs.baseline import BaselineUpdateOptions, update_job
    from quantlab.verbs.publish import publish

    with recorded_run("baseline", params) as (run, reporter):
        spec = BaselineUpdateOptions(**pick(params, BaselineUpdateOptions))
        updated = publish(update_job(spec, reporter), run, reporter)
    if not params["as_json"]:
        click.echo(baseline_summary(updated.baseline))
        if updated.changes:
            click.echo(f"\n{changes_summary(updated.changes)}")
        click.echo(f"\nWrote {params['baseline']}: review and commit it.")


@command.command("show", short_help="What was accepted.")
@click.argument("file", type=FilePath(roles.FILE), default=FILE)
@run_options
def show(**params: Any) -> None:
    """Print the baseline FILE."""
    from quantlab.report.gate import baseline_summary
    from quantlab.verbs.baseline import show_job
    from quantlab.verbs.publish import publish

    with recorded_run("baseline", params) as (run, reporter):
        baseline = publish(show_job(params["file"]), run, reporter).value
    if not params["as_json"]:
        click.echo(baseline_summary(baseline))


@command.command("diff", short_help="What changed between two baselines.")
@click.argument("old", type=FilePath(roles.FILE))
@click.argument("new", type=FilePath(roles.FILE), default=FILE)
@run_options
def diff(**params: Any) -> None:
    """Compare the baseline files OLD and NEW, and their answers image by image."""
    from quantlab.report.gate import changes_summary
    from quantlab.verbs.baseline import BaselineDiffOptions, diff_job
    from quantlab.verbs.publish import publish

    with recorded_run("baseline", params) as (run, reporter):
        found = publish(
            diff_job(BaselineDiffOptions(**pick(params, BaselineDiffOptions))), run, reporter
        ).value
    if not params["as_json"]:
        click.echo(changes_summary(found.changes, found.comparison))
