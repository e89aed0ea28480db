"""Open the executor that a verb's options name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from quantlab._util.reporter import Reporter
from quantlab.cluster.executor import open_executor

if TYPE_CHECKING:
    from quantlab.cluster.shards import Sharded


@contextmanager
def sharded(executor: str, reporter: Reporter) -> Iterator[Sharded | None]:
    """The executor of that name at work until the block ends, and said; None for this process."""
    with open_executor(executor) as found:
        if found is None:
            yield None
            return
        from quantlab.cluster.shards import Sharded

        if found.workers:
            reporter.say(f"Work goes to {executor}: {found.workers} shards at a time.")
        else:
            reporter.warn(f"No worker has joined {executor}: work waits for one.")
        yield Sharded(found)
