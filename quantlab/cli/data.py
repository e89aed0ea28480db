"""quantlab data"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.options import (
    FilePath,
    Name,
    data_options,
    force_option,
    model_options,
    pick,
    recorded_run,
    run_options,
)
from quantlab.verbs import roles


@click.command("data", cls=Verb, short_help="Images as a model takes them, for other devices.")
@click.argument("form", type=click.Choice(["npz"]))
@click.option(
    "--model",
    type=Name(roles.MODEL),
    required=True,
    help="Whose input: a .onnx file or a published model.",
)
@click.option("--output", type=FilePath(roles.FILLS), required=True, help="The folder to write to.")
@force_option
@data_options
@model_options
@run_options
def command(**params: Any) -> None:
    """Write every image as MODEL takes it: one .npz an image and npz_datalist.txt.

    Give that folder as --data to evaluate on it.
    """
    from quantlab.verbs.data import NpzOptions, npz_job
    from quantlab.verbs.publish import publish

    with recorded_run("data", params) as (run, reporter):
        spec = NpzOptions(**pick(params, NpzOptions))
        images = publish(npz_job(spec, reporter), run, reporter).value
    if not params["as_json"]:
        click.echo(f"Wrote {images} inputs and npz_datalist.txt to {params['output']}")
