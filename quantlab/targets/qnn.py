"""Qualcomm's NPUs through QNN (AI Engine Direct), the HTP backend."""

from __future__ import annotations

from quantlab.targets.numbers import (
    activation_types,
    integer_bias,
    output_encodings,
    symmetric_weights,
    weight_types,
)
from quantlab.targets.shared import INTEGERS_ALONE
from quantlab.targets.structure import qdq_format, standard_operators
from quantlab.targets.target import Document, Target

QNN = Target(
    name="qnn",
    summary="Qualcomm NPUs in QNN (HTP): u8 or u16 activations, every layer quantized",
    documents=(
        Document(
            "ONNX Runtime: QNN Execution Provider",
            "https://onnxruntime.ai/docs/execution-providers/QNN-ExecutionProvider.html",
        ),
        Document(
            "ONNX Runtime: quantization settings for QNN",
            "https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/python/tools/"
            "quantization/execution_providers/qnn/quant_config.py",
        ),
        Document(
            "Qualcomm AI Engine Direct: HTP operator definitions",
            "https://docs.qualcomm.com/doc/80-63442-10/topic/htp_opdef_version_history.html",
        ),
    ),
    proof="by rule",
    rules=(
        qdq_format,
        standard_operators,
        activation_types("u8", "u16"),
        weight_types("s8", "u8", "s4"),
        symmetric_weights,
        integer_bias,
        *INTEGERS_ALONE,
        output_encodings({"u16": {"Sigmoid": (1 / 65536, 0), "Tanh": (1 / 32768, 32768)}}),
    ),
    decides={
        "portable": False,
        "placement": "widest",
        "bias": "int32",
        "operators": "standard",
    },
    allows={
        "engine": ("quantlab",),
        "format": ("qdq",),
        "activations": ("u8", "u16"),
        "weights": ("s8", "u8", "s4"),
        "bias": ("int32",),
        "operators": ("standard",),
        "fused_sums": (False,),
        "fused_activations": (False,),
        "placement": ("widest",),
    },
)
