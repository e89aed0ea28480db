"""quantlab token"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.files import VerbGroup
from quantlab.cli.output import print_result
from quantlab.cli.server import settings_of

if TYPE_CHECKING:
    from quantlab.serve.tokens import Token


@click.group("token", cls=VerbGroup, short_help="Who may use a service, and for what.")
def command() -> None:
    """The tokens by which clients of a service are known."""


@command.command(
    "create", short_help="Make a token; it is printed once.", options="service:TokenCreateOptions"
)
def create(**params: Any) -> None:
    """Print a new token called NAME. It cannot be shown again: the service keeps its hash."""
    from quantlab.serve.service import Service
    from quantlab.serve.tokens import Tokens

    with Service.open(settings_of(params)) as service:
        token, text = Tokens(service.database).create(
            params["name"], params["scope"], params["expires"]
        )
    click.echo(json.dumps({**_facts(token), "token": text}) if params["as_json"] else text)


@command.command("ls", short_help="All tokens.", options="service:TokenListOptions")
def ls(**params: Any) -> None:
    """List the tokens by name: what they may do, and until when."""
    from quantlab.report.formats import table
    from quantlab.serve.service import Service
    from quantlab.serve.tokens import Tokens

    with Service.open(settings_of(params)) as service:
        rows = [_facts(token) for token in Tokens(service.database).all()]
    if params["as_json"]:
        click.echo(json.dumps(rows, indent=1))
    elif not rows:
        click.echo("No tokens.")
    else:
        cells = [[str(value or "never") for value in row.values()] for row in rows]
        print_result(table(list(rows[0]), cells))


@command.command("revoke", short_help="Forget a token.", options="service:NamedOptions")
def revoke(**params: Any) -> None:
    """Refuse the token called NAME (or of this id) from now on. Its jobs stay."""
    from quantlab.serve.service import Service
    from quantlab.serve.tokens import Tokens

    with Service.open(settings_of(params)) as service:
        token = Tokens(service.database).revoke(params["name"])
    click.echo(f"Revoked {token.name}.")


def _facts(token: Token) -> dict[str, str | None]:
    expires = None if token.expires is None else _time(token.expires)
    return {
        "name": token.name,
        "scope": token.scope,
        "id": token.id,
        "created": _time(token.created),
        "expires": expires,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
