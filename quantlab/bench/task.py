"""The task that a benchmark process gets. Standard library only, so that the process stays
small."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True)
class Subject:
    """A model file and its one input; ``shape`` is that of one image, without the batch."""

    path: str
    input_name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """The sessions of one process, and how they are made. ``cpus`` are the logical processors that
    it is pinned to, none for no pinning."""

    subjects: tuple[Subject, ...]
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
