"""Requests: every verb's command line is the verb's own, and no field can be more than it is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from quantlab.serve.requests import (
    REQUESTS,
    VERBS,
    AnyRequest,
    Places,
    Request,
    command_line,
    command_of,
    dataset_names,
    model_names,
)
from quantlab.verbs.options.option import declared

REQUEST: TypeAdapter[AnyRequest] = TypeAdapter(Request)
LEAST: dict[str, dict[str, Any]] = {
    "tune": {"model": "m", "data": "d"},
    "quantize": {"model": "m", "data": "d"},
    "evaluate": {"model": "m", "data": "d"},
    "compare": {"fp32": "m", "int8": "n", "data": "d"},
    "gate": {"models": ["m", "n"], "data": "d"},
    "bench": {"models": ["m"]},
    "baseline": {"model": "m", "data": "d", "name": "b"},
}
MOST: dict[str, dict[str, Any]] = {
    "tune": {
        "eval_data": "e", "recipe": "r", "max_decline": "0.5pp", "images_per_class": 2,
        "calibration_size": 8, "seed": 1, "budget": 60, "tolerance": 0.01, "strategy": "random",
        "engine": "ort", "quant_format": "QDQ", "max_trials": 3, "target_speedup": 1.5,
        "pick": "fastest", "no_bench": True, "no_audit": True, "allow_overlap": True, "gate": True,
        "early_stop": "off", "inc_strategy": "basic", "output": "best.onnx", "target": "openvino",
    },
    "quantize": {
        "recipe": "r", "seed": 1, "output": "best.onnx", "force": True, "target": "qnn",
        "engine": "ort", "ranges": "mse", "per_channel": False, "activations": "s8",
        "format": "qoperator", "calibration_size": 8, "images_per_class": 2,
    },
    "evaluate": {"log_interval": 10},
    "compare": {
        "max_decline": "1%", "batch_sizes": [1, 8], "rounds": 3, "no_bench": True,
        "early_stop": True, "seed": 1, "fp32_runtime": "onnxruntime",
    },
    "gate": {
        "require": ["top1.decline <= 1%", "kl <= 0.02, advisory", "portable",
                    "runtime.agreement >= 99%"], "baseline": "b",
        "fp32_runtime": "onnxruntime",
        "allow_isa_change": True, "rounds": 3, "seed": 1, "annotations": True,
    },
    "bench": {
        "batch_sizes": [2, 4], "rounds": 3, "seconds": 1, "threads": 2, "instances": 2,
        "cores_per_instance": 1, "rates": [1, 2.5], "size": 64, "profile": True, "seed": 1,
        "layout": "NHWC", "output_name": "out", "runtime": "openvino",
    },
    "baseline": {},
}  # fmt: skip
OF_IMAGES = {
    "pipeline": "timm-bicubic", "layout": "NHWC", "output_kind": "logits", "output_name": "out",
    "size": 64, "threads": 2,
    "max_bad": 0.5, "runtime": "openvino",
}  # fmt: skip
EVALUATED = {"batch_size": 4, "split": "2x1", "fold_preprocess": True}

_OWN_RUN = "a job is one run in a folder of its own"
_PATH = "a place of the server"
_LISTS = "the dataset has its own"
_OTHER = "another tool's name or lines, for scripts at the command line"
NOT_ASKED = {
    "tune": {"config": _PATH, "storage": _PATH, "resume": _OWN_RUN},
    "quantize": {},
    "evaluate": {
        "results": _PATH, "label": _PATH,
    },
    "compare": {},
    "gate": {
        "config": _PATH, "junit": "always written", "comment": "always written",
        "benchmark_json": "always written", "summary": "the client's own, from comment.md",
    },
    "bench": {
        "dataset_location": _OTHER, "label_path": _OTHER, "mode": _OTHER,
        "processes": "instances alone",
    },
    "baseline": {"baseline": "always quantlab-baseline.yaml", "no_predictions": "always written"},
}  # fmt: skip
EVERYWHERE = {
    "runs_dir": _OWN_RUN, "as_json": "the record is a result", "quiet": "what is said is kept",
    "list_file": _LISTS, "synsets": _LISTS, "eval_list": _LISTS, "provider": "jobs run on CPUs",
    "open_report": "the client's own", "compat": _OTHER, "exports": _PATH,
    "executor": "a job runs where its worker is", "force": "a job's folder is empty",
}  # fmt: skip
"""Options that no client can set, and why."""


def everything(verb: str) -> AnyRequest:
    """A request with every field another than its default."""
    images = OF_IMAGES if "data" in LEAST[verb] else {}
    evaluated = EVALUATED if verb not in ("quantize", "bench") else {}
    return REQUEST.validate_python(
        {"verb": verb, **LEAST[verb], **MOST[verb], **images, **evaluated}
    )


def places_of(request: AnyRequest) -> Places:
    """As JobFolder would give them."""
    return Places(
        models=[f"{name}.onnx" for name in model_names(request)],
        data={field: f"datasets/{name}" for field, name in dataset_names(request).items()},
        recipe="recipes/r.yaml" if getattr(request, "recipe", None) else None,
        baseline="quantlab-baseline.yaml" if getattr(request, "baseline", None) else None,
    )


def parsed(argv: list[str]) -> dict[str, Any]:
    """What click makes of a command line. Raises click's errors."""
    words = ("baseline", "update") if argv[0] == "baseline" else (argv[0],)
    assert tuple(argv[: len(words)]) == words
    command = command_of(words)
    return command.make_context(words[-1], argv[len(words) :]).params


def test_there_is_a_request_for_each_verb() -> None:
    assert set(VERBS) == set(LEAST)
    assert all(issubclass(request, AnyRequest) for request in REQUESTS.values())


@pytest.mark.parametrize("verb", VERBS)
def test_what_equals_its_default_is_left_out(verb: str) -> None:
    request = REQUEST.validate_python({"verb": verb, **LEAST[verb]})
    argv = command_line(request, places_of(request))
    flags = {word.partition("=")[0] for word in argv if word.startswith("--")}
    always = {d.flag for d in declared(request.OPTIONS).values() if d.option.job_file}
    assert flags <= {"--data", "--model", "--output"} | always
    parsed(argv)


@pytest.mark.parametrize("verb", VERBS)
def test_every_field_arrives_as_it_was_asked(verb: str) -> None:
    request = everything(verb)
    default = REQUEST.validate_python({"verb": verb, **LEAST[verb]})
    found = parsed(command_line(request, places_of(request)))
    named = {*request.stored("models"), *request.stored("datasets")}
    named |= {"verb", "name", "recipe", "baseline"}
    named |= {"criterion"}  # instead of max_decline
    for field in set(type(request).model_fields) - named:
        asked = getattr(request, field)
        assert asked != getattr(default, field), f"{field} is not put to the test"
        arrived = str(found[field]) if isinstance(found[field], Path) else found[field]
        assert arrived == asked, field
    assert all(str(found[f]) == f"datasets/{name}" for f, name in dataset_names(request).items())


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_can_be_asked_for_or_there_is_a_reason(verb: str) -> None:
    """A new option of a verb belongs into its request, or into the table above."""
    request = REQUESTS[verb]
    command = command_of(request.OPTIONS.words())
    options = {p.name for p in command.params if isinstance(p, click.Option)}
    fields = set(request.model_fields) - {"verb", "name"}
    reasons = {**EVERYWHERE, **NOT_ASKED[verb]}
    places = {"model"} if verb != "gate" else set()
    assert options - fields - set(reasons) - places == set()
    assert NOT_ASKED[verb].keys() <= options, "the table names what is not there any more"
    arguments = {p.name for p in command.params if isinstance(p, click.Argument)}
    assert fields - options <= {*request.stored("models"), *arguments}


@pytest.mark.parametrize("verb", VERBS)
def test_every_choice_of_a_verb_can_be_asked_for(verb: str) -> None:
    request = REQUESTS[verb]
    for option in command_of(request.OPTIONS.words()).params:
        if option.name in request.model_fields and isinstance(option.type, click.Choice):
            for choice in option.type.choices:
                asked = {"verb": verb, **LEAST[verb], option.name: choice}
                made = REQUEST.validate_python(asked)
                assert getattr(made, str(option.name)) == choice


TEXTS = [
    (verb, field)
    for verb, kind in REQUESTS.items()
    for field, info in kind.model_fields.items()
    if field != "verb" and "str" in str(info.annotation)
]
NASTY = st.one_of(
    st.text(),
    st.from_regex(r"-{1,2}[a-z-]{1,12}(=[a-z/.]{1,9})?", fullmatch=True),
    st.sampled_from(
        ["../x", "/etc/passwd", "a/b", "~", ".", "..", "C:\\x", "file:///x", "-", "--"]
    ),
    st.sampled_from(
        ["os:abort.decline <= 1%", "os:abort 1%", "$(id)", "a;b", "a\nb", "a\0b", "%s"]
    ),
    st.from_regex(r"[A-Za-z0-9._+ %<>=,:/-]{1,20}", fullmatch=True),
)


@given(st.sampled_from(TEXTS), NASTY)
def test_no_text_becomes_an_option_or_a_path(where: tuple[str, str], text: str) -> None:
    """Whatever is accepted is one option's value (or a model's name), and the same as before."""
    verb, field = where
    value = (
        [text] if str(REQUESTS[verb].model_fields[field].annotation).startswith("tuple") else text
    )
    fields = {"verb": verb, **LEAST[verb], field: value}
    try:
        request = REQUEST.validate_python(fields)
    except ValidationError:
        return
    assert not set("/\\:\0\n") & set(text)
    assert (not text.startswith(("-", "~")) and text.strip(".") != "") or field not in LEAST[verb]
    plain = REQUEST.validate_python({"verb": verb, **LEAST[verb]})
    argv, before = (command_line(r, places_of(r)) for r in (request, plain))
    flags = [
        [word.partition("=")[0] for word in line if word.startswith("-")] for line in (argv, before)
    ]
    own = [o.opts for o in command_of(request.OPTIONS.words()).params if o.name == field]
    assert {*flags[0]} - {*flags[1]} <= {name for names in own for name in names}
    assert shlex.split(shlex.join(argv)) == argv


@pytest.mark.parametrize(
    "change",
    [
        {"model": "a/b"}, {"model": ""}, {"model": "a" * 101}, {"model": None}, {"data": "../d"},
        {"data": "/d"}, {"path": "/d"}, {"config": "x.yaml"}, {"threads": -1}, {"seed": -1},
        {"images_per_class": 0}, {"budget": 0}, {"budget": "inf"}, {"budget": "nan"},
        {"strategy": "other"}, {"engine": "a/b"}, {"criterion": "os:abort 1%"}, {"verb": "serve"},
        {"criterion": "--help"}, {"pipeline": "../p.yaml"}, {"max_decline": "1%\n"}, {"verb": None},
        {"recipe": "-r"}, {"threads": "1 --help"}, {"output": "x"}, {"storage": "sqlite:////x"},
        {"target": "--help"}, {"target": "tensort"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        REQUEST.validate_python({"verb": "tune", **LEAST["tune"], **change})


def test_units_are_those_of_the_command_line() -> None:
    def asked(**fields: Any) -> AnyRequest:
        return REQUEST.validate_python({"verb": "tune", **LEAST["tune"], **fields})

    assert asked(budget="5m") == asked(budget=300) == asked(budget=300.0)
    assert asked(max_bad="1%") == asked(max_bad=0.01)
    assert asked(max_bad=1).max_bad == 1
    for wrong in ({"budget": "8d"}, {"budget": "soon"}, {"max_bad": "2"}, {"max_bad": 2}):
        with pytest.raises(ValidationError):
            asked(**wrong)


@pytest.mark.parametrize(
    ("verb", "wrong"),
    [
        ("tune", {"max_decline": "a lot"}), ("tune", {"criterion": "nearness <= 3"}),
        ("compare", {"criterion": "kl<=much"}), ("evaluate", {"split": "0x2"}),
        ("gate", {"require": ["top1.decline <= much"]}), ("gate", {"require": ["portable <= 1"]}),
        ("gate", {"require": ["kl <= 0.1", "kl <= 0.1"]}),
    ],
)  # fmt: skip
def test_what_the_verb_could_not_read_is_refused_at_once(verb: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="Value error"):
        REQUEST.validate_python({"verb": verb, **LEAST[verb], **wrong})


def test_a_criterion_in_the_place_of_a_decline() -> None:
    for verb in ("tune", "compare"):
        asked = {"verb": verb, **LEAST[verb], "criterion": "agreement >= 96%"}
        request = REQUEST.validate_python(asked)
        assert parsed(command_line(request, places_of(request)))["criterion"] == "agreement >= 96%"


def test_what_times_is_exclusive() -> None:
    def exclusive(verb: str, **fields: Any) -> bool:
        return REQUEST.validate_python({"verb": verb, **LEAST[verb], **fields}).exclusive

    assert exclusive("bench")
    assert exclusive("tune")
    assert not exclusive("tune", no_bench=True)
    assert exclusive("compare")
    assert not exclusive("compare", no_bench=True)
    assert not exclusive("evaluate")
    assert not exclusive("gate")
    assert exclusive("gate", require=["latency.p50.ratio <= 1.05"])
    assert not exclusive("gate", require=["kl <= 0.1"])
    assert not exclusive("gate", require=["latency.p50.ratio <= 1.05, off", "kl <= 0.1"])
    assert exclusive("gate", require=["LATENCY.P50.RATIO <= 1.05"])


def test_rules_by_their_former_name() -> None:
    asked = {"verb": "gate", "models": ["a", "b"], "data": "val"}
    now, before = ({**asked, key: ["kl <= 0.1"]} for key in ("require", "fail_if"))
    requests = [REQUESTS["gate"].model_validate(each) for each in (now, before)]
    assert requests[0] == requests[1]
    assert "--require=kl <= 0.1" in command_line(requests[1], Places(["a.onnx", "b.onnx"]))
