"""A service with a history, for tests of its pages."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from holdings import add_dataset, add_model, ask, end
from pydantic import TypeAdapter

from quantlab.recipe import Recipe
from quantlab.runs.folders import read_entry
from quantlab.runs.index import Index
from quantlab.runs.record import load_record
from quantlab.serve.queue import Job
from quantlab.serve.requests import AnyRequest, Request
from quantlab.serve.service import Service
from quantlab.serve.worker import PLACE
from quantlab.testing.models import tiny_classifier
from quantlab.testing.runs import fake_run
from quantlab.tune.trials import Scores, Trial

_REQUEST: TypeAdapter[AnyRequest] = TypeAdapter(Request)
LONG = "efficientnet-lite0-from-the-vision-team-retrained-2026-11-candidate.v3.int8"
START = datetime(2026, 9, 1, 6, 30, tzinfo=UTC)


def keep_run(service: Service, folder: Path, **asked: Any) -> Job:
    """A job that was so asked and has left this run folder."""
    files = {
        f"runs/{folder.name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    service.submit(_REQUEST.validate_python({"data": "val", **asked}), "local")
    job = end(service, files, run=folder.name)
    with Index(service.settings.db_url, PLACE) as index:
        index.update([("1", read_entry(folder))], ())
    return job


def compared(service: Service, count: int, name: str = "tiny-int8") -> list[str]:
    """So many comparisons, a day apart, whose answers become worse in the middle."""
    models = {"fp32": "net", "int8": "net"}
    names = []
    for i in range(count):
        folder = fake_run(
            service.settings.home / "made",
            started=(START + timedelta(days=i)).isoformat(),
            name=name,
            n=400,
            flip_rate=(0.02 if i < count / 2 else 0.5) + 0.005 * (i % 3),
            ms=5.0 + 0.1 * (i % 3),
        )
        keep_run(service, folder, verb="compare", **models)
        names.append(folder.name)
    return names


ENDED = "Ended by the time budget of 20s: not tried: ort-qdq-mean."


def tuned(service: Service) -> str:
    """A tune with five trials, four of which have files; its run."""
    home = service.settings.home
    folder = fake_run(home / "made", started="2026-11-20T06:30:00+00:00")
    (folder / "models").mkdir()
    trials = [_trial(i, folder, home) for i in range(4)]
    failed = Trial(
        number=5,
        recipe=Recipe(name="broken", seed=9),
        status="failed",
        seconds=1,
        error="out of memory",
    )
    run = load_record(folder)
    run.verb, run.spec = "tune", {"model": "net.onnx"}
    run.results["said_first"] = [ENDED]
    run.results["trials"] = [t.model_dump(mode="json") for t in (*trials, failed)]
    run.results["output"] = {"path": "net.int8.onnx", "sha256": trials[1].sha256}
    (folder / "run.json").write_text(run.model_dump_json())
    (folder / "report.html").write_text("<!doctype html><title>r</title><h1>The report</h1>")
    keep_run(service, folder, verb="tune", model="net")
    return folder.name


def _trial(i: int, folder: Path, home: Path) -> Trial:
    content = tiny_classifier(home / "trial.onnx", seed=10 + i).read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / "models" / f"{sha256}.onnx").write_bytes(content)
    figures = Scores(
        meets=i != 3,
        excess=0.0,
        status="pass",
        images=200,
        top1=0.8 - 0.01 * i,
        decline=0.002 + 0.004 * i,
        agreement=0.97,
        kl=0.01 * (i + 1),
        speedup=(1.4, 2.05, 1.9, 2.2)[i],
        int8_macs=0.995,
    )
    return Trial(
        number=i + 1,
        recipe=Recipe(
            name=("qdq-plain", "qdq-mean", "qdq-entropy-and-more", "qoperator")[i], seed=i
        ),
        status="done",
        seconds=3.0,
        sha256=sha256,
        size_bytes=3_800_000 + 40_000 * i,
        proxy=0.5,
        scores=figures,
    )


def furnish(service: Service) -> str:
    """Models, datasets, runs, and jobs in all states; the tune's run."""
    add_model(service)
    add_dataset(service)
    compared(service, 9)
    run = tuned(service)
    ask(service)
    end(service, state="failed", exit_code=2, out="", error="the images of val cannot be read.")
    service.queue.cancel(ask(service).id)
    ask(service, verb="tune", max_decline="1%")
    running = service.queue.claim("w", "here")
    assert running is not None
    said = [("say", "Trial 1: qdq-plain"), ("warn", "12 images are in both.")]
    progress = {"label": "Evaluating", "total": 1300, "done": 812, "note": "top-1 79.1%"}
    service.queue.tell(running, said, progress)
    ask(service)
    return run
