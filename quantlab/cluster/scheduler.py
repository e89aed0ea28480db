"""Dask's workers, by the address of their scheduler: ``distributed.Client.get_executor``.

The scheduler computes the shards of a lost worker elsewhere, and again if need be.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from quantlab.cluster.conditions import at_worker, check_alike, conditions
from quantlab.errors import ClusterError, MissingExtraError, WorkersLostError
from quantlab.model.ir import is_ir

R = TypeVar("R")
OPEN_SECONDS = 10.0
_LOOK_SECONDS = 2.0
"""So often it is asked who the workers are."""
_START = "docs/scale.md says how to start one."


class Scheduler:
    """An Executor. Content is shared as a task, so that workers pass it on to each other, and it
    can be had again when they are lost."""

    def __init__(self, client: Any) -> None:
        from distributed import KilledWorker

        self.losses: tuple[type[Exception], ...] = (KilledWorker,)
        self._client, self._here = client, conditions()
        self._pool = client.get_executor(pure=False)
        self._seen: dict[str, int] = {}
        self._looked = -_LOOK_SECONDS

    @property
    def workers(self) -> int:
        """The threads of all workers that there are now."""
        return sum(self._look().values())

    def _look(self) -> dict[str, int]:
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            with _plain_errors():
                self._seen, self._looked = self._client.nthreads(), now
        return self._seen

    def share(self, content: Path | bytes) -> Any:
        """A future of the bytes. Raises ClusterError for OpenVINO IR."""
        if isinstance(content, Path) and is_ir(content):
            raise ClusterError(
                f"{content} is OpenVINO IR, and only one file is sent to each worker.",
                "Use --executor process, or give the ONNX file that it was made of.",
            )
        data = content.read_bytes() if isinstance(content, Path) else content
        with _plain_errors():
            return self._client.submit(_itself, data, key=f"quantlab-content-{uuid.uuid4()}")

    def submit(self, function: Callable[..., R], /, *args: Any, near: int) -> Future[R]:
        """To one of the workers; another one with nothing to do may take it."""
        addresses = sorted(self._look())
        wish: dict[str, Any] = {}
        if addresses:
            chosen = addresses[near % len(addresses)]
            wish = {"workers": [chosen], "allow_other_workers": True}
        with _plain_errors():
            found: Future[R] = self._pool.submit(at_worker, self._here, function, *args, **wish)
        return found

    def renew(self) -> None:
        """The scheduler has done that often enough (``distributed.scheduler.allowed-failures``)."""
        raise WorkersLostError(dask_failures() + 1)

    def check(self) -> None:
        """Raises ClusterError when a worker is not as this process."""
        with _plain_errors():
            found = self._client.run(conditions, on_error="return")
        for address, facts in found.items():
            if isinstance(facts, BaseException):
                raise ClusterError(
                    f"the worker {address} cannot run quantlab: {facts}.",
                    "Install there what is installed here: pip install 'quantlab[cluster]'",
                ) from facts
            check_alike(self._here, facts)

    def stop(self) -> None:
        """Nothing that was submitted is waited for."""
        with suppress(Exception):
            self._pool.shutdown(wait=False)


@contextmanager
def scheduler(address: str) -> Iterator[Scheduler]:
    """The workers of the scheduler at ``tcp://HOST:PORT``. Raises MissingExtraError,
    ClusterError."""
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise MissingExtraError("distributed", "cluster", "--executor dask://HOST:PORT") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is an error here
    # A model goes through the scheduler once, on purpose.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "4GB"}):
        try:
            opened: Any = Client
            client = opened(address, timeout=OPEN_SECONDS, set_as_default=False, name="quantlab")
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {address.removeprefix('tcp://')}.", _START
            ) from error
        with client:
            made = Scheduler(client)
            made.check()
            try:
                yield made
            finally:
                made.stop()


def dask_failures() -> int:
    """How often Dask computes again what its worker was lost with."""
    import dask

    return int(dask.config.get("distributed.scheduler.allowed-failures"))


def _itself(content: bytes) -> bytes:
    return content


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What the client says when the scheduler is gone."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"the Dask scheduler does not answer any more: {error}.") from error
