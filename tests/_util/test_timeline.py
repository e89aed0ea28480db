"""Timeline: steps in the order in which they began, side by side too."""

from __future__ import annotations

import threading

import pytest

from quantlab._util.timeline import TimedStep, Timeline


def test_steps_are_listed_in_the_order_in_which_they_began() -> None:
    ticks = iter((100.0, 101.0, 102.0, 104.0, 109.0))
    timeline = Timeline(clock=lambda: next(ticks))
    with timeline.step("outer"), timeline.step("inner"):
        pass
    assert timeline.steps == (TimedStep("outer", 1.0, 9.0), TimedStep("inner", 2.0, 4.0))


def test_a_step_that_raises_is_kept() -> None:
    timeline = Timeline()
    with pytest.raises(ValueError, match="boom"), timeline.step("fails"):
        raise ValueError("boom")
    assert [step.name for step in timeline.steps] == ["fails"]


def test_threads_add_steps_side_by_side() -> None:
    timeline, both = Timeline(), threading.Barrier(2, timeout=60)

    def work(name: str) -> None:
        with timeline.step(name):
            both.wait()

    other = threading.Thread(target=work, args=("other",))
    other.start()
    work("here")
    other.join()
    first, second = timeline.steps
    assert {first.name, second.name} == {"here", "other"}
    assert second.start <= first.end
