"""quantlab fetch"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.options import FilePath, Name, pick, recorded_run, run_options
from quantlab.verbs import roles


@click.command("fetch", cls=Verb, short_help="Get a published model or dataset by name.")
@click.argument("name", type=Name(roles.FETCHES))
@click.option(
    "--from",
    "from_dir",
    type=FilePath(roles.MIRROR),
    help="A folder that holds the file or its wheel.",
)
@run_options
def command(**params: Any) -> None:
    """Fetch NAME into the cache folder and print its path. quantlab recipes lists the names."""
    from quantlab.verbs.fetch import FetchOptions, fetch_job
    from quantlab.verbs.publish import publish

    with recorded_run("fetch", params) as (run, reporter):
        spec = FetchOptions(**pick(params, FetchOptions))
        path = publish(fetch_job(spec, reporter), run, reporter).value
    if not params["as_json"]:
        click.echo(path)
