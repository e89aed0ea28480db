"""quantlab server, and the settings of a service from its verbs' options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.files import VerbGroup

if TYPE_CHECKING:
    from quantlab.serve.settings import Settings


def settings_of(params: dict[str, Any]) -> Settings:
    """The settings that these options name. Raises RecipeError, MissingExtraError."""
    from quantlab.errors import MissingExtraError

    try:
        from quantlab.serve.settings import load_settings
    except ImportError as error:
        raise MissingExtraError(error.name or "fsspec", "serve", "the service") from error
    given = {name: params[name] for name in ("home", "db", "store")}
    return load_settings(params["config"], **given)


@click.group("server", cls=VerbGroup, short_help="Look after a service: what it need not keep.")
def command() -> None:
    """For whoever runs a service (docs/serve.md)."""


@command.command(
    "gc", short_help="Delete what the settings do not keep.", options="service:CollectOptions"
)
def collect(**params: Any) -> None:
    """Delete what is older than the settings keep it, and what nothing in the database names.

    What a baseline, an open job or the newest version of a model needs always stays.
    """
    from quantlab.report.formats import gigabytes
    from quantlab.serve.collector import Collector
    from quantlab.serve.service import Service

    with Service.open(settings_of(params)) as service:
        collector = Collector(service)
        found = collector.plan()
        if not params["dry_run"]:
            found = collector.collect(found)
    for each in found:
        click.echo(f"{each.kind}  {each.name}  {gigabytes(each.bytes)}")
    size = gigabytes(sum(each.bytes for each in found))
    done = "would be deleted" if params["dry_run"] else "were deleted"
    click.echo(f"{len(found):,} items of {size} {done}." if found else "Nothing to delete.")
