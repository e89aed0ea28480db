"""NPUs of whatever make: every operator that can be quantized is."""

from __future__ import annotations

from quantlab.targets.numbers import activations_per_tensor, per_output_channel
from quantlab.targets.structure import (
    every_layer,
    no_gaps,
    one_encoding,
    qdq_format,
    quantized_outputs,
    same_scale_moves,
    standard_operators,
    whole_layers,
)
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
    rules=(
        qdq_format,
        standard_operators,
        activations_per_tensor,
        per_output_channel,
        every_layer,
        whole_layers,
        quantized_outputs,
        no_gaps,
        one_encoding,
        same_scale_moves,
    ),
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
