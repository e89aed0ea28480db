"""What changed between two runs, and in which order it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantlab.runs.difference import ASPECTS, apart, cause, changes, outcomes
from quantlab.runs.record import RunRecord, load_record
from quantlab.stats.paired import Interval
from quantlab.testing.runs import fake_run


def tuned(**changed: Any) -> RunRecord:
    """A record that has something of every aspect."""
    results = {
        "model": {"path": "net.onnx", "sha256": "a" * 64},
        "output": {"path": "out.onnx", "sha256": "b" * 64},
        "data": {"digest": "d" * 64, "images": 100, "root": "val"},
        "calibration": {"digest": "c" * 64, "images": 10},
        "pipeline": {"name": "tf", "crop": 224},
        "recipe": {"ranges": "mean", "exclude": ["conv1"]},
        "providers": ["CPUExecutionProvider"],
    }
    environment = {"cpu": "Z80", "isa": "none", "onnxruntime": "1.0", "os": "CP/M"}
    facts = {"verb": "tune", "spec": {"seed": 0, "data": "val"}, "environment": environment}
    facts |= {"id": "x", "started": "", "command": "", "results": results}
    for path, value in changed.items():
        *parents, last = path.split("__")
        place: dict[str, Any] = facts
        for parent in parents:
            place = place[parent]
        place[last] = value
    return RunRecord.model_validate(facts)


CHANGED = {
    "images": {"results__data": {"digest": "e" * 64, "images": 100}},
    "preprocessing": {"results__pipeline": {"name": "tf", "crop": 192}},
    "model": {"results__output": {"path": "out.onnx", "sha256": "f" * 64}},
    "recipe": {"results__recipe": {"ranges": "minmax", "exclude": ["conv1"]}},
    "calibration": {"results__calibration": {"digest": "f" * 64, "images": 10}},
    "instructions": {"environment__isa": "avx2"},
    "runtime": {"results__model": {"path": "net.onnx", "sha256": "a" * 64, "runtime": "openvino"}},
    "provider": {"results__providers": ["CUDAExecutionProvider"]},
    "versions": {"environment__onnxruntime": "2.0"},
    "machine": {"environment__cpu": "6502"},
    "verb": {"verb": "compare"},
    "options": {"spec__seed": 1},
}


def test_the_same_twice() -> None:
    assert changes(tuned(), tuned()) == ()
    assert cause(()) == ""


@pytest.mark.parametrize("aspect", ASPECTS)
def test_each_aspect_is_seen_alone(aspect: str) -> None:
    (found,) = changes(tuned(), tuned(**CHANGED[aspect]))
    assert found.aspect == aspect
    assert found.old != found.new
    assert cause((found,)) == ASPECTS[aspect]


def test_likely_causes_come_first() -> None:
    everything = {k: v for change in reversed(CHANGED.values()) for k, v in change.items()}
    found = changes(tuned(), tuned(**everything))
    assert [change.aspect for change in found] == list(ASPECTS)
    assert cause(found) == "other images"


def test_what_a_change_was_and_is() -> None:
    (found,) = changes(tuned(), tuned(**CHANGED["recipe"]))
    assert (found.what, found.old, found.new) == ("ranges", "mean", "minmax")
    (found,) = changes(tuned(), tuned(**CHANGED["model"]))
    assert (found.what, found.old, found.new) == ("model", "b" * 16, "f" * 16)
    (found,) = changes(tuned(), tuned(results__model={"path": "net.onnx", "sha256": "e" * 64}))
    assert found.what == "beside"


def test_files_that_only_moved_have_not_changed() -> None:
    moved = {"path": "elsewhere/out.onnx", "sha256": "b" * 64}
    assert changes(tuned(), tuned(results__output=moved, spec__data="elsewhere")) == ()


def test_where_one_run_says_nothing_nothing_is_known_to_have_changed() -> None:
    assert changes(tuned(), tuned(results__recipe={}, results__calibration={})) == ()


def test_options_of_another_verb_are_compared_where_both_have_them() -> None:
    found = changes(tuned(spec__budget=300), tuned(verb="compare", spec__seed=1, spec__rounds=9))
    assert [(c.aspect, c.what) for c in found] == [("verb", "verb"), ("options", "seed")]


def test_records_of_runs_that_failed() -> None:
    assert [c.aspect for c in changes(tuned(), tuned(results={}))] == []


def test_figures_side_by_side(tmp_path: Path) -> None:
    old, new = (
        load_record(fake_run(tmp_path, flip_rate=rate, ms=ms))
        for rate, ms in ((0.02, 5.0), (0.3, None))
    )
    found = {each.metric: each for each in outcomes(old, new)}
    agreement = found["agreement"]
    assert agreement.old is not None
    assert agreement.new is not None
    assert agreement.old.value > agreement.new.value
    assert apart(agreement.old.interval, agreement.new.interval)
    assert found["latency batch 1"].new is None


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (Interval(0, 1), Interval(2, 3), True),
        (Interval(2, 3), Interval(0, 1), True),
        (Interval(0, 1), Interval(1, 2), False),
        (None, Interval(1, 2), False),
    ],
)
def test_apart(first: Interval | None, second: Interval | None, told: bool) -> None:
    assert apart(first, second) is told
