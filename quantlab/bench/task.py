"""The task that a benchmark process gets. Standard library only, so that the process stays
small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class TimedModel:
    """A model file and its one input; ``shape`` is that of one image, without the batch.
    ``is_control``: it is A′, the first model once more. ``runtime`` is what runs it."""

    path: str
    input_name: str
    dtype: str
    shape: tuple[int, ...]
    is_control: bool = False
    runtime: str = "onnxruntime"


@dataclass(frozen=True)
class BenchTask:
    """The sessions of one process, and how they are made. ``cpus`` are the logical processors that
    it is pinned to, none for no pinning."""

    models: tuple[TimedModel, ...]
    threads: int
    cpus: tuple[int, ...]
    seed: int
    providers: tuple[str, ...]

    @property
    def control(self) -> int:
        """The session of A′."""
        return next(i for i, model in enumerate(self.models) if model.is_control)

    def of_models(self, found: Sequence[T]) -> tuple[T, ...]:
        """What was found of the models, without A′, of what was found of each session."""
        return tuple(
            one for one, model in zip(found, self.models, strict=True) if not model.is_control
        )

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What ``to_json`` wrote."""
        data = json.loads(text)
        models = tuple(TimedModel(**m | {"shape": tuple(m["shape"])}) for m in data["models"])
        lists = {k: tuple(v) for k, v in data.items() if isinstance(v, list)}
        return cls(**data | lists | {"models": models})
