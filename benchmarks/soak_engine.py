"""The soak's engine, of another package: cheap, and for some recipes it crashes, exits or hangs.

Which recipe meets which fault is a function of the recipe and the seed, so that a trial that a kill
cut short meets the same fault again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from quantlab.model.model import Model
from quantlab.quantize import Calibration
from quantlab.recipe import Recipe

FAULTS = {
    "SIGKILL": "crashed (SIGKILL)",
    "SIGSEGV": "crashed (SIGSEGV)",
    "os._exit(7)": "ended early with exit code 7",
    "exit()": "called exit(",
    "raise": "failed: ValueError",
    "None": "returned NoneType",
    "garbage": "made a broken file",
    "hang": "did not finish in",
}
"""What the engine does, and what the trial's error then says."""
SEED, SHARE, CALLS = "QUANTLAB_SOAK_SEED", "QUANTLAB_SOAK_SHARE", "QUANTLAB_SOAK_CALLS"
_HANGS = [sys.executable, "-c", "import time; time.sleep(3600)"]


def fault_of(digest: str, seed: int, share: float) -> str | None:
    """The fault that a recipe meets, or None."""
    rng = random.Random(f"{seed} {digest}")
    return rng.choice(list(FAULTS)) if rng.random() < share else None


class SoakEngine:
    """Weights to 8 bits, clipped at the recipe's percentile, a tensor or a channel at a time."""

    name = "soak"

    def quantize(
        self, model: Model, recipe: Recipe, calibration: Calibration
    ) -> onnx.ModelProto | None:
        """See Engine.quantize; None is one of the faults. Every call is a line in a file."""
        with Path(os.environ[CALLS]).open("a") as calls:
            calls.write(f"{recipe.digest}\n")
        fault = fault_of(recipe.digest, int(os.environ[SEED]), float(os.environ[SHARE]))
        if fault is not None:
            return _misbehave(fault)
        proto = model.proto()
        for node in [n for n in proto.graph.node if n.op_type in ("Conv", "Gemm")]:
            _quantize_weights(proto.graph, node, recipe)
        return proto


def _misbehave(fault: str) -> onnx.ModelProto | None:
    if fault.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[fault])
        time.sleep(60)
    elif fault == "os._exit(7)":
        os._exit(7)
    elif fault == "exit()":
        sys.exit()
    elif fault == "raise":
        raise ValueError("injected\nin two lines")
    elif fault == "garbage":
        return onnx.ModelProto(ir_version=8)
    elif fault == "hang":
        subprocess.run(_HANGS, check=False)
    return None


def _quantize_weights(graph: onnx.GraphProto, node: onnx.NodeProto, recipe: Recipe) -> None:
    name = node.input[1]
    stored = next(tensor for tensor in graph.initializer if tensor.name == name)
    weights = numpy_helper.to_array(stored)
    inner = tuple(range(1, weights.ndim)) if recipe.per_channel else None
    limit = np.percentile(
        np.abs(weights), recipe.percentile, axis=inner, keepdims=recipe.per_channel
    )
    scale = np.maximum(limit / 127, 1e-9).astype(np.float32)
    whole = np.clip(np.round(weights / scale), -127, 127).astype(np.int8)
    stored.CopyFrom(numpy_helper.from_array(whole, f"{name}.int8"))
    kept = scale.reshape(-1) if recipe.per_channel else scale.reshape(())
    graph.initializer.append(numpy_helper.from_array(kept, f"{name}.scale"))
    axis: dict[str, Any] = {"axis": 0} if recipe.per_channel else {}
    inputs = [f"{name}.int8", f"{name}.scale"]
    graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], **axis))
