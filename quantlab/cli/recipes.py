"""quantlab recipes"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import recorded_run


@click.command(
    "recipes",
    cls=Verb,
    short_help="List the recipes of published projects, and the ladder.",
    options="small:RecipesOptions",
)
def command(**params: Any) -> None:
    """Every published project's recipes, what can be fetched, and which recipes tune tries."""
    from quantlab.report.recipes import recipes_summary
    from quantlab.verbs.publish import publish
    from quantlab.verbs.recipes import list_recipes

    with recorded_run("recipes", params) as (run, reporter):
        listing = publish(list_recipes(), run, reporter).value
    if not params["as_json"]:
        print_result(recipes_summary(listing.published, listing.ladder, listing.here))
