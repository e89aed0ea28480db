"""The child's side of an engine that another package offers: finds it, and lets it quantize."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.model.model import Model
from quantlab.quantize.checks import check_loads
from quantlab.quantize.protocol import Engine
from quantlab.recipe import Recipe


@dataclass(frozen=True)
class _Stored:
    """Calibration images in a file."""

    count: int
    batches: Callable[[], Iterator[NDArray[np.generic]]]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        return self.batches()


def made(
    options: Mapping[str, Any], path: Path, batches: Callable[[], Iterator[NDArray[np.generic]]]
) -> tuple[onnx.ModelProto, float]:
    """The engine's model, and the seconds it took.

    ``path`` is a copy of the model, so that the engine cannot touch the user's. Raises TypeError
    when the engine gives something else than a model, and whatever the engine raises.
    """
    factory: Callable[[], Engine] = EntryPoint(*options["entry"]).load()
    engine = factory()
    model = Model.load(path).with_overrides(
        layout=options["layout"],
        output_kind=options["output_kind"],
        size=options["size"],
        output_name=options["output_name"],
    )
    recipe, images = Recipe(**options["recipe"]), _Stored(options["images"], batches)
    start = time.perf_counter()
    proto = engine.quantize(replace(model, label=options["name"]), recipe, images)
    seconds = time.perf_counter() - start
    if not isinstance(proto, onnx.ModelProto):
        raise TypeError(f"quantize returned {type(proto).__name__}, not an onnx.ModelProto")
    check_loads(proto.SerializeToString(), f"the engine {recipe.engine}")
    return proto, seconds
