"""The ONNX Runtime engine: ``onnxruntime.quantization`` behind quantlab's protocol.

Its histogram calibrators (percentile, entropy) keep every activation of every image, about 62 MB an
image for MobileNetV2; this engine refuses to start one that would not fit into memory.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
from numpy.typing import NDArray

from quantlab.errors import QuantizeError
from quantlab.model import Model
from quantlab.quantize.prepare import prepare
from quantlab.quantize.protocol import Calibration
from quantlab.recipe import Recipe

_METHODS = {"minmax": "MinMax", "mean": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
_ACTIVATIONS = {"u8": "QUInt8", "s8": "QInt8", "u16": "QUInt16", "s16": "QInt16"}
_WEIGHTS = {"u8": "QUInt8", "s8": "QInt8", "s16": "QInt16"}


class OrtEngine:
    """``quantize_static`` with the recipe's types, granularity and range method."""

    name = "ort"

    def quantize(self, model: Model, recipe: Recipe, calibration: Calibration) -> onnx.ModelProto:
        """See Engine.quantize."""
        _check(recipe)
        prepared = prepare(model.proto())
        _check_quantizable(prepared, model.path)
        if recipe.ranges in ("percentile", "entropy"):
            _check_memory(prepared, len(calibration))
        with tempfile.TemporaryDirectory(prefix="quantlab-") as folder, _quiet():
            source, target = Path(folder) / "fp32.onnx", Path(folder) / "quantized.onnx"
            onnx.save(prepared, source)
            _quantize_static(
                source, target, recipe, _Reader(model.input.name, calibration), prepared
            )
            return onnx.load(target)


def _quantize_static(
    source: Path, target: Path, recipe: Recipe, reader: _Reader, prepared: onnx.ModelProto
) -> None:
    from onnxruntime import quantization as q

    reader_type: Any = type("Reader", (q.CalibrationDataReader,), {"get_next": reader.get_next})
    try:
        q.quantize_static(
            source,
            target,
            reader_type(),
            quant_format=q.QuantFormat.QDQ if recipe.format == "qdq" else q.QuantFormat.QOperator,
            per_channel=recipe.per_channel,
            reduce_range=recipe.portable,
            activation_type=q.QuantType[_ACTIVATIONS[recipe.activations]],
            weight_type=q.QuantType[_WEIGHTS[recipe.weights]],
            nodes_to_exclude=[*recipe.exclude, *_fp32_output(prepared, recipe)],
            calibrate_method=q.CalibrationMethod[_METHODS[recipe.ranges]],
            extra_options={
                "CalibMovingAverage": recipe.ranges == "mean",
                "CalibPercentile": recipe.percentile,
            },
        )
    except (ValueError, RuntimeError, AssertionError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise QuantizeError(
            f"onnxruntime.quantization failed on recipe {recipe.name}: {reason}",
            "Try engine: quantlab, or another format.",
        ) from error


class _Reader:
    """Feeds one image at a time, so that ``mean`` is the mean of per-image minima and maxima."""

    def __init__(self, name: str, calibration: Calibration) -> None:
        self._images = _one_by_one(calibration)
        self._name = name

    def get_next(self, *_: object) -> dict[str, NDArray[np.generic]] | None:
        image = next(self._images, None)
        return None if image is None else {self._name: image}


def _one_by_one(calibration: Calibration) -> Iterator[NDArray[np.generic]]:
    for batch in calibration:
        for i in range(len(batch)):
            yield batch[i : i + 1]


def _check(recipe: Recipe) -> None:
    unsupported = [
        name
        for name in ("equalize", "bias_correction", "range_search", "smooth")
        if getattr(recipe, name)
    ]
    if recipe.rounding != "nearest":
        unsupported.append("rounding")
    if recipe.ranges not in _METHODS:
        unsupported.append(f"ranges: {recipe.ranges}")
    if recipe.weights not in _WEIGHTS:
        unsupported.append(f"weights: {recipe.weights}")
    if unsupported:
        raise QuantizeError(
            f"the ort engine cannot do {', '.join(unsupported)} (recipe {recipe.name}).",
            "Use engine: quantlab.",
        )


def _check_quantizable(prepared: onnx.ModelProto, path: Path) -> None:
    if not any(n.op_type in ("Conv", "Gemm", "MatMul") for n in prepared.graph.node):
        raise QuantizeError(f"{path}: nothing to quantize: no Conv, Gemm or MatMul in the graph.")


def _fp32_output(prepared: onnx.ModelProto, recipe: Recipe) -> list[str]:
    """The classifier's own node: quantizing the logits costs whole points of top-1."""
    if not recipe.fp32_output:
        return []
    producers = {name: node for node in prepared.graph.node for name in node.output}
    node = producers.get(prepared.graph.output[0].name)
    while node is not None and node.op_type not in ("Gemm", "MatMul", "Conv"):
        node = producers.get(node.input[0])
    return [node.name] if node is not None else []


def _check_memory(prepared: onnx.ModelProto, images: int) -> None:
    needed = images * _activation_bytes(prepared)
    available = psutil.virtual_memory().available
    if needed > 0.8 * available:
        raise QuantizeError(
            "ONNX Runtime's histogram calibrators keep every activation: "
            f"{images} images need about {needed / 2**30:.1f} GiB, {available / 2**30:.1f} GiB are free.",
            "Use engine: quantlab (its histograms stream), or a smaller calibration_size.",
        )


def _activation_bytes(prepared: onnx.ModelProto) -> int:
    """Bytes of all float32 activations of one image."""
    inferred = onnx.shape_inference.infer_shapes(prepared)
    total = 0
    for value in inferred.graph.value_info:
        dims = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        total += 4 * int(np.prod(dims))
    return total


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's quantizer logs through the root logger and warns of its own internals."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
