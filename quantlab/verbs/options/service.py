"""The options of ``quantlab serve``, ``worker``, ``dataset`` and ``token``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from quantlab.verbs import roles
from quantlab.verbs.options.option import Option, Options, Seconds
from quantlab.verbs.options.shared import Synsets

ThingName = Annotated[str, Option(argument=True)]
Json = Annotated[bool, Option("Print it as JSON.", group="Output", flags=("--json",))]


Log = Annotated[
    Literal["plain", "json"] | None,
    Option("Log to stderr as words or as JSON lines, requests too. [default: only what fails]"),
]


class ServerOptions(Options):
    """Which server: its folder, settings, database and store."""

    home: Annotated[
        Path | None,
        Option(
            "The server's folder. [default: $QUANTLAB_SERVER_HOME, quantlab-server]",
            role=roles.FILLS_HOME,
        ),
    ] = None
    config: Annotated[Path | None, Option("Settings in YAML (docs/serve.md).", role=roles.FILE)] = (
        None
    )
    db: Annotated[
        str | None,
        Option(
            "postgresql://… instead of SQLite in --home.",
            flags=("--db", "--server-db"),
            role=roles.ADDS_ROWS,
        ),
    ] = None
    store: Annotated[
        str | None,
        Option("A folder or s3://BUCKET/… instead of a folder in --home.", role=roles.FILLS),
    ] = None


class WorkerOptions(ServerOptions):
    """The options of ``quantlab worker``."""

    COMMAND = "worker"
    EXAMPLES = (
        "quantlab worker --home server",
        "quantlab worker --db postgresql://db/quantlab --store s3://bucket/quantlab",
    )

    log: Log = None


class ServeOptions(ServerOptions):
    """The options of ``quantlab serve``."""

    COMMAND = "serve"
    EXAMPLES = (
        "quantlab serve --home server --port 8765",
        "quantlab serve --host 0.0.0.0 --no-worker",
    )

    host: Annotated[str, Option("The address to listen at.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535), Option("The port; 0: one that is free.")] = 8765
    no_worker: Annotated[bool, Option("Leave the jobs to quantlab worker.")] = False
    log: Log = None


class CollectOptions(ServerOptions):
    """The options of ``quantlab server gc``."""

    COMMAND = "server gc"
    EXAMPLES = (
        "quantlab server gc --dry-run",
        "quantlab server gc --config server.yaml",
    )

    dry_run: Annotated[bool, Option("Only list what would be deleted.")] = False


class DatasetAddOptions(ServerOptions):
    """The options of ``quantlab dataset add``."""

    COMMAND = "dataset add"
    EXAMPLES = (
        "quantlab dataset add val data/val",
        "quantlab dataset add val data/val --list val.txt",
    )

    name: ThingName
    path: Annotated[Path, Option(argument=True, role=roles.OTHER_DATA)]
    list_file: Annotated[
        Path | None,
        Option(
            "List file: `name label` a line.", flags=("--list",), group="Images", role=roles.FILE
        ),
    ] = None
    synsets: Synsets = None


class DatasetListOptions(ServerOptions):
    """The options of ``quantlab dataset ls``."""

    COMMAND = "dataset ls"
    EXAMPLES = (
        "quantlab dataset ls",
        "quantlab dataset ls --home server",
    )


class NamedOptions(ServerOptions):
    """The options of ``quantlab dataset rm`` and ``token revoke``."""

    EXAMPLES = ()
    name: ThingName


class TokenCreateOptions(ServerOptions):
    """The options of ``quantlab token create``."""

    COMMAND = "token create"
    EXAMPLES = (
        "quantlab token create ci --scope submit --expires 30d",
        "quantlab token create me --scope admin",
    )

    name: ThingName
    scope: Annotated[
        Literal["read", "submit", "admin"],
        Option("read: see everything. submit: also upload and run jobs. admin: also others' jobs."),
    ] = "read"
    expires: Annotated[Seconds | None, Option("After so long, such as 30d.  [default: never]")] = (
        None
    )
    as_json: Json = False


class TokenListOptions(ServerOptions):
    """The options of ``quantlab token ls``."""

    COMMAND = "token ls"
    EXAMPLES = (
        "quantlab token ls",
        "quantlab token ls --json",
    )

    as_json: Json = False
