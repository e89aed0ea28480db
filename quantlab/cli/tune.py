"""quantlab tune"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.options import (
    PATH,
    Duration,
    data_options,
    job,
    model_options,
    pick,
    run_options,
)


@click.command("tune", short_help="Find the best int8 file: faithful first, then as fast as any.")
@click.option("--model", required=True, help="A .onnx file, or a published model's name.")
@data_options
@click.option("--eval-data", type=PATH, help="Images to judge on; default: part of --data.")
@click.option("--recipe", help="Try only this recipe: a YAML file or a published model's name.")
@click.option("--output", type=PATH, help="Default: <model>.int8.onnx here.")
@click.option(
    "--max-decline",
    default="1%",
    show_default=True,
    help="Accepted top-1 decline: 1% of fp32's accuracy, or 0.5pp points.",
)
@click.option("--images-per-class", type=click.IntRange(1), default=1, show_default=True)
@click.option("--calibration-size", type=click.IntRange(1), help="Instead of --images-per-class.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--budget", type=Duration(), default="5m", show_default=True)
@click.option("--allow-overlap", is_flag=True, help="Judge also on calibration images.")
@click.option("--gate", is_flag=True, help="Exit with the verdict: 0 pass, 1 fail, 3 inconclusive.")
@model_options
@run_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Calibrate, quantize by a ladder of recipes, judge and time each, keep the best.

    The best file so far is always on disk, also after Ctrl-C. The order: meets the criterion, then
    speed, then fidelity to the fp32 model.
    """
    from quantlab.jobs.tune import TuneSpec, tune_job
    from quantlab.report.text import tune_summary

    spec = TuneSpec(**pick(params, TuneSpec))
    with job("tune", params) as (run, talk):
        result = tune_job(spec, run, talk)
    if not params["as_json"]:
        places = {"int8 model": result.output, "Report": result.report}
        click.echo(
            tune_summary(result.comparison, result.verdict, result.rows, result.missed, places)
        )
    if result.interrupted:
        ctx.exit(130)
    if params["gate"]:
        ctx.exit(result.verdict.exit_code)
