"""The ladder: the short list of recipes that tune tries, cheapest and most promising first.

Every rung is int8 at full speed: unsigned 8-bit activations and signed 8-bit per-channel weights,
the pair that x86 CPUs multiply fastest, with the classifier's output in fp32.
"""

from __future__ import annotations

from quantlab.recipe import Recipe


def ladder() -> tuple[Recipe, ...]:
    """The rungs, in the order they are tried."""
    rungs = (
        {"name": "qdq-mean", "ranges": "mean"},
        {"name": "qoperator-mean", "format": "qoperator", "ranges": "mean"},
        {"name": "qdq-minmax", "ranges": "minmax"},
        {"name": "qdq-mean-portable", "ranges": "mean", "portable": True},
    )
    return tuple(Recipe(engine="ort").model_copy(update=rung) for rung in rungs)
