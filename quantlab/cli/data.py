"""quantlab data"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.recorded_run import options_from, recorded_run


@click.command(
    "data",
    cls=Verb,
    short_help="Images as a model takes them, for other devices.",
    options="data:NpzOptions",
)
def command(**params: Any) -> None:
    """Write every image as MODEL takes it: one .npz an image and npz_datalist.txt.

    Give that folder as --data to evaluate on it.
    """
    from quantlab.verbs.data import NpzOptions, write_npz
    from quantlab.verbs.publish import publish

    with recorded_run("data", params) as (run, reporter):
        spec = options_from(params, NpzOptions)
        images = publish(write_npz(spec, reporter), run, reporter).value
    if not params["as_json"]:
        click.echo(f"Wrote {images} inputs and npz_datalist.txt to {params['output']}")
