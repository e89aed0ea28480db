"""quantlab: post-training quantization and accuracy regression for ONNX image classifiers."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0.dev0"
"""The one place of the version: pyproject.toml reads it from here."""

_HOMES = {
    "Comparison": "quantlab.compare",
    "Dataset": "quantlab.data.dataset",
    "Measurement": "quantlab.bench.measurement",
    "Model": "quantlab.model",
    "Pipeline": "quantlab.data.preprocess",
    "Policy": "quantlab.gate",
    "Predictions": "quantlab.evaluate.predictions",
    "QuantlabError": "quantlab.errors",
    "Recipe": "quantlab.recipe",
    "Runner": "quantlab.runtime.runner",
    "Verdict": "quantlab.gate",
    "judge": "quantlab.gate",
    "load_record": "quantlab.record",
    "open_dataset": "quantlab.data.readers",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Public names are imported on first use, so that ``import quantlab`` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'quantlab' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
