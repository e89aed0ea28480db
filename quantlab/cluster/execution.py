"""An execution whose images other processes or machines may compute."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from quantlab.evaluate.execution import Execution

if TYPE_CHECKING:
    from quantlab.cluster.shards import Sharded


@dataclass(frozen=True)
class ShardedExecution(Execution):
    """``sharded`` has it computed elsewhere, shard by shard; None is here."""

    sharded: Sharded | None = field(default=None, compare=False)

    @property
    def portions(self) -> Execution:
        """The same without ``sharded``: what a worker is told."""
        return Execution(**{each.name: getattr(self, each.name) for each in fields(Execution)})
