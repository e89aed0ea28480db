"""What a benchmark process is asked to do. Standard library only: the process stays small."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal, Self


@dataclass(frozen=True)
class Subject:
    """A model file and its one input; ``shape`` is that of one image, without the batch."""

    path: str
    input_name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """``latency`` times all subjects interleaved; ``cost`` is for one subject alone in its process:
    the time its session takes to be made, and its peak memory.

    ``runs`` are made per round and session; None lets all rounds of a batch size together take
    about ``seconds``. ``cpus`` are the logical processors the process is pinned to.
    """

    kind: Literal["latency", "cost"]
    subjects: tuple[Subject, ...]
    batch_sizes: tuple[int, ...]
    rounds: int
    runs: int | None
    seconds: float
    warmup: int
    threads: int
    cpus: tuple[int, ...]
    seed: int
    providers: tuple[str, ...]
    optimization: str

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What ``to_json`` wrote."""
        data = json.loads(text)
        subjects = tuple(Subject(**s | {"shape": tuple(s["shape"])}) for s in data["subjects"])
        lists = {k: tuple(v) for k, v in data.items() if isinstance(v, list)}
        return cls(**data | lists | {"subjects": subjects})


def round_order(number: int, sessions: int) -> tuple[int, ...]:
    """The order of round ``number``: A B C, then C B A, and so on, so that slow drifts cancel."""
    order = range(sessions)
    return tuple(order if number % 2 == 0 else reversed(order))


def runs_per_round(
    medians_ms: list[float], rounds: int, seconds: float, *, least: int = 3, most: int = 200
) -> int:
    """So many runs of each session in a round that all rounds take about ``seconds``.

    ``medians_ms`` holds what one run of each session takes.
    """
    wanted = 1000 * seconds / rounds / max(sum(medians_ms), 1e-6)
    return max(least, min(most, round(wanted)))
