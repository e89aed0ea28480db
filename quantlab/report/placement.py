"""Say which parts of a model were left in fp32 because int8 is slower there."""

from __future__ import annotations

from quantlab.quantize.placement import Placement
from quantlab.recipe import Placing
from quantlab.report.formats import times

REGIONS_NAMED = 3
LEAST_SHARE = 0.05
"""Predictions are not surer than this."""


def slower_in_int8(microseconds: float) -> str:
    """The reason why a layer is in fp32."""
    return f"slower in int8 by {microseconds:.0f} µs"


def placement_sentence(placement: Placement) -> str:
    """The regions left in fp32, the costliest first; "" where there is none."""
    if not placement.regions:
        return ""
    ordered = sorted(placement.regions, key=lambda region: -region.slower)
    named = [
        f"{_layers(region.layers)} ({slower_in_int8(region.slower)})"
        for region in ordered[:REGIONS_NAMED]
    ]
    if rest := ordered[REGIONS_NAMED:]:
        layers = sum(len(region.layers) for region in rest)
        microseconds = sum(region.slower for region in rest)
        named.append(f"and {layers} more layers elsewhere ({microseconds:.0f} µs)")
    return f"Left in fp32: {', '.join(named)}. placement: widest puts all of it in int8."


def _layers(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} layers from {names[0]} to {names[-1]}"


def nothing_in_int8(placement: Placement) -> str:
    """The warning about a model that is fastest in fp32."""
    return (
        f"nothing is in int8, because int8 is slower in all of this model: "
        f"{placement.widest / 1000:.2f} ms an image against {placement.fp32 / 1000:.2f} ms in fp32 "
        f"are predicted. placement: widest in the recipe makes an int8 file all the same."
    )


def predicted_slower(placement: Placement, placing: Placing) -> str:
    """The warning about a file that is predicted to be slower than fp32, "" for others; ``placing``
    is what its recipe wanted."""
    if placement.speedup >= 1 - LEAST_SHARE:
        return ""
    remedy = (
        "placement: fastest in the recipe leaves in fp32 what is faster there."
        if placing == "widest"
        else "The model is too small for int8 to gain what counts: keep it in fp32."
    )
    return (
        f"predicted {times(1 / placement.speedup)} slower than fp32, by the costs of operators: "
        f"{placement.placed / 1000:.3g} ms a run against {placement.fp32 / 1000:.3g} ms. {remedy}"
    )
