"""Run work in threads, in order and a bounded number ahead: decoding, resizing, hashing and
inference release Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, cast

T = TypeVar("T")

_WINDOW = 4  # results in flight per worker: what bounds the memory


def default_workers() -> int:
    """The cores this process may use, at most 64."""
    if hasattr(os, "sched_getaffinity"):
        return min(64, len(os.sched_getaffinity(0)))
    return min(64, os.cpu_count() or 1)


def ordered_map(
    function: Callable[[int], T], count: int, workers: int | None = None
) -> Iterator[T]:
    """``function(0) … function(count - 1)`` in order, a few ahead of the consumer and no more."""
    workers = workers or default_workers()
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="quantlab-data") as pool:
        try:
            for index in range(count):
                pending.append(pool.submit(function, index))
                if len(pending) >= _WINDOW * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items in order, each made in a thread while its consumer works on the one before."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="quantlab-ahead") as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield cast("T", item)
