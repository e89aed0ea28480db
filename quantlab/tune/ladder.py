"""The ladder: the short list of recipes that tune tries, cheapest and most promising first.

Every rung is int8 at full speed: unsigned 8-bit activations and signed 8-bit per-channel weights,
the pair that x86 CPUs multiply fastest, with the classifier's output in fp32.
"""

from __future__ import annotations

from quantlab.recipe import Recipe


def ladder() -> tuple[Recipe, ...]:
    """The rungs, in the order they are tried."""
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
