"""Options and the frame that verbs share."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from quantlab.cli.console import ConsoleTalk
    from quantlab.store import Run

    FloatParam = click.ParamType[float]
else:
    FloatParam = click.ParamType  # click before 8.4 gives it no type argument

F = TypeVar("F", bound=Callable[..., Any])


class Share(FloatParam):
    """``1%`` or ``0.01``, as a share of one."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """A float between 0 and 1."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"\s*([0-9.]+(?:e-?\d+)?)\s*(%?)\s*", str(value))
        try:
            share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"{value!r} is not a share such as 1% or 0.01.", param, ctx)
        return share


class Duration(FloatParam):
    """``90s``, ``5m``, ``1h`` or a number of seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|)\s*", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration such as 90s, 5m or 1h.", param, ctx)
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


PATH = click.Path(path_type=Path)


def _stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


run_options = _stack(
    click.option("--runs-dir", type=PATH, default=Path("runs"), help="Where run folders go."),
    click.option("--json", "as_json", is_flag=True, help="Print the run's record as JSON."),
    click.option("--quiet", "-q", is_flag=True, help="Only warnings and results."),
)
model_options = _stack(
    click.option("--pipeline", help="Preprocessing: a name (torchvision, tf, ...) or a YAML file."),
    click.option("--layout", type=click.Choice(["NCHW", "NHWC"]), help="If detection is wrong."),
    click.option(
        "--output-kind",
        type=click.Choice(["logits", "probabilities"]),
        help="If detection is wrong.",
    ),
    click.option("--threads", type=click.IntRange(0), default=0, help="0: all cores."),
)
data_options = _stack(
    click.option("--data", type=PATH, help="Images: a folder or .npz (see docs/data.md)."),
    click.option("--list", "list_file", type=PATH, help="List file: `name label` a line."),
    click.option(
        "--synsets", type=PATH, help="Class list: `wnid name, ...` a line, in index order."
    ),
    click.option(
        "--max-bad",
        type=Share(),
        default="1%",
        show_default=True,
        help="Share of unreadable images at which to stop.",
    ),
)


def pick(params: dict[str, Any], schema: type[Any]) -> dict[str, Any]:
    """The parameters that are fields of the schema."""
    return {key: value for key, value in params.items() if key in schema.model_fields}


@contextmanager
def job(verb: str, params: dict[str, Any]) -> Iterator[tuple[Run, ConsoleTalk]]:
    """A run folder and a voice; says where the run is and what repeats it when the verb is done."""
    from quantlab.cli.console import ConsoleTalk
    from quantlab.runtime.environment import environment
    from quantlab.store import Run

    talk = ConsoleTalk(quiet=params["quiet"] or params["as_json"])
    command = repeat_command(click.get_current_context())
    spec = {key: _plain(value) for key, value in params.items()}
    with Run(verb, spec, command, params["runs_dir"]) as run:
        run.record.environment = environment()
        try:
            yield run, talk
        finally:
            run.record.warnings = talk.warnings
    if params["as_json"]:
        click.echo(run.record.model_dump_json(indent=1))
    talk.say(f"Run:    {run.folder}")
    talk.say(f"Repeat: {command}")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def repeat_command(ctx: click.Context) -> str:
    """The command line with every option that differs from its default, paths as given."""
    words = ["quantlab", ctx.info_name or ""]
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        if isinstance(param, click.Argument):
            words += [
                str(v) for v in (value if isinstance(value, tuple) else (value,)) if v is not None
            ]
        elif value is not None and ctx.get_parameter_source(param.name or "") != _DEFAULT:
            words += _option_words(param, value)
    return shlex.join(words)


_DEFAULT = click.core.ParameterSource.DEFAULT


def _option_words(param: click.Parameter, value: Any) -> list[str]:
    flag = max(param.opts, key=len)
    if isinstance(value, bool):
        return [flag] if value else []
    values = value if isinstance(value, tuple) else (value,)
    return [word for v in values for word in (flag, str(v))]
