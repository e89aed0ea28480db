"""Cache of quantized files of quantlab's own engines, in the cache folder."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from quantlab._util.cache import side, touch
from quantlab._util.files import write_whole
from quantlab._util.source import source_digest
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import CROPS_FORMAT, decoder
from quantlab.errors import OutputError
from quantlab.model.model import Model
from quantlab.recipe import Recipe
from quantlab.runtime.environment import environment, versions

ENGINES = ("quantlab", "ort")
"""Those whose files depend on nothing but what the key holds."""


def file_key(model: Model, recipe: Recipe, images: CalibrationImages) -> str:
    """Changes whenever the file may: with the model, the recipe, each image and their order, the
    pipeline, quantlab's source, the libraries they use, and the CPU's instructions."""
    pipeline = images.crops.pipeline
    inputs = [images.crops.digests, pipeline.model_dump(mode="json"), CROPS_FORMAT]
    libraries = [versions(("numpy", "scipy", "onnx", "onnxruntime")), environment()["isa"]]
    facts = [model.sha256, model.input.layout, model.output_kind, recipe.model_dump(mode="json")]
    parts = [facts, inputs, decoder(pipeline), libraries, source_digest()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def recall(key: str, folder: Path) -> bytes | None:
    """The cached file, or None where ``folder`` holds no complete one."""
    path = folder / f"{key}.onnx"
    try:
        content = path.read_bytes()
        expected = json.loads(side(path).read_bytes())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if hashlib.sha256(content).hexdigest() != expected:
        return None
    touch(path)
    return content


def keep(content: bytes, key: str, subject: str, folder: Path) -> None:
    """Write the file to the cache. A folder that cannot be written is no error."""
    path = folder / f"{key}.onnx"
    facts = {"of": subject, "sha256": hashlib.sha256(content).hexdigest()}
    with suppress(OutputError):
        write_whole(side(path), json.dumps(facts))
        write_whole(path, content)
