"""The command line: one module a verb. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from importlib import import_module
from typing import Any

import click

from quantlab import __version__
from quantlab.errors import QuantlabError, disk_is_full

VERBS = (
    "init",
    "tune",
    "quantize",
    "evaluate",
    "validate",
    "predict",
    "bench",
    "compare",
    "gate",
    "baseline",
    "inspect",
    "data",
    "fetch",
    "recipes",
    "runs",
    "cache",
    "serve",
    "worker",
    "dataset",
    "token",
    "server",
)


class Verbs(click.Group):
    """Loads each verb from its module; prints a QuantlabError in two lines and exits with code
    2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order a newcomer meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's click command, or None."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"quantlab.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb's command, or with --server one that runs the verb on a server."""
        name, command, rest = super().resolve_command(ctx, args)
        server = ctx.params.get("server")
        if not server or command is None:
            return name, command, rest
        from quantlab.cli.remote import remote

        return name, remote(command, name or "", server, ctx.params["token"]), rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; print errors that the user can mend in one or two lines."""
        try:
            return super().invoke(ctx)
        except QuantlabError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if not disk_is_full(error):
                raise
            click.echo("Error: the disk is full.\nFree some space and run again.", err=True)
            ctx.exit(2)
        except MemoryError:
            if ctx.obj is not None:  # a job of the service, which says how much it may have
                raise
            click.echo(
                "Error: not enough memory.\n"
                "Free some and run again; fewer calibration images and threads need less.",
                err=True,
            )
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(130)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="quantlab")
@click.option(
    "--server", metavar="URL", envvar="QUANTLAB_SERVER", help="Let a server do it (docs/serve.md)."
)
@click.option(
    "--token", envvar="QUANTLAB_TOKEN", help="For --server; better in QUANTLAB_TOKEN than here."
)
def main(server: str | None, token: str | None) -> None:
    """Quantize ONNX image classifiers to int8, and know what it cost.

    Exit codes: 0 pass or done, 1 regression, 2 usage or input error, 3 inconclusive, 4 another kind
    of CPU than the baseline's.
    """
    gc.set_threshold(50_000)  # a verb imports a lot that stays, and nothing of it is garbage


def run() -> None:
    """The program ``quantlab``. When all is done and what was registered for the end has run, the
    process ends as it is: to take its libraries apart takes long, and some hang."""
    code: list[int] = []

    def end() -> None:
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except OSError:
            return  # Python tells what was lost, by its own exit code
        if code:
            os._exit(code[0])

    atexit.register(end)  # the first to be registered is the last to be called
    try:
        main(prog_name="quantlab")
    except SystemExit as ended:
        if isinstance(ended.code, int):
            code.append(ended.code)
        raise
