"""Options that the verbs of a service share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.options import FilePath, Name, _stack
from quantlab.verbs import roles

if TYPE_CHECKING:
    from quantlab.serve.settings import Settings

server_options = _stack(
    click.option(
        "--home",
        type=FilePath(roles.FILLS_HOME),
        help="The server's folder. [default: $QUANTLAB_SERVER_HOME, quantlab-server]",
    ),
    click.option("--config", type=FilePath(roles.FILE), help="Settings in YAML (docs/serve.md)."),
    click.option(
        "--db",
        "--server-db",
        "db",
        type=Name(roles.ADDS_ROWS),
        help="postgresql://… instead of SQLite in --home.",
    ),
    click.option(
        "--store",
        type=Name(roles.FILLS),
        help="A folder or s3://BUCKET/… instead of a folder in --home.",
    ),
)


def settings_of(params: dict[str, Any]) -> Settings:
    """The settings of ``server_options``. Raises RecipeError, MissingExtraError."""
    from quantlab.errors import MissingExtraError

    try:
        from quantlab.serve.settings import load_settings
    except ImportError as error:
        raise MissingExtraError(error.name or "fsspec", "serve", "the service") from error
    given = {name: params[name] for name in ("home", "db", "store")}
    return load_settings(params["config"], **given)
