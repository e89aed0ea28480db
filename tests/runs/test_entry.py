"""What is read from records, whole, old, foreign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.bench.measurement import BenchResult
from quantlab.runs.entry import Entry, entry_of
from quantlab.runs.figures import Figure, figures_of, plain
from quantlab.runs.record import RunRecord, load_record
from quantlab.stats.paired import signed_rank, wilson
from quantlab.testing.runs import fake_run

STORED = Path(__file__).parents[1] / "stored" / "run-v1.json"


def record(results: dict[str, Any], **fields: Any) -> RunRecord:
    facts = {
        "id": "x",
        "verb": "v",
        "status": "success",
        "started": "2026",
        "command": "",
        **fields,
    }
    return RunRecord.model_validate({**facts, "results": results})


def by_metric(figures: tuple[Figure, ...], model: str) -> dict[str, Figure]:
    return {f.metric: f for f in figures if f.model == model}


def test_a_comparison(tmp_path: Path) -> None:
    folder = fake_run(tmp_path, ms=5.0)
    stored = load_record(folder)
    timing = BenchResult.load(folder / "measurements.json")
    found = entry_of(stored, folder.name, timing)
    assert [name for name, _ in found.models] == ["tiny", "tiny-int8"]
    assert (found.verb, found.model, found.folder) == ("compare", "tiny-int8", folder.name)
    comparison = stored.results["comparison"]
    assert found.verdict == stored.results["verdict"]["status"]
    assert found.top1 == comparison["int8"]["top1"]["value"]
    assert found.decline == comparison["top1"]["ratio"]
    mine = by_metric(found.figures, "tiny-int8")
    assert mine.keys() == {"top1", "top5", "agreement", "kl", "decline", "latency", "speedup"}
    top1 = comparison["int8"]["top1"]
    assert mine["top1"].interval is not None
    assert mine["top1"].interval.low == pytest.approx(wilson(top1["count"], 200).low)
    assert mine["latency"].value == pytest.approx(timing.measurements[1][0].p50)
    medians = [sorted(r)[4] / 2 + sorted(r)[5] / 2 for r in timing.measurements[1][0].rounds]
    assert mine["latency"].interval == signed_rank(np.array(medians))
    assert mine["latency"].series == "a CPU (avx512-vnni), batch 1, 1 thread"
    assert mine["speedup"].series.endswith("batch 1, 1 thread, beside tiny")
    assert mine["top1"].series.startswith("200 images ")
    assert by_metric(found.figures, "tiny").keys() == {"top1", "top5", "latency"}
    stored.results["comparison"]["macs"] = {"count": 9, "int8": 0.75, "fp32": []}
    mine = by_metric(entry_of(stored, folder.name, timing).figures, "tiny-int8")
    assert (mine["int8_macs"].value, mine["int8_macs"].series) == (0.75, "one image")


def test_without_measurements_latencies_have_no_interval_but_the_same_series(
    tmp_path: Path,
) -> None:
    folder = fake_run(tmp_path, ms=5.0)
    stored = load_record(folder)
    timing = BenchResult.load(folder / "measurements.json")
    with_times, without = (
        by_metric(figures_of(stored, t), "tiny-int8")["latency"] for t in (timing, None)
    )
    assert without.interval is None
    assert without.value == pytest.approx(with_times.value)
    assert without.series == with_times.series


def test_an_evaluation() -> None:
    share = {"count": 70, "n": 100, "value": 0.7, "interval": {"low": 0.6, "high": 0.8}}
    results = {
        "model": {"path": "models/net.onnx", "sha256": "a" * 64},
        "data": {"digest": "d" * 64, "images": 100},
        "pipeline": {"name": "tf"},
        "providers": ["OpenVINOExecutionProvider"],
        "accuracy": {"top1": share, "top5": None},
    }
    found = entry_of(record(results, environment={"int8_isa": "avx2"}), "f")
    (top1,) = found.figures
    assert (top1.model, top1.value, found.top1, found.verdict) == ("net", 0.7, 0.7, "")
    assert top1.series.startswith("100 images dddddddddddd, pipeline tf ")
    assert top1.series.endswith(", avx2, provider openvino")


def test_a_bench_counts_its_medians_of_one_instance() -> None:
    common = {"model": "net", "batch": 8, "threads": 2, "provider": "cpu", "unit": "ms"}
    figures = [
        {**common, "metric": "p50", "value": 4.0},
        {**common, "metric": "p99", "value": 9.0},
        {**common, "metric": "p50", "value": 5.0, "instances": 2},
        {**common, "metric": "p50", "value": 6.0, "rate": 50.0},
        {**common, "metric": "p50", "value": 7.0, "model": "net (A/A)"},
    ]
    results = {"models": [{"path": "net.onnx", "sha256": "a" * 64}], "figures": figures}
    found = entry_of(record(results, environment={"cpu": "Z80", "isa": "none"}), "f")
    (latency,) = found.figures
    assert (latency.metric, latency.value) == ("latency", 4.0)
    assert latency.series == "Z80 (none), batch 8, 2 threads"


def test_a_gates_decision_is_its_verdict() -> None:
    results = {"verdict": {"status": "pass"}, "gate": {"status": "fail", "judged": []}}
    assert entry_of(record(results), "f").verdict == "fail"


def test_a_run_that_failed_is_about_what_it_was_asked() -> None:
    spec = {"fp32": "a/fp32.onnx", "int8": "b/int8.onnx", "seed": 0}
    found = entry_of(record({}, status="error", spec=spec), "f")
    assert (found.model, found.status) == ("int8", "error")
    bench = entry_of(record({}, spec={"models": ["x.onnx", "y.onnx"]}), "f")
    assert bench.models == (("x", ""), ("y", ""))


def test_a_stored_record_of_version_1() -> None:
    found = entry_of(load_record(STORED), "f")
    assert (found.verb, found.verdict, found.model) == ("compare", "inconclusive", "int8")
    assert found.figures == ()


@pytest.mark.parametrize(
    "results",
    [
        {},
        {"model": "a name", "models": 3, "comparison": [], "accuracy": None, "figures": {}},
        {"models": [{"path": 3}], "verdict": {"status": None}, "gate": "no"},
        {"comparison": {"n": -1, "data_digest": "x", "fp32": {}, "int8": {}}},
    ],
)
def test_foreign_results_say_what_can_be_understood(results: dict[str, Any]) -> None:
    assert entry_of(record(results), "f") == Entry(
        "f", id="x", verb="v", status="success", started="2026"
    )


def test_numbers_that_are_none_give_no_figure(tmp_path: Path) -> None:
    stored = load_record(fake_run(tmp_path))
    stored.results["comparison"]["fidelity"]["kl"] = float("nan")
    assert figures_of(stored) == ()


def test_texts_are_printable_and_bounded() -> None:
    assert plain("a\0b\x1b[31m\ud800\n") == "a\ufffdb\ufffd[31m\ufffd\ufffd"
    assert len(plain("x" * 9999)) == 200
