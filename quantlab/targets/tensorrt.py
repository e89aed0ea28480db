"""NVIDIA GPUs in TensorRT: explicit quantization by QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from quantlab.targets.numbers import (
    activation_types,
    activations_per_tensor,
    channel_weights,
    float_bias,
    per_output_channel,
    symmetric_activations,
    symmetric_weights,
    weight_types,
)
from quantlab.targets.structure import (
    fused_sums,
    one_encoding,
    qdq_format,
    residual_inputs,
    standard_operators,
    whole_layers,
)
from quantlab.targets.target import Document, Target

TENSORRT = Target(
    name="tensorrt",
    summary="NVIDIA GPUs in TensorRT: symmetric s8, quantized residual inputs, the rest in floats",
    documents=(
        Document(
            "NVIDIA TensorRT: Working with Quantized Types",
            "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/"
            "work-quantized-types.html",
        ),
        Document(
            "NVIDIA TensorRT: Explicit Quantization",
            "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/"
            "quantized-types-explicit-quantization.html",
        ),
        Document(
            "NVIDIA: quantizers at residual connections",
            "https://docs.nvidia.com/deeplearning/tensorrt/tensorflow-quantization-toolkit/docs/"
            "docs/add_custom_qdq_cases.html",
        ),
        Document(
            "ONNX-TensorRT: Supported ONNX Operators",
            "https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md",
        ),
    ),
    proof="by rule",
    rules=(
        qdq_format,
        standard_operators,
        activation_types("s8"),
        symmetric_activations,
        activations_per_tensor,
        weight_types("s8"),
        symmetric_weights,
        channel_weights,
        per_output_channel,
        float_bias,
        whole_layers,
        residual_inputs,
        fused_sums,
        one_encoding,
    ),
    decides={
        "activations": "s8",
        "symmetric": True,
        "portable": False,
        "placement": "widest",
        "bias": "fp32",
        "operators": "standard",
        "fused_sums": True,
    },
    allows={
        "engine": ("quantlab",),
        "format": ("qdq",),
        "activations": ("s8",),
        "symmetric": (True,),
        "weights": ("s8",),
        "per_channel": (True,),
        "bias": ("fp32",),
        "operators": ("standard",),
        "fused_sums": (True,),
    },
)
