"""quantlab baseline"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import VerbGroup
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import options_from, recorded_run


@click.group(
    "baseline", cls=VerbGroup, short_help="Accept a model's answers, for the gate to compare with."
)
def command() -> None:
    """A small file to review and to commit; nothing changes it but quantlab baseline update."""


@command.command(
    "update",
    short_help="Evaluate a model and accept what it answers.",
    options="baseline:BaselineUpdateOptions",
)
def update(**params: Any) -> None:
    """Write what MODEL answers today, and its answers beside it as .npz."""
    from quantlab.report.gate import baseline_summary, changes_summary
    from quantlab.verbs.baseline import BaselineUpdateOptions, update_baseline
    from quantlab.verbs.publish import publish

    with recorded_run("baseline", params) as (run, reporter):
        spec = options_from(params, BaselineUpdateOptions)
        updated = publish(update_baseline(spec, reporter), run, reporter)
    if not params["as_json"]:
        print_result(baseline_summary(updated.baseline))
        if updated.changes:
            print_result(f"\n{changes_summary(updated.changes)}")
        print_result(f"\nWrote {params['baseline']}: review and commit it.")


@command.command("show", short_help="What was accepted.", options="baseline:BaselineShowOptions")
def show(**params: Any) -> None:
    """Print the baseline FILE."""
    from quantlab.report.gate import baseline_summary
    from quantlab.verbs.baseline import show_baseline
    from quantlab.verbs.publish import publish

    with recorded_run("baseline", params) as (run, reporter):
        baseline = publish(show_baseline(params["file"]), run, reporter).value
    if not params["as_json"]:
        print_result(baseline_summary(baseline))


@command.command(
    "diff", short_help="What changed between two baselines.", options="baseline:BaselineDiffOptions"
)
def diff(**params: Any) -> None:
    """Compare the baseline files OLD and NEW, and their answers image by image."""
    from quantlab.report.gate import changes_summary
    from quantlab.verbs.baseline import BaselineDiffOptions, diff_baselines
    from quantlab.verbs.publish import publish

    with recorded_run("baseline", params) as (run, reporter):
        found = publish(
            diff_baselines(options_from(params, BaselineDiffOptions)), run, reporter
        ).value
    if not params["as_json"]:
        print_result(changes_summary(found.changes, found.comparison))
