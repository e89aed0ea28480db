from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantlab.bench import instances
from quantlab.bench.fleet import fleets
from quantlab.bench.instances import throughput
from quantlab.bench.throughput import ThroughputResult
from quantlab.errors import QuantlabError
from quantlab.model.model import Model
from quantlab.runtime.environment import available_cpus
from quantlab.testing.models import tiny_classifier

CPUS = len(available_cpus())


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "tiny.onnx", size=16))


@pytest.mark.skipif(CPUS < 2, reason="needs two CPUs")
def test_two_instances_on_cpus_of_their_own(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[Any] = []

    def noticed(task: Any, cpus: Any, *rest: Any) -> Any:
        pinned.append(cpus)
        return fleets(task, cpus, *rest)

    monkeypatch.setattr(instances, "fleets", noticed)
    monkeypatch.setattr(instances, "LEAST_SECONDS", 0.01)
    other = Model.load(tiny_classifier(tmp_path / "other.onnx", size=16, seed=1))
    told: list[int] = []
    result = throughput(
        [tiny, other],
        instances=2,
        cores=1,
        batch_sizes=(1, 2),
        rounds=2,
        seconds=0.1,
        progress=lambda done, note: told.append(done),
    )
    assert [len({cpu for own in cpus for cpu in own}) for cpus in pinned] == [2] * 4
    assert told == [1, 2, 3, 4]
    assert [[m.model_name for m in row] for row in result.measurements] == [
        ["tiny", "tiny"],
        ["other", "other"],
    ]
    for m in (*result.measurements[0], *result.measurements[1], *result.noise):
        assert (m.instances, m.conditions.threads, m.conditions.rounds) == (2, 1, 2)
        assert [[len(own) > 0 for own in part] for part in m.rounds] == [[True, True]] * 2
        assert m.images_per_second > 0
    result.save(tmp_path / "t.json")
    assert ThroughputResult.load(tmp_path / "t.json") == result


def test_more_cores_than_there_are_is_refused(tiny: Model) -> None:
    with pytest.raises(QuantlabError, match=f"may use {CPUS} CPUs") as caught:
        throughput([tiny], instances=CPUS, cores=2)
    assert f"{CPUS} instances of 2 cores each" in caught.value.problem or CPUS == 1
    assert caught.value.remedy
