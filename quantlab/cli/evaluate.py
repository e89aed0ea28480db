"""quantlab evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import given, options_from, recorded_run

_OF_RESULTS = {"results", "label", "synsets", "runs_dir", "as_json", "quiet"}


@click.command(
    "evaluate",
    cls=Verb,
    short_help="Top-1 and top-5 of one model, with intervals.",
    options="evaluate:EvaluateOptions",
)
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Run MODEL (a .onnx file or a published model's name) over labelled images.

    Or say how accurate the answers are that another device gave: --results FILE --label LABELS.
    """
    if params["compat"] == "inc":
        params["batch_size"] = params["batch_size"] or 1
    if (params["model"] is None) == (params["results"] is None):
        raise click.UsageError(
            "Missing argument 'MODEL', and no quantlab.yaml names a model: give one of "
            "MODEL and --results FILE."
        )
    if (params["results"] is None) != (params["label"] is None):
        raise click.UsageError("--results FILE and --label LABELS go together.")
    if params["results"] is not None and (others := set(given(ctx)) - _OF_RESULTS):
        names = ", ".join(sorted(f"--{name.replace('_', '-')}" for name in others))
        raise click.UsageError(f"--results cannot be combined with {names}.")
    from quantlab.compat import inc_accuracy
    from quantlab.report.text import accuracy_summary, zoo_row
    from quantlab.verbs.device import ResultsOptions, evaluate_device_answers
    from quantlab.verbs.evaluate import EvaluateOptions, evaluate_named_model
    from quantlab.verbs.publish import publish

    with recorded_run("evaluate", params) as (run, reporter):
        if params["results"] is not None:
            evaluated = evaluate_device_answers(options_from(params, ResultsOptions), reporter)
        else:
            evaluated = evaluate_named_model(options_from(params, EvaluateOptions), reporter)
        publish(evaluated, run, reporter)
    if params["as_json"]:
        return
    if params["compat"] == "inc" and evaluated.accuracy is not None:
        click.echo(inc_accuracy(params["batch_size"], evaluated.accuracy))
    else:
        print_result(accuracy_summary(evaluated.accuracy, evaluated.images))
    if (
        params["compat"] == "zoo"
        and evaluated.accuracy is not None
        and "model" in evaluated.subject
    ):
        model = evaluated.subject["model"]
        print_result(f"\n{zoo_row(Path(model['path']).stem, model['bytes'], evaluated.accuracy)}")
