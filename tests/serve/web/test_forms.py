from __future__ import annotations

import click
import pytest

from quantlab.cli.tune import command as tune
from quantlab.serve.requests import REQUESTS, VERBS
from quantlab.serve.web.forms import Field, Stock, VerbForm, about, filled, form

STOCK = Stock(
    models=[("net", "net (fp32)"), ("net-int8", "net-int8 (int8)")],
    datasets=[("val", "val (12 images)")],
    baselines=[("main", "main")],
)


def blank(verb: str) -> VerbForm:
    return form(verb, STOCK, {}, {})


def of(found: VerbForm, name: str) -> list[Field]:
    return [each for each in (*found.main, *found.more) if each.name == name]


@pytest.mark.parametrize("verb", VERBS)
def test_every_field_of_a_request_can_be_filled_in(verb: str) -> None:
    schema = REQUESTS[verb]
    found = blank(verb)
    assert {each.name for each in (*found.main, *found.more)} == schema.model_fields.keys() - {
        "verb"
    }
    assert all(each.label for each in (*found.main, *found.more))
    ids = [each.id for each in (*found.main, *found.more)]
    assert len(ids) == len(set(ids))
    required = {each.name for each in (*found.main, *found.more) if each.required}
    assert required == {n for n, f in schema.model_fields.items() if f.is_required()} - {"verb"}
    assert about(verb)


def test_it_says_what_the_command_line_says() -> None:
    options = {p.name: p for p in tune.params if isinstance(p, click.Option)}
    found = blank("tune")
    (decline,) = of(found, "max_decline")
    assert decline.help == options["max_decline"].help
    assert decline.hint == options["max_decline"].default == "1%"
    (bench,) = of(found, "no_bench")
    assert (bench.kind, bench.label) == ("flag", "Leave the timing out")
    assert "--" not in "".join(each.help for each in found.more)


def test_kinds() -> None:
    found = blank("tune")
    kinds = {each.name: each.kind for each in (*found.main, *found.more)}
    assert kinds["model"] == kinds["eval_data"] == "pick"
    assert kinds["strategy"] == kinds["layout"] == "choice"
    assert kinds["seed"] == kinds["calibration_size"] == kinds["target_speedup"] == "number"
    assert kinds["budget"] == kinds["tolerance"] == kinds["criterion"] == "text"
    assert [each.id for each in of(blank("gate"), "models")] == ["models", "models-2"]
    assert [each.kind for each in of(blank("gate"), "require")] == ["lines"]
    assert len(of(blank("bench"), "models")) == 4


def test_what_is_filled_in_is_a_request() -> None:
    given = {"model": ["net"], "data": ["val"], "budget": ["90s"], "tolerance": ["1%"]}
    given |= {"no_bench": ["true"], "seed": [" 7 "], "layout": [""], "key": ["x"]}
    assert filled("tune", given).request == REQUESTS["tune"](
        verb="tune", model="net", data="val", budget=90, tolerance=0.01, no_bench=True, seed=7
    )


def test_several_of_a_kind() -> None:
    assert filled("bench", {"models": ["a", "", "b"], "batch_sizes": ["1, 8  32"]}).request == (
        REQUESTS["bench"](verb="bench", models=("a", "b"), batch_sizes=(1, 8, 32))
    )
    rules = "top1.decline <= 1%\r\n\r\nagreement >= 95% \n"
    assert filled("gate", {"models": ["a"], "data": ["val"], "require": [rules]}).request == (
        REQUESTS["gate"](
            verb="gate",
            models=("a",),
            data="val",
            require=("top1.decline <= 1%", "agreement >= 95%"),
        )
    )


def test_errors_are_beside_their_fields() -> None:
    given = {"fp32": ["net"], "rounds": ["1"], "max_bad": ["a lot"], "batch_sizes": ["1 x"]}
    found = filled("compare", given)
    assert found.request is None
    assert found.errors.keys() == {"int8", "data", "rounds", "max_bad", "batch_sizes"}
    assert found.errors["int8"] == "It is needed."
    assert "'a lot'" in found.errors["max_bad"]
    again = form("compare", STOCK, given, found.errors)
    assert {each.name for each in again.wrong} == found.errors.keys()
    assert again.more_given
    assert [each.value for each in of(again, "rounds")] == ["1"]


def test_a_wrong_name_of_several_is_said_once() -> None:
    given = {"models": ["a", "/etc/passwd"], "data": ["val"]}
    found = filled("gate", given)
    again = form("gate", STOCK, given, found.errors)
    assert [bool(each.error) for each in of(again, "models")] == [True, False]


def test_an_option_that_looks_like_one_is_none() -> None:
    assert filled("compare", {"criterion": ["--output=/etc/x"]}).errors["criterion"]
    assert "criterion" in REQUESTS["compare"].model_fields


def test_a_field_that_nobody_asked_for_is_let_alone() -> None:
    found = filled("evaluate", {"model": ["net"], "data": ["val"], "runs_dir": ["/etc"]})
    assert found.request is not None
    assert "runs_dir" not in found.request.model_dump()
