"""Made-up run folders for tests: what ``quantlab compare`` would have left of made-up answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from quantlab.bench.measurement import BenchResult
from quantlab.compare.compare import compare
from quantlab.gate.criteria import AccuracyCriterion
from quantlab.gate.verdict import judge
from quantlab.runs.record import RunRecord
from quantlab.runs.run import Run
from quantlab.testing.measurements import fake_measurement
from quantlab.testing.predictions import fake_predictions
from quantlab.verbs.compare import answer_files, results
from quantlab.verbs.publish import write_artifacts

ENVIRONMENT = {
    "cpu": "a CPU",
    "isa": "avx512-vnni",
    "quantlab": "0.1.0",
    "onnxruntime": "1.31.1",
}


def fake_run(
    root: Path,
    *,
    started: str = "2026-01-01T00:00:00+00:00",
    name: str = "tiny-int8",
    n: int = 200,
    flip_rate: float = 0.02,
    seed: int = 0,
    ms: float | None = None,
    environment: dict[str, str] | None = None,
    **changed: Any,
) -> Path:
    """A run folder with the answers of ``fake_predictions`` and, with ``ms``, latencies: fp32 takes
    twice as long as int8. ``changed`` fields of the record are what they are set to."""
    pair = [
        fake_predictions(n, 10, 0.0, seed, name="tiny"),
        fake_predictions(n, 10, flip_rate, seed, name=name),
    ]
    run = Run("compare", {"fp32": "tiny.onnx", "int8": f"{name}.onnx", "seed": 0}, "", root)
    here = ENVIRONMENT | (environment or {})
    timing = None if ms is None else _timing([p.model_name for p in pair], ms, here)
    write_artifacts(run, answer_files(pair, timing))
    comparison = compare(
        *pair,
        fp32_speed=timing.measurements[0] if timing else None,
        int8_speed=timing.measurements[1] if timing else None,
        noise=timing.noise if timing else None,
    )
    record = run.record
    record.started = record.finished = started
    record.status = "success"
    record.command = f"quantlab compare tiny.onnx {name}.onnx"
    record.environment = here
    files = [{"path": f"{p.model_name}.onnx", "sha256": p.model_sha256} for p in pair]
    record.results = {
        "models": files,
        "data": {"root": "val", "digest": pair[0].dataset_digest, "images": n},
        "providers": ["CPUExecutionProvider"],
        **results(comparison, judge(comparison, AccuracyCriterion())),
    }
    run.record = RunRecord.model_validate(record.model_dump(mode="json") | changed)
    run.save()
    return run.folder


def _timing(names: list[str], ms: float, here: dict[str, str]) -> BenchResult:
    """The first takes twice as long."""
    every = []
    for name, times in zip(names, (2 * ms, ms), strict=True):
        made = fake_measurement(name, times)
        place = replace(made.conditions, cpu=here["cpu"], isa=here["isa"], isolation="fresh")
        every.append((replace(made, conditions=place),))
    return BenchResult(tuple(every), every[0])
