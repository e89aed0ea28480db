"""The options of ``quantlab serve``, ``worker``, ``dataset`` and ``token``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from quantlab.verbs import roles
from quantlab.verbs.options.option import Option, Options, Seconds
from quantlab.verbs.options.shared import Synsets

ThingName = Annotated[str, Option(argument=True)]
Json = Annotated[bool, Option(help="Print it as JSON.", group="Output", flags=("--json",))]


class ServerOptions(Options):
    """Which server: its folder, settings, database and store. Those of ``quantlab worker``."""

    COMMAND: ClassVar[tuple[str, ...]] = ("worker",)
    EXAMPLE: ClassVar[str] = "quantlab worker --home server"

    home: Annotated[
        Path | None,
        Option(
            help="The server's folder. [default: $QUANTLAB_SERVER_HOME, quantlab-server]",
            role=roles.FILLS_HOME,
        ),
    ] = None
    config: Annotated[
        Path | None, Option(help="Settings in YAML (docs/serve.md).", role=roles.FILE)
    ] = None
    db: Annotated[
        str | None,
        Option(
            help="postgresql://… instead of SQLite in --home.",
            flags=("--db", "--server-db"),
            role=roles.ADDS_ROWS,
        ),
    ] = None
    store: Annotated[
        str | None,
        Option(help="A folder or s3://BUCKET/… instead of a folder in --home.", role=roles.FILLS),
    ] = None


class ServeOptions(ServerOptions):
    """The options of ``quantlab serve``."""

    COMMAND: ClassVar[tuple[str, ...]] = ("serve",)
    EXAMPLE: ClassVar[str] = "quantlab serve --home server --port 8765"

    host: Annotated[str, Option(help="The address to listen at.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535), Option(help="The port; 0: one that is free.")] = (
        8765
    )
    no_worker: Annotated[bool, Option(help="Leave the jobs to quantlab worker.")] = False


class DatasetAddOptions(ServerOptions):
    """The options of ``quantlab dataset add``."""

    COMMAND: ClassVar[tuple[str, ...]] = ("dataset", "add")
    EXAMPLE: ClassVar[str] = "quantlab dataset add val data/val"

    name: ThingName
    path: Annotated[Path, Option(argument=True, role=roles.OTHER_DATA)]
    list_file: Annotated[
        Path | None,
        Option(
            help="List file: `name label` a line.",
            flags=("--list",),
            group="Images",
            role=roles.FILE,
        ),
    ] = None
    synsets: Synsets = None


class DatasetListOptions(ServerOptions):
    """The options of ``quantlab dataset ls``."""

    COMMAND: ClassVar[tuple[str, ...]] = ("dataset", "ls")
    EXAMPLE: ClassVar[str] = "quantlab dataset ls"


class NamedOptions(ServerOptions):
    """The options of ``quantlab dataset rm`` and ``token revoke``."""

    EXAMPLE: ClassVar[str] = ""

    name: ThingName


class TokenCreateOptions(ServerOptions):
    """The options of ``quantlab token create``."""

    COMMAND: ClassVar[tuple[str, ...]] = ("token", "create")
    EXAMPLE: ClassVar[str] = "quantlab token create ci --scope submit --expires 30d"

    name: ThingName
    scope: Annotated[
        Literal["read", "submit", "admin"],
        Option(
            help="read: see everything. submit: also upload and run jobs. admin: also others' jobs."
        ),
    ] = "read"
    expires: Annotated[
        Seconds | None, Option(help="After so long, such as 30d.  [default: never]")
    ] = None
    as_json: Json = False


class TokenListOptions(ServerOptions):
    """The options of ``quantlab token ls``."""

    COMMAND: ClassVar[tuple[str, ...]] = ("token", "ls")
    EXAMPLE: ClassVar[str] = "quantlab token ls"

    as_json: Json = False
