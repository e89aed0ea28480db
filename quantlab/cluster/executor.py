"""Executor: where shards are computed. The pools are ``concurrent.futures``' and Dask's.

A shard is a pure function of what it is given, so it may be computed anywhere, and again where a
worker was lost: the merged results are those of one machine, to the last bit.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar

from quantlab.errors import ClusterError, QuantlabError, WorkersLostError

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 4
"""Shards that each worker has waiting: none is idle while results travel."""
MAX_PROCESSES = 256
LOSSES = 3
"""So many times in a row workers may be lost without a result."""
INLINE = "inline"
_FORM = "It is inline, process, process:N or dask://HOST:PORT."


class Executor(Protocol):
    """Opened by ``open_executor``; see there. ``losses`` are the errors of shards whose workers
    were lost."""

    losses: tuple[type[Exception], ...]

    @property
    def workers(self) -> int:
        """How many shards are computed at a time, now; 0 where no worker has joined yet."""

    def share(self, content: Path | bytes) -> Any:
        """What a shard is given so that it gets this file or these bytes (as either)."""

    def submit(self, function: Callable[..., R], /, *args: Any, near: int) -> Future[R]:
        """Computes a shard. Those that are ``near`` the same number want the same worker."""

    def renew(self) -> None:
        """Makes ready to compute again what was lost. Raises ClusterError where that is in vain."""


def open_executor(text: str) -> AbstractContextManager[Executor | None]:
    """The executor that the text names, until the block ends; None for ``inline``.

    Raises QuantlabError for another text, MissingExtraError, ClusterError when nobody answers
    there."""
    kind, _, rest = parse_executor(text).partition(":")
    if kind == INLINE:
        return nullcontext()
    if kind == "process":
        from quantlab.cluster.processes import processes

        return processes(int(rest or 0))
    from quantlab.cluster.scheduler import scheduler

    return scheduler(f"tcp:{rest}")


def parse_executor(text: str) -> str:
    """The text, if it names an executor. Raises QuantlabError."""
    form = r"inline|process(:[1-9][0-9]{0,3})?|dask://(\[[0-9A-Fa-f:.]+\]|[\w.-]+):[0-9]{1,5}"
    if re.fullmatch(form, text) is None:
        raise QuantlabError(f"{text!r} is no executor.", _FORM)
    if text.startswith("process:") and int(text.partition(":")[2]) > MAX_PROCESSES:
        raise QuantlabError(f"{text} asks for more than {MAX_PROCESSES} processes.", _FORM)
    return text


def in_order(
    executor: Executor, function: Callable[..., R], tasks: Sequence[tuple[Any, ...]]
) -> Iterator[R]:
    """``function(*task)`` of each task in their order, AHEAD a worker under way.

    What was lost with its worker is computed again. When the consumer leaves, what has not begun is
    given up. Raises what the function raises; ClusterError when workers are lost again and again.
    """
    waiting, losses, started = deque[Future[R]](), 0, 0
    try:
        for number in range(len(tasks)):
            while started < len(tasks) and len(waiting) < AHEAD * max(1, executor.workers):
                waiting.append(executor.submit(function, *tasks[started], near=started))
                started += 1
            while (result := _result(waiting[0], executor.losses)) is _LOST:
                losses += 1
                if losses > LOSSES:
                    raise WorkersLostError(losses)
                executor.renew()
                for i in range(len(waiting)):
                    if not waiting[i].done() or waiting[i].exception() is not None:
                        again = tasks[number + i]
                        waiting[i] = executor.submit(function, *again, near=number + i)
            losses = 0
            waiting.popleft()
            yield result
    finally:
        for future in waiting:
            future.cancel()


_LOST: Any = object()


def _result(future: Future[R], losses: tuple[type[Exception], ...]) -> R:
    """The result, or _LOST where the worker was."""
    try:
        return future.result()
    except losses:
        return _LOST  # type: ignore[no-any-return]
    except CancelledError as error:
        raise ClusterError(
            "the scheduler went away, or gave this work up.", "Start it, and run again."
        ) from error
