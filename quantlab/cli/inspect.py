"""quantlab inspect"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.options import job, pick, run_options


@click.command("inspect", short_help="What is in a model: inputs, operators, int8 nodes, scales.")
@click.argument("model")
@click.option("--scales", is_flag=True, help="Print every quantized tensor's scale and zero point.")
@click.option("--layout", type=click.Choice(["NCHW", "NHWC"]), help="If detection is wrong.")
@run_options
def command(**params: Any) -> None:
    """Look into MODEL without running it on images."""
    from quantlab.jobs.inspect import InspectSpec, inspect_job
    from quantlab.report.text import inspect_summary

    with job("inspect", params) as (run, talk):
        result = inspect_job(InspectSpec(**pick(params, InspectSpec)), run, talk)
    if not params["as_json"]:
        click.echo(inspect_summary(result, scales=params["scales"]))
