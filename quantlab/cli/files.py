"""Find the files that a command line reads and writes by its options' roles; check them before it
runs.

Every verb is a ``Verb``: that is the one place where this happens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from quantlab._util.outputs import Input, Output, check
from quantlab._util.paths import cache_dir
from quantlab.cli.params import NearestGroup, OptionsCommand, RoleType
from quantlab.cli.recorded_run import given
from quantlab.errors import QuantlabError
from quantlab.verbs.roles import DATA, MODEL, Fills, Reads, Role, Values, Writes, place

if TYPE_CHECKING:
    from quantlab.verbs.config import Config
    from quantlab.verbs.options.option import Options

Known: TypeAlias = "tuple[Values, Path | None, Config | None]"
"""Options with values of the configuration, its path, and itself where it can be read."""


class Verb(OptionsCommand):
    """A click command that refuses to overwrite its inputs or files of others."""

    def invoke(self, ctx: click.Context) -> Any:
        """Check that inputs and outputs are distinct, resolve what the configuration says, run.
        Raises OutputError."""
        now = given(ctx)
        ctx.params.update(_from_file(self.model, ctx.params))
        known = _effective(ctx.command, ctx.params, now)
        check(*_files(ctx.command, known), force=bool(ctx.params.get("force")))
        ctx.params.update(_resolved(self.model, now, known))
        return super().invoke(ctx)


class VerbGroup(NearestGroup):
    """A group of click commands, with the same check."""

    command_class = Verb


def role_of(param: click.Parameter) -> Role | None:
    """What a command does with the path that this option or argument names; None for no path."""
    return param.type.role if isinstance(param.type, RoleType) else None


def files_of(
    command: click.Command, params: Values, now: Values
) -> tuple[list[Output], list[Input]]:
    """What the command will write, and what it will read: ``params`` are its options by name,
    ``now`` those that were given."""
    return _files(command, _effective(command, params, now))


def _from_file(options: type[Options], params: Values) -> Values:
    """The models that the configuration names, where none is given. Raises RecipeError."""
    from quantlab.verbs.options.option import declared

    missing = {
        name: each
        for name, each in declared(options).items()
        if each.option.configured and not params.get(name)
    }
    if not missing or params.get("results"):
        return {}
    from quantlab.verbs.config import load_config, models_of

    named = models_of(load_config(params.get("config")))
    found = {
        name: tuple(named[key] for key in each.option.configured if key in named)
        for name, each in missing.items()
    }
    return {k: v if missing[k].several else v[0] for k, v in found.items() if v}


def _resolved(options: type[Options], now: Values, known: Known) -> Values:
    """What the configuration says of a verb's images and preprocessing, with origins. Nothing
    where it cannot be read, or the verb resolves it by itself: tune, and a run that is resumed."""
    _, path, config = known
    if "pipeline" not in options.model_fields or "resume" in options.model_fields:
        return {}
    from quantlab.verbs.config import FILE_NAME, Config, resolve, source_name

    if config is None and path is not None and (path != Path(FILE_NAME) or path.exists()):
        return {}

    return resolve(options, now, config or Config(), source_name(path))


def _files(command: click.Command, known: Known) -> tuple[list[Output], list[Input]]:
    values, path, config = known
    outputs: list[Output] = [Output(cache_dir(), "QUANTLAB_CACHE")]
    inputs: list[Input] = []
    for param in command.params:
        role, name = role_of(param), str(param.name)
        if role is None or not _is_used(role, name, values, config):
            continue
        for source, option in _sources(role, values.get(name), _label(param), values):
            if not isinstance(role, Reads):
                outputs += _outputs(role, source, option, values)
            if isinstance(role, Reads | Fills):
                inputs.append(Input(source, option, role.parts))
    if path is not None:
        inputs.append(Input(path, "--config" if values.get("config") else "this folder"))
        inputs += _configured(command, config, path)
    return outputs, inputs


def _is_used(role: Role, name: str, values: Values, config: Config | None) -> bool:
    """Whether the environment's data are read: QUANTLAB_DATA counts only where no configuration
    names images."""
    return not (role is DATA and not values.get(name) and config is not None and config.data)


def _sources(role: Role, value: Any, option: str, values: Values) -> Iterator[tuple[Path, str]]:
    """Every path of an option with what names it; the usual one where none is given."""
    found = value if isinstance(value, tuple | list) else (value,)
    named: list[tuple[object, str]] = [(each, option) for each in found if each]
    if not named and (usual := role.usual(values)) is not None:
        named = [usual if isinstance(usual, tuple) else (usual, option)]
    for each, label in named:
        at = role.at if isinstance(role, Writes) else place
        if not isinstance(each, dict) and (path := at(each)) is not None:
            yield path, label


def _outputs(role: Writes | Fills, path: Path, option: str, values: Values) -> list[Output]:
    if isinstance(role, Fills):
        inside = [Output(file, option, kind) for file, kind in role.files(path)]
        return [Output(path, option), *inside]
    every = [path, *role.beside(path, values)]
    return [Output(each, option, role.kind(each)) for each in every]


def _label(param: click.Parameter) -> str:
    flags = [flag for flag in param.opts if flag.startswith("--")]
    return flags[0] if isinstance(param, click.Option) and flags else str(param.name).upper()


def _effective(
    command: click.Command, params: Values, now: Values
) -> tuple[Values, Path | None, Config | None]:
    """Every option's value as the verb will get it, with values from the configuration file.

    What cannot be read is left to the verb, which says so.
    """
    values, names = dict(params), {param.name for param in command.params}
    if values.get("resume") is not None:
        from quantlab.runs.record import load_record

        with suppress(QuantlabError):
            values = {**values, **load_record(Path(values["resume"])).spec, **now}
        return values, None, None
    if not {"pipeline", "models"} & names:
        return values, None, None
    from quantlab.verbs.config import FILE_NAME, effective, load_config

    path, config = values.get("config") or _first_yaml(values.get("models")), None
    path = Path(FILE_NAME) if path is None else Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    with suppress(QuantlabError, OSError):
        config = load_config(path) if path.is_file() else None
    if config is not None and "strategy" in names:  # tune: flags, then the file, then defaults
        values |= {k: v for k, v in effective(config, now).items() if k in names}
    return values, path, config


def _first_yaml(models: Any) -> str | None:
    one = models[0] if isinstance(models, tuple) and len(models) == 1 else ""
    return one if one.endswith((".yaml", ".yml")) else None


def _configured(command: click.Command, config: Config | None, path: Path) -> Iterable[Input]:
    """What the configuration names, and of what a gate judges also the int8 file."""
    if config is None:
        return
    from quantlab.verbs.config import keys_of, of_gate
    from quantlab.verbs.options.gate import GateOptions
    from quantlab.verbs.options.tune import TuneOptions

    known: dict[str, tuple[Any, Role | None]] = {
        name: (getattr(config, name), each.option.role)
        for name, each in keys_of(TuneOptions).items()
    }
    if isinstance(command, OptionsCommand) and command.model is GateOptions:
        known["output"] = (config.output, MODEL)
        rules = config.rules
        known |= {f"gate.{k}": (getattr(rules, k), d.option.role) for k, d in of_gate().items()}
    for key, (value, role) in known.items():
        if not isinstance(role, Reads) or not value or isinstance(value, dict):
            continue
        if (source := place(value)) is not None:
            yield Input(source, f"{key} of {path}", role.parts)
