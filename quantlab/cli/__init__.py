"""The command line: one module a verb. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from quantlab import __version__
from quantlab._util.terminal import table_width, terminal_width
from quantlab.cli.params import NearestGroup, taken
from quantlab.errors import QuantlabError, disk_is_full

_ENVIRONMENT = click.core.ParameterSource.ENVIRONMENT

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


class Verbs(NearestGroup):
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
        servers, rest = taken(rest, ["--server"])
        server = servers[-1] if servers else ctx.params.get("server")
        if not server or command is None:
            return name, command, rest
        from quantlab.cli.remote import is_served, remote

        asked = servers or ctx.get_parameter_source("server") != _ENVIRONMENT
        if not asked and not is_served(command, name or ""):
            return name, command, rest
        tokens, rest = taken(rest, ["--token"])
        token = tokens[-1] if tokens else ctx.params["token"]
        return name, remote(command, name or "", server, token), rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; print errors that the user can mend in one or two lines."""
        as_json = "--json" in [*ctx._protected_args, *ctx.args]
        try:
            with table_width(terminal_width()):
                return super().invoke(ctx)
        except QuantlabError as error:
            _end(ctx, error, as_json)
        except click.UsageError as error:
            if as_json:
                _print_json(error.format_message(), "", error.exit_code)
            raise
        except OSError as error:
            if not disk_is_full(error):
                raise
            full = QuantlabError("the disk is full.", "Free some space and run again.")
            _end(ctx, full, as_json)
        except MemoryError:
            if ctx.obj is not None:  # a job of the service, which says how much it may have
                raise
            remedy = "Free some and run again; fewer calibration images and threads need less."
            _end(ctx, QuantlabError("not enough memory.", remedy), as_json)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(130)


def _end(ctx: click.Context, error: QuantlabError, as_json: bool) -> NoReturn:
    """Print the error, with --json as an object too, and exit with its code."""
    click.echo(f"Error: {error}", err=True)
    if as_json:
        _print_json(error.problem, error.remedy, error.exit_code)
    ctx.exit(error.exit_code)


def _print_json(problem: str, remedy: str, exit_code: int) -> None:
    told = {"error": problem, "remedy": remedy, "exit_code": exit_code}
    click.echo(json.dumps(told, indent=1, ensure_ascii=False))


@click.group(cls=Verbs)
@click.version_option(__version__, "--version", "-V", prog_name="quantlab")
@click.option(
    "--server",
    metavar="URL",
    envvar="QUANTLAB_SERVER",
    help="Let a server do it (docs/serve.md); also behind the verb.",
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
