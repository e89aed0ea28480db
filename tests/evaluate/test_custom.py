from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.compare.compare import compare
from quantlab.errors import RecipeError
from quantlab.evaluate.custom import MetricFunction, image_scores, load_metric
from quantlab.evaluate.metrics import hits, top_k
from quantlab.gate.metrics import metrics_of
from quantlab.gate.notation import parse_criterion
from quantlab.testing.predictions import fake_predictions

SOURCE = """
import numpy as np
LIMIT = 3

def right(outputs, labels):
    return outputs.argmax(1) == labels
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A metrics file in the current folder."""
    (tmp_path / "my_metrics_of_a_test.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return "my_metrics_of_a_test"


def test_a_metric_is_found_in_the_current_folder(module: str) -> None:
    fp32, int8 = fake_predictions(300, 10, 0, 1), fake_predictions(300, 10, 0.2, 1)
    metrics = metrics_of(parse_criterion(f"{module}:right 1%"))
    c = compare(fp32, int8, metrics=metrics)
    change = c.custom[f"{module}:right"]
    assert c.top1 is not None
    assert c.fp32.top1 is not None
    assert (change.n, change.lower, change.higher) == (300, c.top1.lost, c.top1.gained)
    assert change.fp32 == pytest.approx(c.fp32.top1.value)
    assert change.difference == pytest.approx(c.top1.difference)
    assert change.ratio == pytest.approx(c.top1.ratio)


@pytest.mark.parametrize("text", ["1%", "top5.decline <= 1%", "agreement >= 96%", "kl <= 0.01"])
def test_other_criteria_need_no_function(text: str) -> None:
    assert metrics_of(parse_criterion(text)) == {}


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("{}", "does not name a metric.\nWrite module:function."),
        ("{}:", "does not name a metric"),
        ("{}:wrong", "has no function wrong"),
        ("{}:LIMIT", "LIMIT is not a function, it is int"),
        ("no_such_module:f", "no_such_module cannot be imported: ModuleNotFoundError: No module"),
    ],
)
def test_what_is_no_metric_is_told(module: str, name: str, complaint: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_metric(name.format(module))
    assert complaint in str(error.value)


def test_a_module_that_fails_is_told(module: str, tmp_path: Path) -> None:
    (tmp_path / "broken_metrics_of_a_test.py").write_text("1 / 0\n")
    with pytest.raises(RecipeError, match="cannot be imported: ZeroDivisionError: division"):
        load_metric("broken_metrics_of_a_test:f")


def _writes(outputs: Any, labels: Any) -> Any:
    outputs[:] = 0
    return outputs[:, 0]


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (lambda out, labels: 1.0, "gave an array of shape [] for 30 images.\nIt must return one"),
        (lambda out, labels: out, "gave an array of shape [30, 10] for 30 images"),
        (lambda out, labels: out[:5, 0], "gave an array of shape [5] for 30 images"),
        (lambda out, labels: ["a"] * 30, "failed on fake-fp32: ValueError: could not convert"),
        (lambda out: out, "failed on fake-fp32: TypeError"),
        (lambda out, labels: out[:, 0] * np.nan, "gave nan for 30 of 30 images of fake-fp32, fir"),
        (_writes, "failed on fake-fp32: ValueError: assignment destination is read-only"),
    ],
)
def test_what_gives_no_scores_is_told(function: MetricFunction, complaint: str) -> None:
    with pytest.raises(RecipeError) as error:
        image_scores("m:f", function, fake_predictions(30, 10, 0, 1))
    assert f"the metric m:f {complaint}" in str(error.value)


def test_a_metric_that_needs_labels_says_so() -> None:
    def right(outputs: Any, labels: Any) -> Any:
        return hits(top_k(outputs, 1), labels)

    with pytest.raises(RecipeError, match=r"failed on fake-fp32 \(the images have no labels\)"):
        image_scores("m:f", right, fake_predictions(30, 10, 0, 1, labelled=False))
