"""NPUs of whatever make: every operator that can be quantized is."""

from __future__ import annotations

from quantlab.targets.shared import INTEGERS_ALONE
from quantlab.targets.structure import qdq_format, standard_operators
from quantlab.targets.target import Document, Target

WIDEST = Target(
    name="widest",
    summary="NPUs: every operator that can be quantized is, one scale and zero point a tensor",
    documents=(
        Document(
            "ONNX: QuantizeLinear and DequantizeLinear",
            "https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html",
        ),
    ),
    proof="by rule",
    rules=(qdq_format, standard_operators, *INTEGERS_ALONE),
    decides={"placement": "widest", "operators": "standard"},
    allows={
        "engine": ("quantlab",),
        "format": ("qdq",),
        "activations": ("u8", "s8", "u16", "s16"),
        "operators": ("standard",),
        "fused_sums": (False,),
        "fused_activations": (False,),
        "placement": ("widest",),
    },
)
