"""Documents that several targets share."""

from __future__ import annotations

from quantlab.targets.target import Document

ONNXRUNTIME = Document(
    "ONNX Runtime: Quantize ONNX models",
    "https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html",
)
