"""Options that several verbs share, and the run folder around a verb."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quantlab._util import units
from quantlab._util.paths import location
from quantlab.verbs import roles

if TYPE_CHECKING:
    from quantlab._util.reporter import Reporter
    from quantlab.runs.run import Run
    from quantlab.verbs.roles import Role

    FloatParam = click.ParamType[float]
    AnyParam = click.ParamType[Any]
else:
    AnyParam = FloatParam = click.ParamType  # click before 8.4 gives it no type argument

F = TypeVar("F", bound=Callable[..., Any])


class Share(FloatParam):
    """``1%`` or ``0.01``, as a share of one."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """A float between 0 and 1."""
        try:
            return units.share(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Duration(FloatParam):
    """``90s``, ``5m``, ``1h`` or a number of seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        try:
            return units.seconds(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class RoleType(AnyParam):
    """An option that names a file or folder, with its role (``quantlab.verbs.roles``)."""

    name = "path"

    def __init__(self, role: Role) -> None:
        self.role = role


class FilePath(RoleType):
    """A path."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A Path."""
        return Path(value)


class Location(RoleType):
    """A path, or a URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A URL as it is, anything else as a Path."""
        return location(value)


class Name(RoleType):
    """A name or a URL, or a path in its place: the text as it is."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text."""
        return str(value)


SIZE_HELP = "Height and width of images, where the model leaves them free (else 224)."


def _stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


run_options = _stack(
    click.option(
        "--runs-dir",
        type=FilePath(roles.FILLS_RUNS),
        default=Path("runs"),
        help="Where run folders go.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the run's record as JSON."),
    click.option("--quiet", "-q", is_flag=True, help="Only warnings and results."),
)
model_options = _stack(
    click.option(
        "--pipeline",
        type=Name(roles.FILE),
        help="Preprocessing: a name (torchvision, tf, ...) or a YAML file.",
    ),
    click.option("--layout", type=click.Choice(["NCHW", "NHWC"]), help="If detection is wrong."),
    click.option(
        "--output-kind",
        type=click.Choice(["logits", "probabilities"]),
        help="If detection is wrong.",
    ),
    click.option("--size", type=click.IntRange(1), help=SIZE_HELP),
    click.option("--threads", type=click.IntRange(0), default=0, help="0: all cores."),
)
evaluation_options = _stack(
    click.option(
        "--batch-size", "--batch_size", type=click.IntRange(1), help="Images a call; else tried."
    ),
    click.option("--split", help="Calls side by side x threads of each, such as 4x2; else tried."),
    click.option("--provider", help="Of ONNX Runtime: cpu, cuda, openvino, ..."),
    click.option("--fold-preprocess", is_flag=True, help="Let the model itself normalize pixels."),
)
executor_option = click.option(
    "--executor",
    default="inline",
    show_default=True,
    help="Who computes: inline, process[:N] or dask://HOST:PORT (docs/scale.md).",
)
data_options = _stack(
    click.option(
        "--data",
        "--dataset_location",
        "data",
        type=Location(roles.DATA),
        help="Images: a folder, file or URL (see docs/data.md).",
    ),
    click.option(
        "--list",
        "--label_path",
        "list_file",
        type=FilePath(roles.FILE),
        help="List file: `name label` a line.",
    ),
    click.option(
        "--synsets",
        type=FilePath(roles.FILE),
        help="Class list: `wnid name, ...` a line, in index order.",
    ),
    click.option(
        "--max-bad",
        type=Share(),
        default="1%",
        show_default=True,
        help="Share of unreadable images at which to stop.",
    ),
)


force_option = click.option(
    "--force", is_flag=True, help="Replace also a file that quantlab did not write, but no input."
)
compat_option = click.option(
    "--compat",
    type=click.Choice(["inc"]),
    help="Print the lines of Neural Compressor's example.",
)


def pick(params: dict[str, Any], schema: type[Any]) -> dict[str, Any]:
    """The parameters that are fields of the schema."""
    return {key: value for key, value in params.items() if key in schema.model_fields}


def given(ctx: click.Context) -> dict[str, Any]:
    """The parameters that were given, by name."""
    return {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) != _DEFAULT
    }


_OF_NOW = ("as_json", "quiet", "gate", "force")
"""Options that say how this command behaves, not what the run is."""


def resumed(ctx: click.Context, params: dict[str, Any]) -> dict[str, Any]:
    """With --resume, the options of that run where none is given now."""
    if params["resume"] is None:
        return params
    from quantlab.runs.record import load_record

    stored = load_record(params["resume"]).spec
    given = {
        key: value
        for key, value in params.items()
        if ctx.get_parameter_source(key) != _DEFAULT or key not in stored or key in _OF_NOW
    }
    return {**stored, **given}


@contextmanager
def recorded_run(
    verb: str, params: dict[str, Any], *, folder: Path | None = None
) -> Iterator[tuple[Run, Reporter]]:
    """Open a run folder and a Reporter for a verb; in the end print the folder and the command that
    repeats the run.

    A click context whose ``obj`` is set makes the Reporter with it: a function of ``quiet``.
    """
    from quantlab.cli.console import ConsoleReporter
    from quantlab.runs.run import Run

    ctx = click.get_current_context()
    make_reporter: Callable[..., Reporter] = ctx.obj or ConsoleReporter
    reporter = make_reporter(quiet=params["quiet"] or params["as_json"])
    old_spellings = in_new_notation(ctx.params, params)
    command = repeat_command(ctx)
    spec = {key: _plain(value) for key, value in params.items()}
    opened = Run.resume(folder) if folder else Run(verb, spec, command, Path(params["runs_dir"]))
    with opened as run:
        try:
            for sentence in old_spellings:
                reporter.warn(sentence)
            yield run, reporter
        finally:
            run.record.warnings = reporter.warnings
    if params["as_json"]:
        click.echo(run.record.model_dump_json(indent=1))
    reporter.say(f"Run:    {run.folder}")
    reporter.say(f"Repeat: {command}")


def in_new_notation(*params: dict[str, Any]) -> tuple[str, ...]:
    """Write criteria and rules among the parameters as they are written now, in place; a sentence
    for each that was in an older spelling."""
    names = ("criterion", "require")
    if not any(each.get(name) for each in params for name in names):
        return ()
    from quantlab.gate.notation import spelled_now
    from quantlab.report.verdict import spelling

    told: dict[str, None] = {}
    for each in params:
        for name in names:
            value = each.get(name)
            texts = (value,) if isinstance(value, str) else tuple(value or ())
            told |= dict.fromkeys(map(spelling, texts))
            made = tuple(map(spelled_now, texts))
            if texts:
                each[name] = made[0] if isinstance(value, str) else made
    return tuple(sentence for sentence in told if sentence)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def repeat_command(ctx: click.Context) -> str:
    """The command line that repeats the run: every option that differs from its default, paths as
    given."""
    arguments: list[str] = []
    options: list[str] = []
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        if isinstance(param, click.Argument) and value is None:
            continue
        if isinstance(param, click.Argument):
            arguments += [str(v) for v in (value if isinstance(value, tuple) else (value,))]
        elif value is not None and ctx.get_parameter_source(param.name or "") != _DEFAULT:
            options += _option_words(param, value)
    if any(word.startswith("-") for word in arguments):
        words = [*options, "--", *arguments]
    else:
        words = [*arguments, *options]
    return shlex.join(["quantlab", *_verb(ctx), *words])


def _verb(ctx: click.Context) -> list[str]:
    """The verb, and the group that it is of where it is of one."""
    group = ctx.parent if ctx.parent is not None and ctx.parent.parent is not None else None
    return [*(_verb(group) if group else []), ctx.info_name or ""]


_DEFAULT = click.core.ParameterSource.DEFAULT


def _option_words(param: click.Parameter, value: Any) -> list[str]:
    flag = next((opt for opt in param.opts if opt.startswith("--")), param.opts[0])
    if isinstance(value, bool):
        return [flag] if value else []
    values = value if isinstance(value, tuple) else (value,)
    return [word for v in values for word in (flag, str(v))]
