"""CPUs in OpenVINO."""

from __future__ import annotations

from quantlab.targets.numbers import (
    activation_types,
    pair_sums,
    per_output_channel,
    symmetric_weights,
    weight_types,
)
from quantlab.targets.structure import qdq_format, whole_layers
from quantlab.targets.target import Document, Target

OPENVINO = Target(
    name="openvino",
    summary="x86 CPUs in OpenVINO: everything in int8 that can be, the same answers without VNNI",
    documents=(
        Document(
            "OpenVINO: Low Precision Transformations",
            "https://docs.openvino.ai/latest/openvino_docs_OV_UG_lpt.html",
        ),
        Document(
            "OpenVINO: Low Precision IR (INT8 inference)",
            "https://docs.openvino.ai/2024/documentation/openvino-ir-format/"
            "intermediate-representation-int8-inference.html",
        ),
    ),
    proof="run",
    rules=(
        qdq_format,
        activation_types("u8", "s8"),
        weight_types("s8"),
        symmetric_weights,
        per_output_channel,
        whole_layers,
        pair_sums(across_positions=False),
    ),
    decides={
        "placement": "widest",
        "portable": True,
        "operators": "standard",
        "fused_activations": True,
    },
    allows={
        "format": ("qdq",),
        "activations": ("u8", "s8"),
        "weights": ("s8",),
        "portable": (True,),
    },
)
