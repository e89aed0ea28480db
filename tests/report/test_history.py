"""The history in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantlab._util.terminal import table_width
from quantlab.report import drawings
from quantlab.report.history import (
    diff_page,
    interval_words,
    listing,
    outcome_words,
    run_page,
    trend_page,
    value_words,
    when,
)
from quantlab.runs.change_points import change_points
from quantlab.runs.difference import changes, outcomes
from quantlab.runs.entry import Entry, Listed, entry_of
from quantlab.runs.metrics import METRICS, HistoryMetric
from quantlab.runs.record import load_record
from quantlab.runs.trend import Point, Series
from quantlab.stats.paired import Interval
from quantlab.testing.runs import fake_run


def series(values: list[float], metric: str = "top1", conditions: str = "val") -> Series:
    points = tuple(
        Point(f"{i}-run-{i:06d}", "", f"2026-01-{i + 1:02d}T00:00:00+00:00", "ab" * 32, v,
              Interval(v - 0.01, v + 0.01))
        for i, v in enumerate(values)
    )  # fmt: skip
    return Series(metric, conditions, points, change_points(values, [0.005] * len(values)))


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("top1", "79.69%"), ("decline", "79.69%"), ("kl", "0.7969"), ("latency", "0.80"),
        ("speedup", "0.797"),
    ],
)  # fmt: skip
def test_figures_have_their_units(metric: str, words: str) -> None:
    assert value_words(metric, 0.796923) == words
    assert interval_words(metric, Interval(0.796923, 0.796923)) == f"{words} to {words}"
    assert interval_words(metric, None) == value_words(metric, None) == "–"


@pytest.mark.parametrize("started", ["", "yesterday", "9999-99-99"])
def test_times_that_are_none(started: str) -> None:
    assert when(started) == (started or "–")


@pytest.mark.parametrize(
    ("status", "verdict", "words"),
    [
        ("success", "pass", "pass"), ("success", "", "–"), ("started", "", "not ended"),
        ("error", "", "error"), ("interrupted", "pass", "interrupted"),
    ],
)  # fmt: skip
def test_how_a_run_ended(status: str, verdict: str, words: str) -> None:
    assert outcome_words(Entry("f", status=status, verdict=verdict)) == words


def test_lists_are_narrow_and_tell_places() -> None:
    entry = Entry("20260101-tune-abc123", models=(("m" * 200, ""),), started="2026-01-01T00:00:00Z")
    with table_width(99):
        page = listing([Listed("host:/a/b", entry)], "table", Path("runs"), everywhere=True)
    assert all(len(line) < 100 for line in page.splitlines())
    assert "host:/a/b" in page
    assert "abc123" in page
    assert listing([], "table", Path("runs")) == "No runs in runs."
    assert listing([], "csv", Path("runs")).startswith("id,place,")


def test_a_run_that_failed(tmp_path: Path) -> None:
    folder = fake_run(
        tmp_path,
        n=20,
        status="error",
        error="no images\nGive --data",
        results={},
        warnings=["w\x1b"],
    )
    record = load_record(folder)
    page = run_page(folder, record, entry_of(record, folder.name), {"fp32_predictions": None})
    assert "compare, error" in page.splitlines()[0]
    assert "Error: no images" in page
    assert "missing" in page
    assert "- w�" in page
    assert "\x1b" not in page


def test_a_run_says_first_what_must_not_be_missed(tmp_path: Path) -> None:
    said = ["Ended by Ctrl-C: x.", "int8 does not pay\x1b: y.", 7]
    folder = fake_run(tmp_path, n=20, results={"said_first": said})
    record = load_record(folder)
    lines = run_page(folder, record, entry_of(record, folder.name), {}).splitlines()
    assert lines[3:5] == ["Ended by Ctrl-C: x.", "int8 does not pay\N{REPLACEMENT CHARACTER}: y."]


def test_nothing_changed(tmp_path: Path) -> None:
    record = load_record(fake_run(tmp_path, n=50))
    found = (changes(record, record), outcomes(record, record))
    page = diff_page(("a", "b"), *found, None, "of other images.")
    assert page.splitlines()[:2] == ["a → b", "Nothing that the records hold has changed."]
    assert page.endswith("The answers cannot be compared: of other images.")


def test_a_trend_marks_where_it_changed_and_why() -> None:
    each = series([0.8] * 3 + [0.7] * 3)
    page = trend_page("net", [each], {(each.points[2].folder, each.points[3].folder): "x"})
    lines = page.splitlines()
    assert lines[0].startswith("net: 6 runs. A change is marked")
    assert [i for i, line in enumerate(lines) if "← changed" in line] == [9]
    assert (
        "Changed at 000003: mean 80.00% → 70.00%, p below 0.0001. What changed with it: x." in page
    )
    unknown = trend_page("net", [each], {})
    assert "What changed with it" not in unknown


def test_other_conditions_are_said() -> None:
    page = trend_page("net", [series([0.8]), series([0.8], conditions="other")], {})
    assert "are series of their own" in page.splitlines()[0]
    assert "are series of their own" not in trend_page("net", [series([0.8])], {})


@pytest.mark.parametrize("form", ["png", "svg"])
def test_a_trend_is_drawn(form: str) -> None:
    every = [series([0.8] * 3 + [0.7] * 3), series([4.0], "latency")]
    figure = drawings.trend(every)
    assert len(figure.axes) == 2
    assert len(figure.axes[0].lines) > 1, "the change is marked"
    assert getattr(drawings, form)(figure)


@pytest.mark.parametrize(("metric", "shown"), METRICS.items())
def test_a_drawn_trend_has_the_metrics_unit(metric: str, shown: HistoryMetric) -> None:
    (ax,) = drawings.trend([series([0.5], metric)]).axes
    assert ax.get_ylabel() == shown.unit
    assert ax.lines[0].get_ydata()[0] == shown.scale * 0.5
    assert value_words(metric, 0.5).startswith(f"{shown.scale * 0.5:.{shown.decimals}f}")


def test_of_many_series_some_are_drawn() -> None:
    figure = drawings.trend([series([0.8], conditions=str(i)) for i in range(9)])
    assert len(figure.axes) == drawings.PANELS
    assert "5 more series are not drawn" in figure.axes[-1].get_xlabel()
