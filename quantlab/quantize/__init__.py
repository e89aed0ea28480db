"""Quantization: engines that turn a fp32 Model into a quantized one by a Recipe."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

from quantlab.errors import RecipeError, meant
from quantlab.quantize.protocol import Calibration, Engine

GROUP = "quantlab.engines"
"""The entry point group by which other packages offer engines: a name, and a callable without
arguments that returns an Engine."""
_ENGINES = {
    "quantlab": "quantlab.quantize.engine:QuantlabEngine",
    "ort": "quantlab.quantize.ort:OrtEngine",
    "inc": "quantlab.quantize.peers.inc:IncEngine",
    "nncf": "quantlab.quantize.peers.nncf:NncfEngine",
}


def engine_names() -> tuple[str, ...]:
    """quantlab's own engines, then those of other installed packages. Nothing is imported."""
    return (*_ENGINES, *sorted(set(entry_points(group=GROUP).names) - set(_ENGINES)))


def get_engine(name: str) -> Engine:
    """The engine of that name: one that quantlab brings, imported now, or another package's, which
    its own process will import. Raises RecipeError for an unknown one."""
    if name in _ENGINES:
        module, attribute = _ENGINES[name].split(":")
        factory: Callable[[], Engine] = getattr(import_module(module), attribute)
        return factory()
    for entry in entry_points(group=GROUP, name=name):
        from quantlab.quantize.peers.offered import OfferedEngine

        return OfferedEngine(entry)
    names = sorted(engine_names())
    hint = f"{meant(name, names)} Engines: {', '.join(names)}."
    raise RecipeError(f"no engine is called {name!r}.", hint.strip())


__all__ = ["GROUP", "Calibration", "Engine", "engine_names", "get_engine"]
