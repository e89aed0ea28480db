"""quantlab worker"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.server import settings_of


@click.command(
    "worker",
    cls=Verb,
    short_help="Do the jobs of a service, on this machine.",
    options="service:WorkerOptions",
)
def command(**params: Any) -> None:
    """Take jobs from a service's database, one at a time, until Ctrl-C.

    Several may work at once, on one machine or on many (docs/serve.md).
    """
    from quantlab.cli.console import ConsoleReporter
    from quantlab.serve.running import work

    work(settings_of(params), ConsoleReporter(), log=params["log"])
