"""One option, one edit: a field that is added to a verb's options is found in all that is made of
them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Annotated, Any

import click
import pytest
from click.testing import CliRunner
from pydantic import Field, ValidationError
from scripts import loaded

from quantlab._util.reporter import NullReporter
from quantlab._util.yamlfile import validate
from quantlab.cli import VERBS, main
from quantlab.cli.files import Verb
from quantlab.cli.params import OptionsCommand
from quantlab.cli.remote import request_to
from quantlab.errors import RecipeError
from quantlab.serve.requests import REQUESTS, SERVED, Places, command_line, request_model
from quantlab.serve.web.forms import Stock, filled, form
from quantlab.verbs.config import file_schema, template
from quantlab.verbs.options.option import GROUPS, Option, Seconds, Stored, declared
from quantlab.verbs.options.shared import RunOptions


class Toy(RunOptions):
    """The options of a verb that there is not."""

    COMMAND = "toy"
    EXAMPLES = ("quantlab toy net", "quantlab toy other")

    model: Annotated[str, Option(argument=True, group="Model", remote=Stored("models"), main=True)]


class Longer(Toy):
    """The same with one field more: the one edit."""

    patience: Annotated[
        Seconds,
        Field(ge=0),
        Option(
            help="How long nothing may happen, after --model.",
            group="When it ends",
            flags=("--patience", "--old_patience"),
            former=("waiting",),
            config="patience",
            remote=True,
        ),
    ] = 90.0


@pytest.fixture(params=[Toy, Longer])
def toy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Toy]:
    """The options as a verb at the command line and of a service."""

    @click.command("toy", cls=Verb, options=request.param, short_help="Plays.")
    def command(**params: Any) -> None:
        click.echo(params.get("patience", "none"))

    monkeypatch.setitem(sys.modules, "quantlab.cli.toy", SimpleNamespace(command=command))
    monkeypatch.setitem(REQUESTS, "toy", request_model(request.param))
    found: type[Toy] = request.param
    return found


def command() -> OptionsCommand:
    found: OptionsCommand = sys.modules["quantlab.cli.toy"].command
    return found


def has(toy: type[Toy]) -> bool:
    """Whether the field was added: what follows looks both ways."""
    return toy is Longer


def test_the_command_line_has_it(toy: type[Toy]) -> None:
    page = CliRunner().invoke(command(), ["--help"]).output
    assert ("When it ends:" in page) == has(toy)
    assert ("--patience, --old_patience DURATION" in page) == has(toy)
    assert ("[default: 90s]" in page) == has(toy)
    assert "\nModel:\n" not in page, "an argument without help stands in the usage line alone"
    assert page.endswith("Examples:\n  quantlab toy net\n  quantlab toy other\n")
    for flag in ("--patience", "--old_patience"):
        said = CliRunner().invoke(command(), ["net", flag, "5m"])
        assert said.output == "300.0\n" if has(toy) else said.exit_code == 2
    if has(toy):
        assert "is not a duration" in CliRunner().invoke(command(), ["net", flag, "soon"]).output


def test_the_configuration_has_it(toy: type[Toy]) -> None:
    schema = file_schema(toy)
    assert ("patience" in schema.model_json_schema().get("properties", {})) == has(toy)
    text = template(schema, toy)
    assert ("# How long nothing may happen, after model.\npatience: 90s\n" in text) == has(toy)
    if has(toy):
        assert validate(schema, {"patience": "2m"}, "here").patience == 120
        assert validate(schema, {"waiting": "2m"}, "here").patience == 120
        with pytest.raises(RecipeError, match="here: patience: 'soon' is not a duration"):
            validate(schema, {"patience": "soon"}, "here")


def test_a_request_has_it(toy: type[Toy]) -> None:
    schema = REQUESTS["toy"]
    assert ("patience" in schema.model_json_schema()["properties"]) == has(toy)
    asked = {"verb": "toy", "model": "net", "patience": "2m"}
    if not has(toy):
        with pytest.raises(ValidationError, match="Extra inputs"):
            schema.model_validate(asked)
        return
    request = schema.model_validate(asked)
    assert schema.model_validate({**asked, "patience": 120}) == request
    assert schema.model_validate({"verb": "toy", "model": "net", "waiting": "2m"}) == request
    argv = command_line(request, Places(models=["net.onnx"]))
    assert argv == ["toy", "--patience=120.0", "net.onnx"]
    with pytest.raises(ValidationError, match="is not a duration such as"):
        schema.model_validate({**asked, "patience": "soon"})


def test_a_form_has_it(toy: type[Toy]) -> None:
    found = {each.name: each for each in form("toy", Stock(), {}, {}).more}
    assert ("patience" in found) == has(toy)
    given = {"model": ["net"], "patience": ["2m"]}
    request = filled("toy", given).request
    assert request is not None
    if has(toy):
        assert found["patience"].hint == "90s"
        assert found["patience"].help == "How long nothing may happen, after model."
        assert request.patience == 120
        errors = filled("toy", {**given, "patience": ["soon"]}).errors
        assert errors["patience"].startswith("'soon' is not a duration")


def test_server_hands_it_over(toy: type[Toy], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.client.remote.stored_model", lambda api, name, reporter: name)
    asked = {"model": "net", "patience": 120.0}
    if has(toy):
        assert request_to("toy", asked, None, NullReporter()) == asked  # type: ignore[arg-type]
    else:
        with pytest.raises(KeyError):
            request_to("toy", asked, None, NullReporter())  # type: ignore[arg-type]


def test_the_docs_have_it(toy: type[Toy]) -> None:
    row = "| `patience` | `90s` | How long nothing may happen, after model. |"
    assert (row in loaded("docs/tables.py").key_table(file_schema(toy))) == has(toy)
    page = loaded("docs/hooks.py").verb_page(command(), click.Context(main, info_name="q"), "toy")
    row = "| `--patience`, `--old_patience` `DURATION` | `90s` | How long nothing may happen"
    assert (row in page) == has(toy)


def test_the_tables_of_the_docs_are_those_of_today() -> None:
    tables = loaded("docs/tables.py")
    assert [path.name for path in tables.pages()] == ["config.md"]
    for path in tables.pages():
        text = path.read_text()
        assert text == tables.written_anew(text), f"python docs/tables.py writes {path.name} anew"


def leaves() -> Iterator[OptionsCommand]:
    for verb in VERBS:
        found = main.get_command(click.Context(main), verb)
        for each in found.commands.values() if isinstance(found, click.Group) else [found]:
            assert isinstance(each, OptionsCommand)
            yield each


@pytest.mark.parametrize("command", [*leaves()], ids=lambda c: c.model.__name__)
def test_declarations_are_complete(command: OptionsCommand) -> None:
    known = declared(command.model)
    for each in known.values():
        option = each.option
        assert option.group in GROUPS
        assert option.help or option.argument
        assert option.stands_for is None or option.stands_for in known
        assert set(option.replaces) <= set(known) | {"engines"}
        assert option.reader is None or callable(resolve_name(option.reader))
        sent = option.remote or option.config or option.command
        assert sent, f"{each.name} is declared for nothing"
    assert len(command.model.EXAMPLES) in (0, 2)
    for example in command.model.EXAMPLES:
        verb, words = command.model.words(), shlex.split(example)
        assert words[: len(verb) + 1] == ["quantlab", *verb]
        command.make_context(command.name, words[len(verb) + 1 :])


def test_what_a_server_does_has_the_words_of_its_verb() -> None:
    assert [options.COMMAND for options in SERVED][-1] == "baseline update"
    for options in SERVED:
        assert REQUESTS[options.words()[0]].OPTIONS is options


def test_two_declarations_of_a_field_are_none() -> None:
    class Twice(Toy):
        """One annotation inside another."""

        both: Annotated[Annotated[int, Option(help="a")], Option(help="b")] = 1

    with pytest.raises(TypeError, match="both is declared twice"):
        declared(Twice)
