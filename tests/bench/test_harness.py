from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantlab.bench.harness import bench, steps
from quantlab.errors import ModelError, QuantlabError
from quantlab.model import Model
from quantlab.runtime.environment import available_cpus
from quantlab.testing.models import tiny_classifier

QUICK: dict[str, Any] = {"rounds": 4, "runs": 3, "warmup": 2}


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "tiny.onnx", size=16))


def test_two_models_at_two_batch_sizes(tmp_path: Path, tiny: Model) -> None:
    path = tiny_classifier(tmp_path / "u8.onnx", layout="NHWC", dtype="uint8", softmax=True)
    told: list[tuple[int, str]] = []
    other = Model.load(path)
    result = bench(
        [tiny, other], batch_sizes=(1, 3), progress=lambda *a: told.append(a), seed=5, **QUICK
    )
    assert result.batch_sizes == (1, 3)
    assert [[m.model_name for m in row] for row in result.measurements] == [
        ["tiny", "tiny"],
        ["u8", "u8"],
    ]
    assert [m.model_sha256 for m in result.noise] == [tiny.sha256] * 2
    for measurement in (*result.measurements[0], *result.measurements[1], *result.noise):
        assert [len(part) for part in measurement.rounds] == [3] * 4
        assert measurement.samples.min() > 0
        assert measurement.session_ms > 0
        assert measurement.peak_rss_bytes
        assert measurement.conditions.threads == 1
        assert measurement.conditions.seed == 5
        assert measurement.conditions.cpu
    assert result.noise[0].rounds != result.measurements[0][0].rounds
    assert told[-1][0] == steps(2, 2, rounds=4)


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


@pytest.mark.parametrize("wrong", [{"batch_sizes": ()}, {"batch_sizes": (0,)}, {"rounds": 0}])
def test_nothing_to_measure(tiny: Model, wrong: dict[str, Any]) -> None:
    with pytest.raises(QuantlabError, match="at least"):
        bench([tiny], **(QUICK | wrong))
    with pytest.raises(QuantlabError, match="at least one model"):
        bench([], **QUICK)


def test_all_cores(tiny: Model) -> None:
    result = bench([tiny], threads=0, **QUICK)
    assert result.noise[0].conditions.threads >= 1


@pytest.mark.data
def test_real_int8_is_faster(data_root: Path) -> None:
    models = [
        Model.load(data_root / "models" / f"mobilenetv2-12{kind}.onnx") for kind in ("", "-int8")
    ]
    fp32, int8 = (row[0] for row in bench(models, rounds=6, runs=4).measurements)
    assert fp32.p50 > int8.p50
    assert int8.bytes < fp32.bytes
