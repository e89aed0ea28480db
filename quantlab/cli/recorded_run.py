"""What a command line asked for, and the run folder around a verb."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quantlab.cli.params import OptionsCommand

if TYPE_CHECKING:
    from quantlab._util.reporter import Reporter
    from quantlab.runs.run import Run
    from quantlab.verbs.options.option import Options

Schema = TypeVar("Schema", bound="Options")


def options_from(params: dict[str, Any], schema: type[Schema], **others: Any) -> Schema:
    """The parameters that are fields of the schema, with ``others`` in their places, as one."""
    fields = {key: value for key, value in params.items() if key in schema.model_fields}
    return schema(**{**fields, **others})


def given(ctx: click.Context) -> dict[str, Any]:
    """The parameters that were given, by name."""
    return {
        name: value
        for name, value in ctx.params.items()
        if ctx.get_parameter_source(name) not in (None, _DEFAULT)
    }


def _model(ctx: click.Context) -> type[Options] | None:
    """What declares the options of the command."""
    return ctx.command.model if isinstance(ctx.command, OptionsCommand) else None


def resumed(ctx: click.Context, params: dict[str, Any]) -> dict[str, Any]:
    """With --resume, the options of that run where none is given now."""
    if params["resume"] is None:
        return params
    from quantlab.runs.record import load_record
    from quantlab.verbs.options.option import declared

    stored = load_record(params["resume"]).spec
    model = _model(ctx)
    known = {} if model is None else declared(model)
    momentary = {name for name, each in known.items() if each.option.momentary}
    given = {
        key: value
        for key, value in params.items()
        if ctx.get_parameter_source(key) != _DEFAULT or key not in stored or key in momentary
    }
    origins = {
        name: each.flag if name in given else "resumed run"
        for name, each in known.items()
        if name in given or name in stored
    }
    return {**stored, **given, "origins": origins}


@contextmanager
def recorded_run(
    verb: str, params: dict[str, Any], *, folder: Path | None = None
) -> Iterator[tuple[Run, Reporter]]:
    """Open a run folder and a Reporter for a verb; in the end print the folder and the command that
    repeats the run. What only lists or looks keeps no run unless ``--runs-dir`` is given.

    A click context whose ``obj`` is set makes the Reporter with it: a function of ``quiet``.
    """
    from quantlab.cli.console import ConsoleReporter
    from quantlab.runs.run import Run

    ctx = click.get_current_context()
    make_reporter: Callable[..., Reporter] = ctx.obj or ConsoleReporter
    reporter = make_reporter(quiet=params["quiet"] or params["as_json"])
    old_spellings = in_new_notation(ctx.params, params)
    command, model = repeat_command(ctx), _model(ctx)
    kept = model is None or model.KEPT or "runs_dir" in given(ctx)
    spec = {key: _plain(value) for key, value in params.items() if key != "origins"}
    opened = (
        Run.resume(folder)
        if folder
        else Run(verb, spec, command, Path(params["runs_dir"]), kept=kept)
    )
    opened.drops_failure = ctx.obj is None  # a job of the service has a folder to tell why
    with opened as run:
        if folder is None:
            run.record.origins = params.get("origins", {})
        try:
            for sentence in old_spellings:
                reporter.warn(sentence)
            yield run, reporter
        finally:
            run.record.warnings = reporter.warnings
    if params["as_json"]:
        click.echo(run.record.model_dump_json(indent=1))
    if kept:
        tell_report(run.folder / run.record.artifacts.get("html_report", ""), params, reporter)
        reporter.say(f"Run:    {run.folder}")
        reporter.say(f"Repeat: {command}")


def tell_report(report: Path, params: dict[str, Any], reporter: Reporter) -> None:
    """Say where a report is, if there is one; open it where that is asked."""
    if report.is_file():
        reporter.say(f"Report: {report.resolve().as_uri()}")
        if params.get("open_report"):
            click.launch(str(report))


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
        return [flag] if value else list(param.secondary_opts)
    values = value if isinstance(value, tuple) else (value,)
    return [word for v in values for word in (flag, str(v))]
