"""The ladder: the short list of recipes that tune tries, the best known first.

Every rung is int8 at full speed: unsigned 8-bit activations and signed 8-bit per-channel weights,
the pair that x86 CPUs multiply fastest, with the classifier's output in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence

from quantlab.recipe import Recipe


def ladder() -> tuple[Recipe, ...]:
    """The rungs; the first is the recipe that other strategies set out from."""
    return (
        Recipe(name="qdq"),
        Recipe(name="qoperator", format="qoperator"),
        Recipe(name="qdq-plain", equalize=False, rounding="nearest", range_search=False),
        Recipe(name="ort-qdq-mean", engine="ort"),
    )


def ladder_of(engine: str) -> tuple[Recipe, ...]:
    """The rungs of one engine; quantlab's ladder ends with ONNX Runtime's own quantizer."""
    if engine == "quantlab":
        return ladder()
    return (
        Recipe(name=f"{engine}-qdq", engine=engine, ranges="minmax"),
        Recipe(name=f"{engine}-qoperator", engine=engine, ranges="minmax", format="qoperator"),
    )


def cheapest_first(rungs: Sequence[Recipe]) -> list[Recipe]:
    """The rungs by what they cost to make, so that there is a file soon; ONNX Runtime's last."""
    return sorted(rungs, key=lambda rung: (rung.engine == "ort", _corrections(rung)))


def _corrections(rung: Recipe) -> int:
    return sum((rung.equalize, rung.rounding == "output-error", rung.range_search))
