"""What several targets share."""

from __future__ import annotations

from quantlab.targets.numbers import (
    activations_per_tensor,
    integer_bias,
    per_output_channel,
    symmetric_weights,
)
from quantlab.targets.structure import (
    every_layer,
    no_gaps,
    one_encoding,
    quantized_outputs,
    same_scale_moves,
    whole_layers,
)
from quantlab.targets.target import Document

ONNXRUNTIME = Document(
    "ONNX Runtime: Quantize ONNX models",
    "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html",
)
FUSED = (
    symmetric_weights,
    activations_per_tensor,
    per_output_channel,
    whole_layers,
    quantized_outputs,
    integer_bias,
    same_scale_moves,
)
"""What makes ONNX Runtime compute a layer of the right types with one integer kernel."""
INTEGERS_ALONE = (
    activations_per_tensor,
    per_output_channel,
    every_layer,
    whole_layers,
    quantized_outputs,
    no_gaps,
    one_encoding,
    same_scale_moves,
)
"""For devices that compute with integers, and with one scale and zero point of each tensor."""
