"""The sentence of a report about CPUs without VNNI."""

from __future__ import annotations

from quantlab.data.crops import Crops
from quantlab.errors import ModelError
from quantlab.model.model import Model
from quantlab.verbs.cached_results import remembered

REPORT_IMAGES = 8
"""Images on which a report's portability line is measured: about a second for MobileNetV2."""


def portability_words(int8: Model, crops: Crops) -> str:
    """Emulate CPUs without VNNI on some of these images; "" for a model without u8s8 layers,
    and for OpenVINO IR."""
    if not int8.is_quantized or int8.is_ir:
        return ""
    step = max(1, len(crops) // REPORT_IMAGES)
    rows = slice(0, step * REPORT_IMAGES, step)

    def line() -> str:
        from quantlab.inspect.portability import check_portability, portability_line

        try:
            found = check_portability(int8, [crops.inputs(rows, int8.input)])
        except ModelError:
            return ""
        return portability_line(found) if found.layers else ""

    return str(remembered("portability", (int8,), crops, rows, line))
