"""quantlab validate"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.options import (
    FilePath,
    Name,
    evaluation_options,
    model_options,
    pick,
    recorded_run,
    run_options,
)
from quantlab.verbs import roles


@click.command(
    "validate", cls=Verb, short_help="evaluate, by a YAML configuration, as MindCV has it."
)
@click.option(
    "--config", "-c", type=FilePath(roles.FILE), required=True, help="quantlab's or MindCV's YAML."
)
@click.option(
    "--data_dir", "data", type=FilePath(roles.DATA), help="Images; of a folder with val/: that one."
)
@click.option(
    "--ckpt_path",
    "model",
    type=Name(roles.MODEL),
    help="The .onnx file, instead of the configuration's.",
)
@click.option(
    "--log-interval",
    "--log_interval",
    type=click.IntRange(1),
    help="A running line every N images.",
)
@evaluation_options
@model_options
@run_options
def command(**params: Any) -> None:
    """Top-1 and top-5 of the configuration's model, images and preprocessing."""
    from quantlab.report.text import accuracy_summary
    from quantlab.verbs.evaluate import evaluate_job
    from quantlab.verbs.publish import publish
    from quantlab.verbs.validate import ValidateOptions, evaluation_of

    with recorded_run("validate", params) as (run, reporter):
        spec = evaluation_of(ValidateOptions(**pick(params, ValidateOptions)))
        evaluated = publish(evaluate_job(spec, reporter), run, reporter)
    if not params["as_json"]:
        click.echo(accuracy_summary(evaluated.accuracy, evaluated.images))
