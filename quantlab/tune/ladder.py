"""The ladder: the short list of recipes that tune tries, best known first.

Every rung is int8 at full speed: unsigned 8-bit activations and signed 8-bit per-channel weights,
the pair that x86 CPUs multiply fastest, with the classifier's output in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence

from quantlab.recipe import Recipe


def ladder() -> tuple[Recipe, ...]:
    """The recipes of the list; the first is the start of other strategies."""
    return (
        Recipe(name="qdq"),
        Recipe(name="qoperator", format="qoperator"),
        Recipe(name="qdq-plain", equalize=False, rounding="nearest", range_search=False),
        Recipe(name="ort-qdq-mean", engine="ort"),
    )


DYNAMIC = Recipe(name="dynamic", activations="dynamic")
"""One more rung, for models whose work is matrix products."""


def ladder_of(engine: str) -> tuple[Recipe, ...]:
    """The recipes for one engine; quantlab's end with ONNX Runtime's own quantizer."""
    if engine == "quantlab":
        return ladder()
    return (
        Recipe(name=f"{engine}-qdq", engine=engine, ranges="minmax"),
        Recipe(name=f"{engine}-qoperator", engine=engine, ranges="minmax", format="qoperator"),
    )


def cheapest_first(rungs: Sequence[Recipe]) -> list[Recipe]:
    """The recipes sorted by the time to make them, so that there is a file soon; ONNX Runtime's
    last."""
    return sorted(rungs, key=lambda rung: (rung.engine == "ort", _corrections(rung)))


def _corrections(rung: Recipe) -> int:
    return sum((rung.equalize, rung.rounding == "output-error", rung.range_search))
