from __future__ import annotations

from typing import Any

import pytest

from quantlab.recipe import Recipe
from quantlab.serve.web.pareto import HEIGHT, LEFT, WIDTH, chart, rows
from quantlab.tune.trials import Scores, Trial, pareto_front


def trial(number: int, decline: float | None, speedup: float | None, **changed: Any) -> Trial:
    found = Scores(
        meets=True, excess=0, status="pass", images=10, top1=None, decline=decline,
        agreement=0.9, kl=number / 100, speedup=speedup,
    )  # fmt: skip
    facts = {
        "number": number,
        "recipe": Recipe(seed=number),
        "status": "done",
        "seconds": 1.0,
        "sha256": f"{number:064}",
        "size_bytes": 1_000_000 * number,
        "scores": found,
    }
    return Trial(**{**facts, **changed})


TRIALS = [trial(1, 0.01, 2.0), trial(2, 0.03, 1.5), trial(3, 0.002, 1.2), trial(4, 0.02, 2.5)]


def test_faster_is_to_the_right_and_a_smaller_decline_is_lower() -> None:
    found = chart(TRIALS, TRIALS[0].sha256)
    assert found is not None
    at = {point.row.number: point for point in found.points}
    assert at[3].x < at[2].x < at[1].x < at[4].x
    assert at[3].y > at[1].y > at[4].y > at[2].y
    assert all(LEFT < point.x < WIDTH and 0 < point.y < HEIGHT for point in found.points)
    assert [n for n, point in at.items() if point.row.chosen] == [1]


def test_the_line_is_the_front_from_left_to_right() -> None:
    found = chart(TRIALS, None)
    assert found is not None
    front = {t.number for t in pareto_front(TRIALS)}
    assert {point.row.number for point in found.points if point.row.front} == front == {1, 3, 4}
    places = {f"{point.x},{point.y}" for point in found.points if point.row.front}
    assert set(found.line.split()) == places
    xs = [float(place.split(",")[0]) for place in found.line.split()]
    assert xs == sorted(xs)


def test_ticks_say_where_they_are() -> None:
    found = chart(TRIALS, None)
    assert found is not None
    at = {point.row.number: point for point in found.points}
    slope = (at[4].x - at[3].x) / (2.5 - 1.2)
    for tick in found.across:
        assert tick.at == pytest.approx(at[3].x + slope * (float(tick.text) - 1.2), abs=0.2)


def test_without_timing_size_is_across_and_without_labels_kl_is_up() -> None:
    found = chart([trial(1, None, None), trial(2, None, None)], None)
    assert found is not None
    assert (found.across_title, found.up_title) == ("size, MB", "KL to fp32, nats")


@pytest.mark.parametrize("count", [0, 1])
def test_one_point_is_no_chart(count: int) -> None:
    failed = trial(9, 0, 1, status="failed", scores=None, error="no")
    assert chart([*TRIALS[:count], failed], None) is None


def test_like_trials_can_be_drawn() -> None:
    found = chart([trial(1, 0.0, 1.0), trial(2, 0.0, 1.0)], None)
    assert found is not None
    assert len({(point.x, point.y) for point in found.points}) == 1


def test_two_kinds_of_kl_have_a_column_each() -> None:
    done = trial(1, 0.01, 2.0, proxy=0.5)
    scored = trial(2, None, None, status="scored", scores=None, proxy=0.25)
    found = [(row.calibration_kl, row.kl) for row in rows([done, scored], None)]
    assert found == [("0.5000", "0.0100"), ("0.2500", "–")]


def test_words() -> None:
    failed = trial(5, 0, 1, status="failed", scores=None, sha256=None, size_bytes=None, error="no")
    first, *_, last = rows([*TRIALS, failed], TRIALS[0].sha256)
    assert first.words == (
        "Trial 1: default, decline 1.00%, KL on evaluation images 0.0100, speed 2.00x, 1.00 MB, "
        "on the front, kept by the tune"
    )
    assert (last.note, last.sha256, last.front) == ("failed: no", "", False)
