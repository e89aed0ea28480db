"""One quantization in a process of its own: ``python one_file.py FOLDER``.

FOLDER holds task.json and images.npy (crops, uint8 [n, 3, h, w]); quantized.onnx and answer.json
are written. Needs quantlab, which fidelity.py puts on the path.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops
from quantlab.data.preprocess import get_pipeline
from quantlab.errors import QuantlabError
from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.recipe import Recipe
from quantlab.runtime.environment import peak_rss_bytes

ENGINES = {
    "inc": ("quantlab.quantize.peers.inc", "IncEngine"),
    "nncf": ("quantlab.quantize.peers.nncf", "NncfEngine"),
}


def main() -> None:
    """Reads the task, quantizes, answers."""
    folder = Path(sys.argv[1])
    task = json.loads((folder / "task.json").read_text())
    try:
        answer = quantized(folder, task)
    except QuantlabError as error:
        answer = {"problem": error.problem}
    except Exception as error:
        answer = {"problem": f"{type(error).__name__}: {error}"}
    (folder / "answer.json").write_text(json.dumps(answer))


def quantized(folder: Path, task: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the model; seconds without imports, and the peak RSS of the process that worked."""
    pipeline = get_pipeline(task["pipeline"])
    model = Model.load(Path(task["model"])).with_overrides(size=pipeline.shape)
    calibration = CalibrationImages(_crops(folder / "images.npy", pipeline), model.input)
    recipe = Recipe(**task["recipe"])
    if task["peer"] in ENGINES:
        module, name = ENGINES[task["peer"]]
        engine = getattr(import_module(module), name)(**task["options"])
        outcome = engine.run(model, recipe, calibration)
        proto, seconds, peak = outcome.proto, outcome.seconds, outcome.peak_rss_bytes
    else:
        start = time.perf_counter()
        proto = get_engine(task["peer"]).quantize(model, recipe, calibration)
        seconds, peak = time.perf_counter() - start, peak_rss_bytes()
    onnx.save(proto, folder / "quantized.onnx")
    return {"seconds": seconds, "peak_rss_bytes": peak}


def _crops(path: Path, pipeline: Any) -> Crops:
    planes = np.load(path, mmap_mode="r")
    empty = tuple("" for _ in range(len(planes)))
    return Crops(planes, empty, None, empty, "", pipeline, ())


if __name__ == "__main__":
    main()
