"""quantlab gate"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.options import (
    FilePath,
    Name,
    data_options,
    evaluation_options,
    executor_option,
    force_option,
    model_options,
    pick,
    recorded_run,
    run_options,
)
from quantlab.verbs import roles

_YAML = (".yaml", ".yml")


@click.command(
    "gate", cls=Verb, short_help="Rules for CI: pass, fail or inconclusive, where people see it."
)
@click.argument(
    "models", nargs=-1, type=Name(roles.MODEL_OR_ANSWERS), metavar="[CONFIG | FP32 INT8 | INT8]"
)
@click.option(
    "--config",
    type=FilePath(roles.FILE),
    help="Beside models: a YAML file instead of quantlab.yaml.",
)
@click.option(
    "--require",
    "--fail-if",
    "require",
    multiple=True,
    metavar="RULE",
    help="Such as 'top1.decline <= 1%' or 'kl <= 0.02, advisory'; may be given several times.",
)
@click.option(
    "--baseline", type=FilePath(roles.BASELINE_FILE), help="Accepted answers, in the place of FP32."
)
@click.option(
    "--allow-isa-change", is_flag=True, help="Also on another kind of CPU than the baseline's."
)
@data_options
@click.option("--rounds", type=click.IntRange(2), help="Of timing, where a rule is of latency.")
@click.option(
    "--junit", type=FilePath(roles.WRITES_JUNIT), help="Write JUnit XML: a test case a rule."
)
@click.option(
    "--comment",
    type=FilePath(roles.WRITES_COMMENT),
    help="Write the text of a pull-request comment.",
)
@click.option(
    "--summary",
    type=FilePath(roles.ADDS_SUMMARY),
    help="Add the same to this file.  [default: $GITHUB_STEP_SUMMARY, if any]",
)
@click.option(
    "--benchmark-json",
    type=FilePath(roles.WRITES_FIGURES),
    help="Write figures for github-action-benchmark.",
)
@force_option
@click.option("--annotations", is_flag=True, help="Print GitHub's ::error:: and ::warning:: lines.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@executor_option
@evaluation_options
@model_options
@run_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Judge INT8 by rules: against FP32, or against a baseline (quantlab baseline).

    Without models the configuration names them: its model, output and gate (docs/gate.md).

    Exits 0 pass, 1 regression, 2 usage or input error, 3 inconclusive, 4 another kind of CPU than
    the baseline's.
    """
    from quantlab.errors import QuantlabError
    from quantlab.report.gate import error_annotation, gate_summary, workflow_commands
    from quantlab.verbs.gate import GateOptions, gate_job
    from quantlab.verbs.publish import publish

    models, config = params["models"], params["config"]
    if len(models) == 1 and models[0].endswith(_YAML):
        if config is not None:
            raise click.UsageError("Give CONFIG or --config, not both.")
        config, models = Path(models[0]), ()
    if len(models) > 2:
        raise click.UsageError("Give FP32 and INT8, INT8 alone with --baseline, or one CONFIG.")
    spec = {**pick(params, GateOptions), "models": models, "config": config}
    try:
        with recorded_run("gate", params) as (run, reporter):
            found = gate_job(GateOptions(**spec), reporter, run.record.command)
            gated = publish(found, run, reporter)
    except QuantlabError as error:
        if params["annotations"]:
            click.echo(error_annotation(error), err=params["as_json"])
        raise
    if not params["as_json"]:
        click.echo(gate_summary(gated.decision, gated.context))
    if params["annotations"]:
        for line in workflow_commands(gated.decision, gated.context):
            click.echo(line, err=params["as_json"])
    ctx.exit(gated.exit_code)
