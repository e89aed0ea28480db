"""quantlab init"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.recorded_run import options_from, recorded_run


@click.command(
    "init",
    cls=Verb,
    short_help="Write a commented quantlab.yaml to start from.",
    options="small:InitOptions",
)
def command(**params: Any) -> None:
    """Write quantlab.yaml here, with every key, its meaning and its default."""
    from quantlab.verbs.init import InitOptions, write_template
    from quantlab.verbs.publish import publish

    with recorded_run("init", params) as (run, reporter):
        path = publish(write_template(options_from(params, InitOptions)), run, reporter).value
    if not params["as_json"]:
        click.echo(f"Wrote {path}")
