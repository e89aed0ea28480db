"""quantlab fetch"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.recorded_run import options_from, recorded_run


@click.command(
    "fetch",
    cls=Verb,
    short_help="Get a published model or dataset by name.",
    options="small:FetchOptions",
)
def command(**params: Any) -> None:
    """Fetch NAME into the cache folder and print its path. quantlab recipes lists the names."""
    from quantlab.verbs.fetch import FetchOptions, fetch_named
    from quantlab.verbs.publish import publish

    with recorded_run("fetch", params) as (run, reporter):
        spec = options_from(params, FetchOptions)
        path = publish(fetch_named(spec, reporter), run, reporter).value
    if not params["as_json"]:
        click.echo(path)
