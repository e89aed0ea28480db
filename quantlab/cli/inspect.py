"""quantlab inspect"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.options import data_options, job, model_options, pick, run_options


@click.command("inspect", short_help="What is in a model: inputs, operators, int8 nodes, scales.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL [INT8]")
@click.option("--scales", is_flag=True, help="Print every quantized tensor's scale and zero point.")
@click.option(
    "--portability",
    is_flag=True,
    help="How many 16-bit pair sums would saturate on a CPU without VNNI, and the damage.",
)
@click.option(
    "--layers",
    is_flag=True,
    help="Errors layer by layer: quantlab inspect --layers FP32 INT8.",
)
@data_options
@click.option(
    "--images",
    type=click.IntRange(1),
    help="Images to run; 32 with --portability, else 16.",
)
@model_options
@run_options
def command(**params: Any) -> None:
    """Look into MODEL; into where INT8 departs from it with --layers."""
    from quantlab.jobs.inspect import InspectSpec, inspect_job
    from quantlab.report.text import inspected_summary

    fields = {**pick(params, InspectSpec), **_view(**params)}
    with job("inspect", params) as (run, talk):
        result = inspect_job(InspectSpec(**fields), run, talk)
    if not params["as_json"]:
        click.echo(inspected_summary(result, scales=params["scales"]))


def _view(
    models: tuple[str, ...], portability: bool, layers: bool, **_: Any
) -> dict[str, str | None]:
    """The models and what to show of them."""
    if portability and layers:
        raise click.UsageError("--portability and --layers are two views: give one of them.")
    if len(models) != 1 + layers:
        wanted = "two models, FP32 and INT8" if layers else "one model"
        raise click.UsageError(
            f"inspect{' --layers' if layers else ''} takes {wanted}, not {len(models)}."
        )
    view = "layers" if layers else "portability" if portability else "inspect"
    return {"model": models[0], "int8": models[1] if layers else None, "view": view}
