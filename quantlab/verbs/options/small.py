"""The options of ``quantlab init``, ``fetch``, ``cache`` and ``recipes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from quantlab._util.cache import EntryKind
from quantlab.verbs import roles
from quantlab.verbs.options.option import Option
from quantlab.verbs.options.shared import RunOptions


class InitOptions(RunOptions):
    """The options of ``quantlab init``."""

    COMMAND = "init"
    KEPT = False
    EXAMPLE = "quantlab init"

    path: Path = Path("quantlab.yaml")
    force: Annotated[
        bool, Option("Replace a quantlab.yaml that is there.", group="Output", momentary=True)
    ] = False


class FetchOptions(RunOptions):
    """The options of ``quantlab fetch``."""

    COMMAND = "fetch"
    KEPT = False
    EXAMPLE = "quantlab fetch mobilenetv2-12"

    name: Annotated[str, Option(argument=True, role=roles.FETCHES)]
    from_dir: Annotated[
        Path | None,
        Option("A folder that holds the file or its wheel.", flags=("--from",), role=roles.MIRROR),
    ] = None


class CacheOptions(RunOptions):
    """The options of ``quantlab cache``."""

    COMMAND = "cache"
    KEPT = False
    EXAMPLE = "quantlab cache clear --kind crops"

    action: Annotated[Literal["ls", "clear"], Option(argument=True)]
    kind: Annotated[EntryKind | None, Option("Only this kind.")] = None


class RecipesOptions(RunOptions):
    """The options of ``quantlab recipes``."""

    COMMAND = "recipes"
    KEPT = False
    EXAMPLE = "quantlab recipes"
