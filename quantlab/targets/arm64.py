"""arm64 CPUs in ONNX Runtime, which adds products in 32 bits."""

from __future__ import annotations

from quantlab.targets.numbers import activation_types, weight_types
from quantlab.targets.shared import FUSED, ONNXRUNTIME
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
    rules=(activation_types("u8", "s8"), weight_types("s8", "u8"), *FUSED),
    decides={"portable": False},
    allows={
        "activations": ("u8", "s8", "dynamic"),
        "weights": ("s8", "u8"),
        "bias": ("auto", "int32"),
        "fused_sums": (False,),
        "fused_activations": (False,),
    },
)
