"""quantlab fetch"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.options import pick, recorded_run


@click.command(
    "fetch",
    cls=Verb,
    short_help="Get a published model or dataset by name.",
    options="small:FetchOptions",
)
def command(**params: Any) -> None:
    """Fetch NAME into the cache folder and print its path. quantlab recipes lists the names."""
    from quantlab.verbs.fetch import FetchOptions, fetch_job

    with recorded_run("fetch", params) as (run, reporter):
        path = fetch_job(FetchOptions(**pick(params, FetchOptions)), run, reporter)
    if not params["as_json"]:
        click.echo(path)
