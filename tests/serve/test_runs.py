from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "web"))

from holdings import add_dataset, add_model
from seeds import compared, tuned

from quantlab.errors import RecordError
from quantlab.runs.index import Filter
from quantlab.runs.record import RunRecord
from quantlab.serve.db import UnavailableError
from quantlab.serve.queue import NotFoundError
from quantlab.serve.runs import Runs, picked_name
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.tune.trials import Trial


@pytest.fixture(params=["folder", "elsewhere"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """One whose store is on this machine's disk, and one whose store is not."""
    store = None if request.param == "folder" else f"memory://{secrets.token_hex(8)}"
    with Service.open(Settings(home=tmp_path / "home", store=store, machine="here")) as opened:
        add_model(opened)
        add_dataset(opened)
        yield opened


@pytest.fixture
def runs(service: Service) -> Iterator[Runs]:
    with Runs(service) as opened:
        yield opened


def test_a_run_and_its_files(service: Service, runs: Runs) -> None:
    *_, name = compared(service, 2)
    found = runs.get(name)
    assert (found.name, found.record.id) == (name, name)
    assert {f.metric for f in found.entry.figures} >= {"top1", "latency", "speedup"}
    assert found.files.keys() == set(found.record.artifacts.values()) | {"run.json"}
    assert all(service.objects.has(found.key(path)) for path in found.files)
    with pytest.raises(NotFoundError):
        runs.get("gone")


def test_the_list_goes_on_where_it_ended(service: Service, runs: Runs) -> None:
    names = compared(service, 5)
    seen, after = [], None
    while part := runs.entries(Filter(limit=2, after=after)):
        seen += [entry.folder for entry in part]
        after = part[-1].folder
    assert seen == names[::-1]
    assert runs.entries(Filter(after="gone")) == []


def test_runs_begun_in_the_same_second_are_listed_once(service: Service, runs: Runs) -> None:
    compared(service, 3)
    compared(service, 3)  # at the same times
    seen, after = [], None
    while part := runs.entries(Filter(limit=1, after=after)):
        seen += [entry.folder for entry in part]
        after = seen[-1]
    assert len(seen) == len(set(seen)) == 6


def test_two_runs_are_compared_image_by_image(service: Service, runs: Runs) -> None:
    names = compared(service, 4)
    found = runs.different(names[0], names[-1])
    assert found.comparison is not None
    assert found.comparison.n == 400
    assert {change.aspect for change in found.changes} == {"model"}


def test_a_trend_knows_what_changed(service: Service, runs: Runs) -> None:
    names = compared(service, 9)
    found = runs.trended("tiny-int8", ["agreement"])
    (series,) = found.series
    (change,) = series.changes
    pair = series.points[change.index - 1].folder, series.points[change.index].folder
    assert pair == (names[4], names[5])
    assert found.causes == {pair: "another model file"}
    assert runs.models() == ["tiny", "tiny-int8"]
    for model, metric in (("gone", "top1"), ("tiny", "speedup")):
        with pytest.raises(NotFoundError):
            runs.trended(model, [metric])


def test_a_trials_file_becomes_a_model(service: Service, runs: Runs) -> None:
    run = tuned(service)
    trial, *others = runs.trials(run)
    model = runs.pick(run, trial.digest)
    assert (model.sha256, model.name) == (trial.sha256, f"net.qdq-plain.{trial.digest[:6]}.int8")
    assert model.facts["input_shape"]
    assert service.objects.has(model.key)
    assert runs.pick(run, trial.digest) == model
    with pytest.raises(NotFoundError):
        runs.pick(run, others[-1].digest)  # it failed: there is no file


def test_a_file_that_is_another_one_is_not_picked(
    service: Service, runs: Runs, tmp_path: Path
) -> None:
    run = tuned(service)
    trial = runs.trials(run)[0]
    (tmp_path / "other").write_bytes(b"other")
    key = runs.get(run).key(f"models/{trial.sha256}.onnx")
    service.objects.put(key, tmp_path / "other")
    with pytest.raises(RecordError, match="damaged"):
        runs.pick(run, trial.digest)
    assert trial.sha256 not in service.catalog.known([str(trial.sha256)])


def test_a_known_model_keeps_its_name(service: Service, runs: Runs) -> None:
    run = tuned(service)
    trial = runs.trials(run)[1]
    service.catalog.add_model(str(trial.sha256), "net.int8", 1, {})
    assert runs.pick(run, trial.digest).name == "net.int8"


@pytest.mark.parametrize(
    ("model", "recipe", "name"),
    [
        ("a/b/net.onnx", "mean", "net.mean.D.int8"),
        ("net.onnx", "mean / minmax", "net.mean---minmax.D.int8"),
        ("é.onnx", "mean", "trial.D.int8"),
        ("n" * 90, "mean", "trial.D.int8"),
    ],
)
def test_names_of_picked_files(model: str, recipe: str, name: str) -> None:
    trial = Trial.model_validate(
        {"number": 1, "recipe": {"name": recipe}, "status": "scored", "seconds": 1}
    )
    record = RunRecord(id="r", verb="tune", started="", command="", spec={"model": model})
    found = picked_name(record, trial)
    assert found == name.replace("D", trial.digest[: 12 if name.startswith("trial") else 6])


def test_a_database_that_is_away_is_said(
    service: Service, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise RecordError("the index cannot be used: locked.")

    monkeypatch.setattr(runs._index, "entries", away)
    with pytest.raises(UnavailableError, match="locked"):
        runs.entries(Filter())
