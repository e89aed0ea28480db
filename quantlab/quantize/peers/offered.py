"""The engines that other packages offer by entry point, each model in a process of its own."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import onnx

from quantlab.model.model import Model
from quantlab.quantize.peers.process import Peer, run_peer
from quantlab.quantize.protocol import Calibration
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
            "output_name": model.output_name,
            "recipe": recipe.model_dump(mode="json"),
            "images": len(calibration),
        }
        peer = Peer(f"offered:{self.name}", f"the engine {self.name} of {owner}", owner)
        return run_peer(peer, model.proto(), calibration, options, python=sys.executable).proto
