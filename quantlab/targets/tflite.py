"""TensorFlow Lite's int8 rules, for whoever converts the file on."""

from __future__ import annotations

from quantlab.targets.numbers import (
    activation_types,
    channel_weights,
    integer_bias,
    output_encodings,
    symmetric_weights,
    weight_types,
    weights_within_127,
)
from quantlab.targets.shared import INTEGERS_ALONE
from quantlab.targets.structure import qdq_format, same_scale_joins, standard_operators
from quantlab.targets.target import Document, Target

TFLITE = Target(
    name="tflite",
    summary="TensorFlow Lite's int8 rules, for who converts on: s8, equal scales where asked",
    documents=(
        Document(
            "TensorFlow Lite 8-bit quantization specification",
            "https://www.tensorflow.org/lite/performance/quantization_spec",
        ),
    ),
    proof="by rule",
    rules=(
        qdq_format,
        standard_operators,
        activation_types("s8"),
        weight_types("s8"),
        symmetric_weights,
        weights_within_127,
        channel_weights,
        integer_bias,
        *INTEGERS_ALONE,
        same_scale_joins,
        output_encodings(
            {
                "s8": {
                    "Sigmoid": (1 / 256, -128),
                    "Softmax": (1 / 256, -128),
                    "LogSoftmax": (16 / 256, 127),
                    "Tanh": (1 / 128, 0),
                    "LpNormalization": (1 / 128, 0),
                }
            },
        ),
    ),
    decides={
        "activations": "s8",
        "portable": False,
        "placement": "widest",
        "bias": "int32",
        "operators": "standard",
        "shared_scales": True,
    },
    allows={
        "engine": ("quantlab",),
        "format": ("qdq",),
        "activations": ("s8",),
        "symmetric": (False,),
        "weights": ("s8",),
        "per_channel": (True,),
        "bias": ("int32",),
        "operators": ("standard",),
        "shared_scales": (True,),
        "fused_sums": (False,),
        "fused_activations": (False,),
        "placement": ("widest",),
    },
)
