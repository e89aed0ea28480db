"""A service with something to do and a worker that does it, for tests."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import TypeAdapter
from waiting import until

from quantlab.serve.catalog import StoredModel
from quantlab.serve.datasets import add_dataset
from quantlab.serve.queue import Job
from quantlab.serve.requests import AnyRequest, Request
from quantlab.serve.service import Service
from quantlab.serve.worker import Worker
from quantlab.testing.images import image_folder
from quantlab.testing.models import taught, tiny_classifier

_REQUEST: TypeAdapter[AnyRequest] = TypeAdapter(Request)
CLASSES = 4


def equip(service: Service, images: Path, per_class: int = 3) -> None:
    """The model ``net``, and images as the dataset ``val``."""
    service.settings.home.mkdir(parents=True, exist_ok=True)
    upload(service, net(service.settings.home / "net.onnx"))
    add_dataset(service.catalog, "val", image_folder(images, CLASSES, per_class))


def net(path: Path) -> Path:
    """The model ``net``, which tells its classes apart: one that guesses is judged by nobody."""
    with TemporaryDirectory() as lesson:
        images = image_folder(Path(lesson), CLASSES, 3)
        return taught(tiny_classifier(path, classes=CLASSES), images, "torchvision")


def upload(service: Service, file: Path, name: str = "") -> StoredModel:
    """A file, in the store and in the catalog, unchecked."""
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    service.objects.put(f"models/{sha256}", file)
    return service.catalog.add_model(sha256, name or file.stem, file.stat().st_size, {})


def ask(service: Service, verb: str, key: str | None = None, **fields: Any) -> Job:
    """A job that waits: of ``net`` on ``val`` where nothing else is said."""
    fields = {"data": "val", **fields} if verb != "bench" else fields
    if not fields.keys() & {"models", "fp32"}:
        fields = {"model": "net", **fields}
    return service.submit(_REQUEST.validate_python({"verb": verb, **fields}), "token", key)[0]


@contextmanager
def working(service: Service) -> Iterator[Worker]:
    """A worker in a thread, until the block ends."""
    worker = Worker(service)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop.set()
        thread.join()


def await_end(service: Service, *jobs: Job) -> list[Job]:
    """The jobs as they are when all have ended."""

    def now() -> list[Job]:
        return [service.queue.get(job.id) for job in jobs]

    until(lambda: all(job.ended for job in now()), now)
    return now()


def await_word(service: Service, job: Job, word: str) -> None:
    """Until the job says this."""

    def look() -> bool:
        now = service.queue.get(job.id)
        found = word in said(service, job)
        assert found or not now.ended, now
        return found

    until(look, lambda: said(service, job))


def said(service: Service, job: Job) -> str:
    """All that the job has said."""
    return "\n".join(event.text for event in service.queue.events(job.id))


def file_of(service: Service, job: Job, name: str) -> bytes:
    """A result."""
    with service.objects.open(f"{job.folder}/{name}") as file:
        return file.read()
