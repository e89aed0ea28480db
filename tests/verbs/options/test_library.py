"""The library's functions have the verbs' options, with their defaults and bounds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import quantlab
from quantlab.testing import example_images, example_model
from quantlab.verbs.arguments import ARGUMENTS, OPTIONS, declarations, is_plain
from quantlab.verbs.options.bench import BenchOptions
from quantlab.verbs.options.compare import CompareOptions
from quantlab.verbs.options.evaluate import EvaluateOptions
from quantlab.verbs.options.option import Declared, Options, declared
from quantlab.verbs.options.quantize import QuantizeOptions
from quantlab.verbs.options.tune import TuneOptions

OTHERWISE = {"bench", "engines", "space", "criterion"}
"""One argument there stands for two options: engine and engines, max_decline and criterion; and
what is empty is None."""


@pytest.mark.parametrize(
    ("function", "options", "least"),
    [
        (quantlab.tune, TuneOptions, 14),
        (quantlab.quantize, QuantizeOptions, 4),
        (quantlab.evaluate, EvaluateOptions, 4),
        (quantlab.compare, CompareOptions, 4),
        (quantlab.bench, BenchOptions, 4),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_both_have_is_the_same(
    function: Callable[..., Any], options: type[Options], least: int
) -> None:
    shared = {
        name: (parameter.default, options.model_fields[name].get_default())
        for name, parameter in inspect.signature(function).parameters.items()
        if name in options.model_fields and parameter.default is not inspect.Parameter.empty
    }
    assert len(shared) >= least, list(shared)
    assert {name for name, (one, other) in shared.items() if one != other} <= OTHERWISE


IMAGES = "images are opened by open_dataset with their list and names"
PRINTED = "it is about what is printed"
EXIT = "the verdict is returned"
OTHER_TOOLS = "another tool's spelling of an option that there is"
DEVICE = "answers of another device are read by the command line"
LEFT_OUT: dict[str, str] = {
    "config": "no configuration is read",
    "list_file": IMAGES,
    "eval_list": IMAGES,
    "synsets": IMAGES,
    "data": "images are an argument",
    "eval_data": "images are an argument",
    "as_json": PRINTED,
    "quiet": PRINTED,
    "log_interval": "progress is told by ``progress``",
    "compat": PRINTED,
    "open_report": PRINTED,
    "exports": "the figures are returned",
}
"""Options that no function has, and why."""
LEFT_OUT_OF: dict[str, dict[str, str]] = {
    "quantize": {
        "output": "the model is returned",
        **dict.fromkeys(
            (
                *("engine", "ranges", "per_channel", "activations", "format"),
                *("calibration_size", "images_per_class"),
            ),
            "recipe",
        ),
    },
    "tune": {
        "output": "the model is returned",
        "force": "nothing is overwritten",
        "gate": EXIT,
        "resume": "a run is continued by the command line",
        "engine": "engines",
        "quant_format": OTHER_TOOLS,
    },
    "evaluate": {"results": DEVICE, "label": DEVICE},
    "compare": {"max_decline": "criterion", "force": "nothing is overwritten"},
    "gate": {
        "models": "subject",
        "junit": EXIT,
        "comment": EXIT,
        "summary": EXIT,
        "benchmark_json": EXIT,
        "annotations": PRINTED,
        "force": "nothing is overwritten",
    },
    "bench": {
        "processes": OTHER_TOOLS,
        "mode": OTHER_TOOLS,
        "dataset_location": OTHER_TOOLS,
        "label_path": OTHER_TOOLS,
        "profile": "profiles are the command line's",
        "force": "nothing is overwritten",
    },
    "inspect": {
        "models": "model and int8",
        "fp32": "model and int8",
        "scales": PRINTED,
        "form": PRINTED,
        **dict.fromkeys(
            ("portability", "layers", "sensitivity", "preprocess_audit", "quantization"), "view"
        ),
    },
    "fetch": {"runs_dir": "no run is kept of a download"},
}
"""Options that the function of the verb alone has not."""
FUNCTIONS = sorted(OPTIONS)


def arguments(function: str) -> set[str]:
    return {*inspect.signature(getattr(quantlab, function)).parameters}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_option_is_an_argument_or_left_out_for_a_reason(function: str) -> None:
    options = declared(OPTIONS[function])
    has = {ARGUMENTS.get(name, name) for name in arguments(function)}
    assert options.keys() - has - LEFT_OUT.keys() == LEFT_OUT_OF[function].keys()


def too_much(known: Declared) -> Any:
    """What the declaration does not allow: None where it allows everything of its type."""
    if known.choices or known.unit is not None or known.option.reader is not None:
        return "nope"
    if known.several and known.kind is str:
        return [7]
    return {int: "x", float: "x", bool: "perhaps", str: 7}.get(known.kind, 7)


def beyond(known: Declared) -> list[Any]:
    """Values just beyond the bounds, and one that no text is."""
    if known.option.reader is not None:
        return [7]
    least = [m.ge - 1 for m in known.metadata if hasattr(m, "ge")]
    least += [m.gt for m in known.metadata if hasattr(m, "gt")]
    return least + [m.le + 1 for m in known.metadata if hasattr(m, "le")]


SUBJECTS: dict[str, tuple[Any, ...]] = {
    "quantize": ("m.onnx", "images"),
    "tune": ("m.onnx", "images"),
    "evaluate": ("m.onnx", "images"),
    "compare": ("a.onnx", "b.onnx", "images"),
    "gate": (("a.onnx", "b.onnx"),),
    "bench": ("m.onnx",),
    "inspect": ("m.onnx",),
    "fetch": ("m",),
}
"""Nothing of that name is there: what is not allowed is found first."""
BAD = [
    pytest.param(function, name, value, id=f"{function} {name}={value!r}")
    for function in FUNCTIONS
    for name, known in declarations(function, sorted(arguments(function))).items()
    if is_plain(known)
    for value in [too_much(known), *beyond(known)]
]


@pytest.mark.parametrize(("function", "name", "value"), BAD)
def test_what_an_option_would_not_take_is_said_at_once(
    function: str, name: str, value: Any
) -> None:
    given = (value,) if isinstance(value, int | float) and name == "rates" else value
    with pytest.raises(quantlab.QuantlabError) as caught:
        getattr(quantlab, function)(*SUBJECTS[function], **{name: given})
    assert caught.value.problem.startswith(f"{name}=")
    assert "not allowed" in caught.value.problem
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) == 2
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"budget": -1}, "budget=-1 is not allowed.\nbudget is a duration such as 5m, at least 0."),
        (
            {"max_bad": 2},
            "max_bad=2 is not allowed.\nmax_bad is a share such as 1%, at least 0, at most 1.",
        ),
        ({"seed": "x"}, "seed='x' is not allowed.\nseed is a whole number, at least 0."),
        (
            {"max_trials": 0},
            "max_trials=0 is not allowed.\nmax_trials is a whole number, at least 1; or None.",
        ),
        (
            {"recipe": 7},
            "recipe=7 is not allowed.\nrecipe is a mapping or a path or text",
        ),
        (
            {"space": {"rangs": ["mse"]}},
            "space={'rangs': ['mse']} is not allowed: search: unknown key rangs.\nDid you mean",
        ),
        ({"executor": "nope"}, "executor='nope' is not allowed: 'nope' is no executor.\n"),
        ({"engines": "ort"}, "engines='ort' is not allowed.\nengines is several of: text."),
        (
            {"bench": {"rounds": 0}},
            "bench={'rounds': 0} is not allowed.\nbench is a mapping of batch_sizes, rounds, ",
        ),
    ],
    ids=str,
)
def test_how_it_is_said(given: dict[str, Any], words: str) -> None:
    with pytest.raises(quantlab.QuantlabError) as caught:
        quantlab.tune("m.onnx", "images", **given)
    assert str(caught.value).startswith(words)


def test_errors_name_arguments_not_flags() -> None:
    model, images = example_model(), example_images()
    with pytest.raises(quantlab.ModelError) as caught:
        quantlab.evaluate(model, images, size=64)
    assert "Leave size= out" in caught.value.remedy
    with pytest.warns(quantlab.QuantlabWarning, match=r"\(pipeline= names another\)"):
        quantlab.evaluate(model, images)
