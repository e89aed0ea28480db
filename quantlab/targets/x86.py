"""x86 CPUs in ONNX Runtime: fast with VNNI, and the same answers without it."""

from __future__ import annotations

from quantlab.targets.documents import ONNXRUNTIME
from quantlab.targets.numbers import (
    activation_types,
    activations_per_tensor,
    integer_bias,
    pair_sums,
    per_output_channel,
    symmetric_weights,
    weight_types,
)
from quantlab.targets.structure import quantized_outputs, same_scale_moves, whole_layers
from quantlab.targets.target import Document, Target

FUSED = (
    activation_types("u8"),
    weight_types("s8"),
    symmetric_weights,
    activations_per_tensor,
    per_output_channel,
    whole_layers,
    quantized_outputs,
    integer_bias,
    same_scale_moves,
)
"""What makes ONNX Runtime compute a layer with its fastest integer kernels on x86."""
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
    rules=(*FUSED, pair_sums(across_positions=True)),
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
