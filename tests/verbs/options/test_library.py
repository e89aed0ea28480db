"""The library's functions have the defaults that the verbs' options have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import quantlab
from quantlab.verbs.options.bench import BenchOptions
from quantlab.verbs.options.compare import CompareOptions
from quantlab.verbs.options.evaluate import EvaluateOptions
from quantlab.verbs.options.option import Options
from quantlab.verbs.options.quantize import QuantizeOptions
from quantlab.verbs.options.tune import TuneOptions

OTHERWISE = {"engines", "space", "criterion"}
"""One argument there stands for two options: engine and engines, max_decline and criterion; and an
empty space is none."""


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
