"""Series: what may be compared with what, and what is drawn of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from quantlab.runs.change_points import LEAST, change_points
from quantlab.runs.figures import Figure, RecordedFigure
from quantlab.runs.trend import foremost, trend
from quantlab.stats.paired import Interval, wilson, z_value


def runs(
    values: Sequence[float], metric: str = "top1", series: str = "val", month: int = 1
) -> list[RecordedFigure]:
    """A run a day."""
    return [
        RecordedFigure(
            "",
            f"{month}-{i}",
            f"2026-{month:02d}-{i + 1:02d}",
            Figure(metric, "net", "a", series, v, Interval(v - 0.01, v + 0.01)),
        )
        for i, v in enumerate(values)
    ]


def test_other_conditions_are_other_series_the_latest_first() -> None:
    measured = [
        *runs([0.7] * 3),
        *runs([0.6] * 2, series="other", month=2),
        *runs([4.0], "latency"),
    ]
    found = trend(measured, ("latency", "top1"))
    assert [(s.metric, s.conditions, len(s.points)) for s in found] == [
        ("latency", "val", 1),
        ("top1", "other", 2),
        ("top1", "val", 3),
    ]
    assert all(not s.changes for s in found)
    assert [s.metric for s in trend(measured, ("top1",))] == ["top1", "top1"]


def test_a_change_of_an_accuracy_is_told_from_its_intervals() -> None:
    (found,) = trend(reversed(runs([0.8, 0.8, 0.7, 0.7])))
    assert [p.value for p in found.points] == [0.8, 0.8, 0.7, 0.7]
    error = 0.01 / z_value()
    (change,) = found.changes
    (same,) = change_points([0.8, 0.8, 0.7, 0.7], [error] * 4)
    assert (change.index, change.p) == (2, pytest.approx(same.p))


def test_sampling_noise_is_no_change() -> None:
    rates = (wilson(count, 1000) for count in (700, 712, 695, 705))
    measured = [
        RecordedFigure(
            "", str(i), f"2026-01-0{i + 1}", Figure("top1", "n", "", "", r.low + 0.03, r)
        )
        for i, r in enumerate(rates)
    ]
    assert trend(measured)[0].changes == ()


def test_latencies_are_judged_by_how_they_scatter_not_by_their_intervals() -> None:
    apart = [4.0, 4.3, 3.9, 4.2, 4.1, 3.8, 4.4, 4.0]
    assert change_points(apart, [0.01] * 8)
    (found,) = trend(runs(apart, "latency"))
    assert (found.changes, found.note) == ((), "")
    (found,) = trend(runs([4.0, 4.1, 3.9, 4.05, 8.0, 8.1, 8.2, 7.9], "latency"))
    assert [c.index for c in found.changes] == [4]


@pytest.mark.parametrize(("metric", "least"), [("latency", LEAST), ("speedup", 2), ("kl", 2)])
def test_too_few_runs_are_said(metric: str, least: int) -> None:
    assert str(least) in trend(runs([4.0] * (least - 1), metric))[0].note
    assert trend(runs([4.0] * least, metric))[0].note == ""


def test_an_interval_without_width_is_no_known_variance() -> None:
    measured = [
        RecordedFigure("", str(i), str(i), Figure("kl", "n", "", "", v, Interval(v, v)))
        for i, v in enumerate([0.0, 0.0, 0.1])
    ]
    (found,) = trend(measured)
    assert found.changes == ()
    assert str(LEAST) in found.note


def test_one_run_counts_once() -> None:
    (found,) = trend([*runs([0.7, 0.8]), *runs([0.1, 0.2])])
    assert [p.value for p in found.points] == [0.7, 0.8]


def test_the_longest_series_of_every_metric_come_first() -> None:
    measured = [
        *runs([0.7] * 5, series="a"),
        *runs([0.7] * 4, series="b"),
        *runs([0.7] * 3, series="c"),
        *runs([4.0], "latency", series="d"),
    ]
    found = trend(measured)
    assert {s.conditions for s in foremost(found, 2)} == {"a", "d"}
    assert {s.conditions for s in foremost(found, 3)} == {"a", "b", "d"}
    assert foremost(found, 9) == list(found)
