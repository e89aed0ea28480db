from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantlab.bench import harness, schedule
from quantlab.bench.harness import bench, steps
from quantlab.bench.process import BenchProcess
from quantlab.errors import ModelError, QuantlabError
from quantlab.model.model import Model
from quantlab.runtime.environment import available_cpus
from quantlab.testing.models import tiny_classifier

QUICK: dict[str, Any] = {"rounds": 2, "turns": 3}


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "tiny.onnx", size=16))


@pytest.mark.parametrize("isolation", ["fresh", "shared"])
def test_two_models_at_two_batch_sizes(isolation: Any, tmp_path: Path, tiny: Model) -> None:
    path = tiny_classifier(tmp_path / "u8.onnx", layout="NHWC", dtype="uint8", softmax=True)
    told: list[tuple[int, str]] = []
    result = bench(
        [tiny, Model.load(path)],
        batch_sizes=(1, 3),
        progress=lambda *a: told.append(a),
        seed=5,
        isolation=isolation,
        **QUICK,
    )
    assert result.batch_sizes == (1, 3)
    assert [[m.model_name for m in row] for row in result.measurements] == [
        ["tiny", "tiny"],
        ["u8", "u8"],
    ]
    assert [m.model_sha256 for m in result.noise] == [tiny.sha256] * 2
    for measurement in (*result.measurements[0], *result.measurements[1], *result.noise):
        c = measurement.conditions
        assert (c.rounds, c.turns, c.threads, c.seed, c.isolation) == (2, 3, 1, 5, isolation)
        assert [len(part) for part in measurement.rounds] == [c.runs] * 2
        assert c.runs % 3 == 0
        assert c.warmup >= 1
        assert c.cpu
        assert c.providers == ("CPUExecutionProvider",)
        assert all(0 <= share <= 1 for share in c.steal)
        assert len(c.mhz) in (0, 2)
        assert measurement.samples.min() > 0
        assert measurement.session_ms > 0
        assert measurement.peak_rss_bytes
    assert result.noise[0].rounds != result.measurements[0][0].rounds
    assert told[-1][0] == steps(2, rounds=2) == 4


@pytest.mark.parametrize(("isolation", "processes"), [("fresh", 2 * 2), ("shared", 1 + 1)])
def test_processes_are_fresh_in_every_round_or_shared(
    isolation: Any, processes: int, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One model and its A′; shared ones need one more for the cost of a session alone."""
    seen: set[int] = set()
    ask = BenchProcess.ask

    def noticed(self: BenchProcess, do: str, **details: object) -> Any:
        seen.add(self._process.pid)
        return ask(self, do, **details)

    monkeypatch.setattr(BenchProcess, "ask", noticed)
    bench([tiny], isolation=isolation, **QUICK)
    assert len(seen) == processes


def test_rounds_end_as_soon_as_they_are_enough(tiny: Model) -> None:
    asked: list[tuple[int, int, int]] = []

    def enough(samples: Any, turns: int) -> bool:
        asked.append((len(samples), len(samples[0]), turns))
        return len(samples[0]) == 10

    result = bench([tiny, tiny], isolation="shared", rounds=20, turns=2, enough=enough)
    assert asked == [(3, rounds, 2) for rounds in (8, 9, 10)], "two models and the control"
    assert {m.conditions.rounds for (m,) in result.measurements} == {10}
    assert {len(m.rounds) for m in result.noise} == {10}


def test_without_costs_no_other_process_is_started(
    tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    start = BenchProcess.__init__

    def counted(self: BenchProcess, *args: Any) -> None:
        started.append(args)
        start(self, *args)

    monkeypatch.setattr(BenchProcess, "__init__", counted)
    result = bench([tiny, tiny], isolation="shared", costs=False, **QUICK)
    assert len(started) == 1
    assert {m.peak_rss_bytes for m in (*result.measurements[0], *result.noise)} == {None}


def test_the_model_file_is_not_touched(tiny: Model) -> None:
    bench([tiny], **QUICK)
    tiny.check_unchanged()


def test_a_fixed_batch_runs_at_that_size_only(tmp_path: Path) -> None:
    fixed = Model.load(tiny_classifier(tmp_path / "fixed.onnx", batch=2, size=16))
    assert bench([fixed], batch_sizes=(2,), **QUICK).batch_sizes == (2,)
    with pytest.raises(ModelError, match=r"fixed at 2, it cannot run at 1, 8\.") as caught:
        bench([fixed], batch_sizes=(8, 1, 2), **QUICK)
    assert "\n" not in caught.value.problem


def test_threads_beyond_the_machine_are_refused(tiny: Model) -> None:
    count = len(available_cpus())
    with pytest.raises(QuantlabError, match=f"this process may use {count} CPUs"):
        bench([tiny], threads=count + 1, **QUICK)


@pytest.mark.parametrize(
    "wrong", [{"batch_sizes": ()}, {"batch_sizes": (0,)}, {"rounds": 0}, {"rounds": 1}]
)
def test_nothing_to_measure(tiny: Model, wrong: dict[str, Any]) -> None:
    with pytest.raises(QuantlabError, match="at least"):
        bench([tiny], **(QUICK | wrong))
    with pytest.raises(QuantlabError, match="at least one model"):
        bench([], **QUICK)


def test_all_cores(tiny: Model) -> None:
    result = bench([tiny], threads=0, **QUICK)
    assert result.noise[0].conditions.threads >= 1


def test_out_of_time(tiny: Model) -> None:
    with pytest.raises(QuantlabError, match="did not finish in 0 s"):
        bench([tiny], timeout=0.2)


def test_rounds_follow_from_the_time(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "LEAST_ROUNDS", 3)
    conditions = bench([tiny], seconds=0.1).noise[0].conditions
    assert conditions.rounds == harness.plan([1.0], overhead=1.0, seconds=0.1).rounds == 3


@pytest.mark.data
def test_real_int8_is_faster(data_root: Path) -> None:
    models = [
        Model.load(data_root / "models" / f"mobilenetv2-12{kind}.onnx") for kind in ("", "-int8")
    ]
    fp32, int8 = (row[0] for row in bench(models, **QUICK).measurements)
    assert fp32.samples.min() > int8.samples.min()  # what the machine else does slows both
    assert int8.bytes < fp32.bytes
