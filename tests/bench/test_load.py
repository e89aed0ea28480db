from __future__ import annotations

from pathlib import Path

import pytest

from quantlab.bench import load
from quantlab.bench.load import offered_load
from quantlab.bench.queueing import LoadResult
from quantlab.errors import QuantlabError
from quantlab.model.model import Model
from quantlab.runtime.environment import available_cpus
from quantlab.testing.models import tiny_classifier

INSTANCES = min(2, len(available_cpus()))


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "tiny.onnx", size=16))


@pytest.mark.parametrize("instances", sorted({1, INSTANCES}))
def test_every_request_is_served_once(
    instances: int, tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "LEAST_SECONDS", 0.2)
    monkeypatch.setattr(load, "LEAST_REQUESTS", 1)
    told: list[int] = []
    result = offered_load(
        [tiny],
        (50, 100),
        instances=instances,
        rounds=2,
        seconds=0.1,
        progress=lambda done, note: told.append(done),
    )
    assert told == [1, 2, 3, 4]
    (row,) = result.measurements
    for m, wanted in zip(row, (50, 100), strict=True):
        assert (m.rate, m.instances) == (wanted, instances)
        assert [(w.came, len(w.done)) for w in m.windows] == [(wanted // 5,) * 2] * 2
        assert all(len(set(w.due)) == len(w.due) for w in m.windows)
        assert m.latencies.min() > 0
        assert m.unserved == 0
    same = zip(row, result.noise, strict=True)
    assert all(sorted(a.windows[0].due) == sorted(b.windows[0].due) for a, b in same)
    result.save(tmp_path / "l.json")
    assert LoadResult.load(tmp_path / "l.json") == result


@pytest.mark.parametrize("rates", [(), (0,), (5, -1)])
def test_a_load_needs_a_rate(rates: tuple[float, ...], tiny: Model) -> None:
    with pytest.raises(QuantlabError, match="rate above 0"):
        offered_load([tiny], rates)
