"""quantlab serve"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.server import settings_of


@click.command(
    "serve",
    cls=Verb,
    short_help="The service: an API, pages, and a worker.",
    options="service:ServeOptions",
)
def command(**params: Any) -> None:
    """Serve the API and the pages, with one worker beside (docs/serve.md)."""
    from quantlab.cli.console import ConsoleReporter
    from quantlab.serve.running import serve

    settings = settings_of(params)
    serve(
        settings,
        params["host"],
        params["port"],
        ConsoleReporter(),
        worker=not params["no_worker"],
        log=params["log"],
    )
