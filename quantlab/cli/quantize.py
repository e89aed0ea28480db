"""quantlab quantize"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.options import (
    FilePath,
    Name,
    data_options,
    executor_option,
    model_options,
    pick,
    recorded_run,
    run_options,
)
from quantlab.verbs import roles


@click.command("quantize", cls=Verb, short_help="One model, one recipe, one int8 file; no search.")
@click.option(
    "--model",
    type=Name(roles.MODEL),
    required=True,
    help="A .onnx file, or a published model's name.",
)
@click.option(
    "--recipe",
    type=Name(roles.FILE),
    help="A YAML file or a published model's name. Default: the best we have.",
)
@click.option("--output", type=FilePath(roles.WRITES_INT8), required=True)
@click.option(
    "--force",
    is_flag=True,
    help="Write also a file whose answers are unrelated to fp32's, and in the place of one that "
    "quantlab did not write, but of no input.",
)
@click.option("--seed", type=click.IntRange(0), help="Overrides the recipe's.")
@executor_option
@data_options
@model_options
@run_options
def command(**params: Any) -> None:
    """Calibrate and quantize by one recipe."""
    from quantlab.verbs.publish import publish
    from quantlab.verbs.quantize import QuantizeOptions, quantize_job

    spec = QuantizeOptions(**pick(params, QuantizeOptions))
    with recorded_run("quantize", params) as (run, reporter):
        made = publish(quantize_job(spec, reporter), run, reporter)
    if not params["as_json"]:
        click.echo(made.check.line)
        click.echo(f"Wrote {spec.output} ({len(made.content) / 1e6:.2f} MB)")
