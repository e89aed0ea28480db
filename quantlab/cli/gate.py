"""quantlab gate"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import options_from, recorded_run

_YAML = (".yaml", ".yml")


@click.command(
    "gate",
    cls=Verb,
    short_help="Rules for CI: pass, fail or inconclusive, where people see it.",
    options="gate:GateOptions",
)
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Judge INT8 by rules: against FP32, or against a baseline (quantlab baseline).

    Without models the configuration names them: its model, output and gate (docs/gate.md).

    Exits 0 pass, 1 regression, 2 usage or input error, 3 inconclusive, 4 another kind of CPU than
    the baseline's.
    """
    from quantlab.errors import QuantlabError
    from quantlab.report.gate import error_annotation, gate_summary, workflow_commands
    from quantlab.verbs.gate import GateOptions, gate_named_models
    from quantlab.verbs.publish import publish

    models, config = params["models"], params["config"]
    if len(models) == 1 and models[0].endswith(_YAML):
        if config is not None:
            raise click.UsageError("Give CONFIG or --config, not both.")
        config, models = Path(models[0]), ()
    if len(models) > 2:
        raise click.UsageError("Give FP32 and INT8, INT8 alone with --baseline, or one CONFIG.")
    spec = options_from(params, GateOptions, models=models, config=config)
    try:
        with recorded_run("gate", params) as (run, reporter):
            found = gate_named_models(spec, reporter, run.record.command)
            gated = publish(found, run, reporter)
    except QuantlabError as error:
        if params["annotations"]:
            click.echo(error_annotation(error), err=params["as_json"])
        raise
    if not params["as_json"]:
        print_result(gate_summary(gated.decision, gated.context))
    if params["annotations"]:
        for line in workflow_commands(gated.decision, gated.context):
            click.echo(line, err=params["as_json"])
    ctx.exit(gated.exit_code)
