"""Quantization: engines that turn a fp32 Model into a quantized one by a Recipe."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from quantlab.errors import RecipeError
from quantlab.quantize.protocol import Calibration, Engine

_ENGINES = {
    "quantlab": "quantlab.quantize.engine:QuantlabEngine",
    "ort": "quantlab.quantize.ort:OrtEngine",
}


def get_engine(name: str) -> Engine:
    """The engine of that name, imported now. Raises RecipeError for an unknown one."""
    if name not in _ENGINES:
        known = ", ".join(sorted(_ENGINES))
        raise RecipeError(f"no engine is called {name!r}.", f"Engines: {known}.")
    module, attribute = _ENGINES[name].split(":")
    factory: Callable[[], Engine] = getattr(import_module(module), attribute)
    return factory()


__all__ = ["Calibration", "Engine", "get_engine"]
