"""quantlab recipes"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.options import job, run_options


@click.command("recipes", short_help="List the published models and the ladder of recipes.")
@run_options
def command(**params: Any) -> None:
    """What can be fetched by name, and which recipes tune tries."""
    from quantlab.jobs.recipes import recipes_job
    from quantlab.report.text import recipes_summary

    with job("recipes", params) as (run, _):
        listing = recipes_job(run)
    if not params["as_json"]:
        click.echo(recipes_summary(listing.published, listing.ladder))
