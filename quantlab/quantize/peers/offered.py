"""The engines that other packages offer by entry point, each model in a process of its own."""

from __future__ import annotations

import sys
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
from quantlab.quantize.peers.process import Peer, run_peer
from quantlab.quantize.protocol import Calibration, Engine
from quantlab.recipe import Recipe


class OfferedEngine:
    """Imports nothing by itself: the child finds the engine by its entry point."""

    def __init__(self, entry: EntryPoint) -> None:
        self.name = entry.name
        self._entry = entry

    def quantize(self, model: Model, recipe: Recipe, calibration: Calibration) -> onnx.ModelProto:
        """See Engine.quantize. Raises QuantizeError whatever the engine or its process does."""
        entry = self._entry
        owner = entry.dist.name if entry.dist is not None else entry.value
        options = {
            "entry": [entry.name, entry.value, entry.group],
            "path": [str(Path(path).resolve()) for path in sys.path],
            "name": model.name,
            "layout": model.layout,
            "output_kind": model.output_kind,
            "size": model.size,
            "recipe": recipe.model_dump(mode="json"),
            "images": len(calibration),
        }
        peer = Peer(f"offered:{self.name}", f"the engine {self.name} of {owner}", owner)
        return run_peer(peer, model.proto(), calibration, options, python=sys.executable).proto


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
    """In the child: the engine's model, and the seconds it took.

    ``path`` is a copy of the model, so that the engine cannot touch the user's. Raises TypeError
    when the engine gives something else than a model, and whatever the engine raises.
    """
    factory: Callable[[], Engine] = EntryPoint(*options["entry"]).load()
    engine = factory()
    model = Model.load(path).with_overrides(
        layout=options["layout"], output_kind=options["output_kind"], size=options["size"]
    )
    recipe, images = Recipe(**options["recipe"]), _Stored(options["images"], batches)
    start = time.perf_counter()
    proto = engine.quantize(replace(model, label=options["name"]), recipe, images)
    seconds = time.perf_counter() - start
    if not isinstance(proto, onnx.ModelProto):
        raise TypeError(f"quantize returned {type(proto).__name__}, not an onnx.ModelProto")
    check_loads(proto.SerializeToString(), f"the engine {recipe.engine}")
    return proto, seconds
