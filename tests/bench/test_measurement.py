from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantlab.bench.measurement import BenchResult, Conditions, Measurement
from quantlab.errors import RecordError

CONDITIONS = Conditions(threads=1, batch_size=4, rounds=2, runs=3, versions={"onnxruntime": "1"})
MADE = Measurement("m", "ab", 1000, ((1.0, 2.0, 3.0), (4.0, 10.0)), 5.0, None, CONDITIONS)


def test_statistics_are_of_all_runs() -> None:
    runs = [1.0, 2.0, 3.0, 4.0, 10.0]
    assert MADE.samples.tolist() == runs
    assert MADE.p50 == 3.0
    assert (MADE.p90, MADE.p99) == pytest.approx(np.percentile(runs, [90, 99]))
    assert (MADE.mean, MADE.std) == pytest.approx((4.0, np.std(runs, ddof=1)))
    assert MADE.images_per_second == pytest.approx(4 / 0.003)
    assert replace(MADE, rounds=((2.0,),)).std == 0.0


def test_no_runs_is_an_error() -> None:
    with pytest.raises(RecordError, match="no runs"):
        _ = replace(MADE, rounds=((),)).p50


def test_saved_and_loaded_are_the_same(tmp_path: Path) -> None:
    result = BenchResult(measurements=((MADE,), (MADE,)), noise=(MADE,))
    result.save(tmp_path / "bench.json")
    assert BenchResult.load(tmp_path / "bench.json") == result
    assert result.batch_sizes == (4,)


def test_damage_is_a_record_error(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    with pytest.raises(RecordError, match="cannot read"):
        BenchResult.load(path)
    path.write_text('{"measurements": [[{"model_name": 1}]]}')
    with pytest.raises(RecordError, match="not a stored measurement: measurements"):
        BenchResult.load(path)
    path.write_text("{")
    with pytest.raises(RecordError, match="not a stored measurement"):
        BenchResult.load(path)
