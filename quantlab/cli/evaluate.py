"""quantlab evaluate"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.options import (
    data_options,
    evaluation_options,
    job,
    model_options,
    pick,
    run_options,
)


@click.command("evaluate", short_help="Top-1 and top-5 of one model, with intervals.")
@click.argument("model")
@data_options
@click.option("--log-interval", type=click.IntRange(1), help="A running line every N images.")
@evaluation_options
@model_options
@run_options
def command(**params: Any) -> None:
    """Run MODEL (a .onnx file or a published model's name) over labelled images."""
    from quantlab.jobs.evaluate import EvaluateSpec, evaluate_job
    from quantlab.report.text import accuracy_summary

    with job("evaluate", params) as (run, talk):
        accuracy, images = evaluate_job(EvaluateSpec(**pick(params, EvaluateSpec)), run, talk)
    if not params["as_json"]:
        click.echo(accuracy_summary(accuracy, images))
