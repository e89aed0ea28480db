"""x86 CPUs in ONNX Runtime: fast with VNNI, and the same answers without it."""

from __future__ import annotations

from quantlab.targets.numbers import activation_types, pair_sums, weight_types
from quantlab.targets.shared import FUSED, ONNXRUNTIME
from quantlab.targets.target import Document, Target

VNNI = (activation_types("u8"), weight_types("s8"), *FUSED)
"""What VPDPBUSD multiplies, in one kernel a layer."""
X86 = Target(
    name="x86",
    summary="x86 CPUs in ONNX Runtime: fast with VNNI, the same answers without it",
    documents=(
        ONNXRUNTIME,
        Document(
            "Intel 64 and IA-32 Architectures Software Developer's Manual: VPMADDUBSW",
            "https://www.intel.com/content/www/us/en/developer/articles/technical/intel-sdm.html",
        ),
    ),
    proof="run",
    rules=(*VNNI, pair_sums(across_positions=True)),
    decides={"portable": True},
    allows={
        "activations": ("u8", "dynamic"),
        "weights": ("s8",),
        "portable": (True,),
        "symmetric": (False,),
        "bias": ("auto", "int32"),
        "fused_sums": (False,),
        "fused_activations": (False,),
    },
)
