"""Run a verb on a server: ``quantlab --server URL VERB``, with the verb's own options and
output."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.params import OptionsCommand
from quantlab.cli.recorded_run import given, in_new_notation, repeat_command, tell_report

if TYPE_CHECKING:
    from quantlab._util.reporter import Reporter
    from quantlab.client.api import Api
    from quantlab.client.remote import Remote, Targets
    from quantlab.verbs.options.option import Options


def is_served(command: click.Command, verb: str) -> bool:
    """Whether a server does this verb."""
    from quantlab.serve.requests import SERVED

    return isinstance(command, OptionsCommand) and (verb,) in [o.words() for o in SERVED]


def remote(command: click.Command, verb: str, server: str, token: str | None) -> click.Command:
    """The same command, whose work a server does. Raises UsageError for a verb that none does."""
    from quantlab.serve.requests import SERVED

    if not is_served(command, verb) or not isinstance(command, OptionsCommand):
        served = [o.COMMAND for o in SERVED if len(o.words()) == 1]
        raise click.UsageError(f"--server is for {', '.join(served)}: quantlab {verb} works here.")
    model = command.model

    def callback(**params: Any) -> None:
        _run(click.get_current_context(), verb, model, params, server, token)

    there = copy.copy(command)
    there.callback = callback
    return there


def _run(
    ctx: click.Context,
    verb: str,
    model: type[Options],
    params: dict[str, Any],
    server: str,
    token: str | None,
) -> None:
    from quantlab.cli.console import ConsoleReporter
    from quantlab.errors import MissingExtraError
    from quantlab.report.files import HTML

    try:
        from quantlab.client.api import Api
        from quantlab.client.remote import run_there
    except ImportError as error:
        raise MissingExtraError(error.name or "httpx", "client", "--server") from error
    reporter = ConsoleReporter(quiet=params["quiet"] or params["as_json"])
    for sentence in in_new_notation(ctx.params, params):
        reporter.warn(sentence)
    with Api(server, token) as api:
        asked = _asked(ctx, verb, params)
        request = request_to(verb, asked, api, reporter)
        targets = _targets(model, params, asked)
        if targets.output is not None:
            request["output"] = targets.output.name
        done = run_there(api, {"verb": verb, **request}, targets, reporter)
    _summarize(params, done)
    if params["as_json"] and done.run is not None:
        click.echo((done.run / "run.json").read_text(encoding="utf-8").rstrip())
    else:
        click.echo(done.out, nl=not done.out.endswith("\n"))
    if done.run is not None:
        tell_report(done.run / HTML, params, reporter)
        reporter.say(f"Run:    {done.run}")
    words = shlex.split(repeat_command(ctx))[1:]
    reporter.say(f"Repeat: {shlex.join(['quantlab', '--server', server, *words])}")
    ctx.exit(done.exit_code)


def request_to(verb: str, asked: Mapping[str, Any], api: Api, reporter: Reporter) -> dict[str, Any]:
    """What is asked of the server, files that are here sent there. Raises UsageError for an option
    that it has no use for, QuantlabError."""
    from quantlab.client.remote import stored_model, stored_recipe
    from quantlab.serve.requests import REQUESTS
    from quantlab.verbs.options.option import declared

    schema = REQUESTS[verb]
    known, models = declared(schema.OPTIONS), schema.stored("models")
    here = {name for name, each in known.items() if each.option.local}
    if unknown := sorted(asked.keys() - schema.model_fields.keys() - here):
        flags = ", ".join(known[name].flag for name in unknown)
        raise click.UsageError(f"--server cannot be combined with {flags}.")
    if missing := [name for name in models if not asked.get(name)]:
        raise click.UsageError(f"Missing {missing[0].upper()}.")
    request = {name: value for name, value in asked.items() if name in schema.model_fields}
    if datasets := schema.stored("datasets"):
        _check_datasets(request, datasets, api)
    for name in models:
        value = request[name]
        one = isinstance(value, str)
        found = [stored_model(api, each, reporter) for each in ([value] if one else value)]
        request[name] = found[0] if one else found
    if "recipe" in request:
        request["recipe"] = stored_recipe(api, str(request["recipe"]))
    plain: dict[str, Any] = json.loads(json.dumps(request, default=str))
    return plain


def _asked(ctx: click.Context, verb: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, and those of the configuration."""
    from quantlab.verbs.config import Config, effective, load_config
    from quantlab.verbs.options.option import declared
    from quantlab.verbs.options.tune import TuneOptions

    named = {name: params[name] for name in ("fp32", "int8", "model", "models") if name in params}
    now = {k: v for k, v in {**named, **given(ctx)}.items() if not _empty(v)}
    if verb == "gate":
        return _of_gate(now)
    if verb != "tune":
        return now
    config = load_config(params["config"])
    defaults = Config().model_dump()
    told = effective(config, now)
    known = declared(TuneOptions)
    of_images = {name for name, each in known.items() if each.option.group == "Images"}
    changed = {k: v for k, v in told.items() if v != defaults.get(k) and k not in of_images}
    changed.pop("rules", None)
    if "max_decline" in now:
        changed.pop("criterion", None)
    return {**changed, **now}


def _of_gate(now: dict[str, Any]) -> dict[str, Any]:
    """The rules and models of a configuration, where none are given. Raises RecipeError."""
    from quantlab.verbs.config import load_config

    models = now.get("models", ())
    path = now.pop("config", None)
    if len(models) == 1 and str(models[0]).endswith((".yaml", ".yml")):
        path, models = Path(models[0]), ()
    config = load_config(path)
    named = [str(name) for name in (config.model, config.output) if name is not None]
    rules = now.get("require") or config.rules.require
    return {**now, "models": tuple(models or named), "require": rules}


def _empty(value: Any) -> bool:
    return value is None or value == ()


def _check_datasets(request: Mapping[str, Any], fields: tuple[str, ...], api: Api) -> None:
    """Raises QuantlabError with the names that there are."""
    from quantlab.errors import QuantlabError

    there = [each["name"] for each in api.get("/datasets")["items"]]
    words = f"The server has: {', '.join(there) or 'none yet'}."
    if request.get(fields[0]) is None:
        raise QuantlabError("--data NAME is missing: a dataset of the server.", words)
    for field in fields:
        name = request.get(field)
        if name is not None and str(name) not in there:
            raise QuantlabError(f"the server has no dataset called {name}.", words)


def _targets(model: type[Options], params: Mapping[str, Any], asked: Mapping[str, Any]) -> Targets:
    """Where results go. An int8 file is called by the model's name here, whatever the server calls
    the model."""
    from quantlab.client.remote import Targets
    from quantlab.verbs.options.option import declared

    files = {
        each.option.job_file: Path(params[name])
        for name, each in declared(model).items()
        if each.option.job_file is not None and params.get(name)
    }
    output = asked.get("output")
    if output is None and "output" in params:
        output = f"{Path(str(asked['model'])).stem}.int8.onnx"
    return Targets(Path(params["runs_dir"]), files, None if output is None else Path(output))


def _summarize(params: Mapping[str, Any], done: Remote) -> None:
    """The gate's page, added to what other steps have written into a step summary."""
    import os

    from quantlab.verbs.gate import SUMMARY_VARIABLE

    summary = params.get("summary") or os.environ.get(SUMMARY_VARIABLE)
    if summary and done.run is not None and (page := done.run / "gate.md").is_file():
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(page.read_text(encoding="utf-8"))
