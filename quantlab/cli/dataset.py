"""quantlab dataset"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import VerbGroup
from quantlab.cli.server import settings_of


@click.group(
    "dataset", cls=VerbGroup, short_help="The images that a service's jobs may use, by name."
)
def command() -> None:
    """Clients name datasets; only whoever runs the service says where they are."""


@command.command("add", short_help="Give a dataset a name.", options="service:DatasetAddOptions")
def add(**params: Any) -> None:
    """Let jobs use the images of PATH as NAME; the same name again changes what it stands for."""
    from quantlab.serve.datasets import add_dataset
    from quantlab.serve.service import Service

    with Service.open(settings_of(params)) as service:
        facts = add_dataset(
            service.catalog, params["name"], params["path"], params["list_file"], params["synsets"]
        )
    labels = "labelled" if facts["labelled"] else "without labels"
    click.echo(f"{params['name']}: {facts['images']:,} images, {labels}")


@command.command("ls", short_help="What there is.", options="service:DatasetListOptions")
def ls(**params: Any) -> None:
    """The datasets of the service, with their places."""
    from quantlab.serve.service import Service

    with Service.open(settings_of(params)) as service:
        for each in service.catalog.datasets():
            click.echo(f"{each.name}  {each.facts['images']:,} images  {each.path}")


@command.command("rm", short_help="Forget a name; the images stay.", options="service:NamedOptions")
def rm(**params: Any) -> None:
    """New jobs cannot use NAME any more."""
    from quantlab.serve.service import Service

    with Service.open(settings_of(params)) as service:
        service.catalog.remove_dataset(params["name"])
