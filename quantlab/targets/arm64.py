"""arm64 CPUs in ONNX Runtime, which adds products in 32 bits."""

from __future__ import annotations

from quantlab.targets.documents import ONNXRUNTIME
from quantlab.targets.numbers import (
    activation_types,
    activations_per_tensor,
    integer_bias,
    per_output_channel,
    symmetric_weights,
    weight_types,
)
from quantlab.targets.structure import quantized_outputs, same_scale_moves, whole_layers
from quantlab.targets.target import Document, Target

ARM64 = Target(
    name="arm64",
    summary="arm64 CPUs in ONNX Runtime: sums in 32 bits, any 8-bit weights are exact",
    documents=(
        ONNXRUNTIME,
        Document(
            "Arm: SDOT and UDOT, dot products of 8-bit integers in 32 bits",
            "https://developer.arm.com/documentation/ddi0602/latest/SIMD-FP-Instructions",
        ),
    ),
    proof="run",
    rules=(
        activation_types("u8", "s8"),
        weight_types("s8", "u8"),
        symmetric_weights,
        activations_per_tensor,
        per_output_channel,
        whole_layers,
        quantized_outputs,
        integer_bias,
        same_scale_moves,
    ),
    decides={"portable": False},
    allows={
        "activations": ("u8", "s8", "dynamic"),
        "weights": ("s8", "u8"),
        "bias": ("auto", "int32"),
        "fused_sums": (False,),
        "fused_activations": (False,),
    },
)
