"""What a service holds, for tests: models, datasets, jobs that have ended and their runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from quantlab.runs.entry import entry_of
from quantlab.runs.index import Index
from quantlab.runs.record import RunRecord
from quantlab.serve.catalog import StoredModel
from quantlab.serve.queue import Job, JobOutcome
from quantlab.serve.requests import AnyRequest, Request
from quantlab.serve.service import Service
from quantlab.serve.worker import PLACE
from quantlab.testing.models import tiny_classifier

_REQUEST: TypeAdapter[AnyRequest] = TypeAdapter(Request)
RUN = "20261122T101500Z-evaluate-ab12cd"


def add_model(service: Service, name: str = "net", seed: int = 0) -> StoredModel:
    """A tiny model, in the store and in the catalog."""
    service.settings.home.mkdir(parents=True, exist_ok=True)
    path = tiny_classifier(service.settings.home / f"{name}.onnx", seed=seed)
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    service.objects.put(f"models/{sha256}", path)
    return service.catalog.add_model(sha256, name, len(content), {"opset": 13})


def add_dataset(service: Service, name: str = "val") -> None:
    """The name of a dataset, whose path nobody should see."""
    place = service.settings.home / "secret-place"
    place.mkdir(parents=True, exist_ok=True)
    facts = {"images": 12, "labelled": True, "digest": "d" * 64}
    service.catalog.add_dataset(name, place, None, None, facts)


def ask(service: Service, token: str = "local", key: str | None = None, **fields: Any) -> Job:
    """A job that waits."""
    facts = {"verb": "evaluate", "model": "net", "data": "val", **fields}
    return service.submit(_REQUEST.validate_python(facts), token, key)[0]


def end(service: Service, files: Mapping[str, bytes] = {}, **outcome: Any) -> Job:
    """The oldest job that waits, as a worker would end it."""
    job = service.queue.claim("w", "here")
    assert job is not None
    place = Path(service.settings.home) / "written"
    for name, content in files.items():
        place.write_bytes(content)
        service.objects.put(f"{job.folder}/{name}", place)
    sizes = {name: len(content) for name, content in files.items()}
    facts = {"state": "done", "exit_code": 0, "out": "Top-1 80%\n", "files": sizes, **outcome}
    return service.queue.finish(job, JobOutcome(**facts))


def leave_run(
    service: Service,
    run: str = RUN,
    results: Any = None,
    files: Mapping[str, bytes] = {},
) -> Job:
    """The oldest job that waits, ended with a run."""
    record = RunRecord(
        id=run,
        verb=run.split("-")[1],
        status="success",
        started=f"2026-11-{run[6:8]}T10:15:00+00:00",
        command="quantlab evaluate",
        results=results or accuracy(),
    )
    inside = {"run.json": json.dumps(record.model_dump()).encode(), **files}
    job = end(service, {f"runs/{run}/{name}": content for name, content in inside.items()}, run=run)
    with Index(service.settings.db_url, PLACE) as index:
        index.update([("1", entry_of(record, run))], ())
    return job


def accuracy(top1: float = 0.75, name: str = "net") -> dict[str, Any]:
    """The results of an evaluation."""
    ends = {"low": top1 - 0.2, "high": top1 + 0.2}
    share = {"n": 12, "count": round(12 * top1), "value": top1, "interval": ends}
    return {
        "model": {"path": f"{name}.onnx", "sha256": "a" * 64},
        "data": {"digest": "d" * 64, "images": 12},
        "pipeline": {"name": "torchvision"},
        "providers": ["CPUExecutionProvider"],
        "accuracy": {"top1": share, "top5": None},
    }
