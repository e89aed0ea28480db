"""The ONNX Runtime engine: ``onnxruntime.quantization`` behind quantlab's protocol.

Its histogram calibrators (percentile, entropy) keep every activation of every image, about 62 MB an
image for MobileNetV2; this engine refuses to start one that would not fit into memory.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab._util.scratch import temporary_folder
from quantlab.errors import QuantizeError
from quantlab.model import graph as g
from quantlab.model.large import refuse_aside
from quantlab.model.model import Model
from quantlab.quantize.checks import (
    check_loads,
    check_memory,
    check_quantizable,
    check_recipe,
    fp32_nodes,
)
from quantlab.quantize.prepare import prepare
from quantlab.quantize.protocol import Calibration
from quantlab.recipe import Recipe
from quantlab.runtime.session import plain_errors

_METHODS = {"minmax": "MinMax", "mean": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
_ACTIVATIONS = {"u8": "QUInt8", "s8": "QInt8", "u16": "QUInt16", "s16": "QInt16"}
_WEIGHTS = {"u8": "QUInt8", "s8": "QInt8", "s16": "QInt16"}
_MADE = re.compile(r"_(?=quant|scale|zero_point|(Quant|Dequant)izeLinear|Reduce|output_|bias_)")
"""Where a name begins that ONNX Runtime's quantizer makes of another's."""
_ALLOWED = {"ranges": tuple(_METHODS), "weights": tuple(_WEIGHTS)}


class OrtEngine:
    """``quantize_static`` with the recipe's types, granularity and range method."""

    name = "ort"

    def quantize(self, model: Model, recipe: Recipe, calibration: Calibration) -> onnx.ModelProto:
        """See Engine.quantize."""
        check_recipe(recipe, self.name, _ALLOWED)
        prepared = prepare(model.proto())
        check_quantizable(prepared, model.path)
        refuse_aside(prepared, "onnxruntime.quantization", "Use engine: quantlab.")
        if recipe.ranges in ("percentile", "entropy"):
            check_memory(prepared, len(calibration), "ONNX Runtime's histogram calibrators")
        failing = f"onnxruntime.quantization failed on recipe {recipe.name}"
        with temporary_folder() as folder, _quiet(), plain_errors(failing):
            source, target = folder / "fp32.onnx", folder / "quantized.onnx"
            kept = fp32_nodes(prepared, recipe)
            others = make_room(prepared.graph)
            onnx.save(prepared, source)
            reader = _Reader(model.input.name, calibration, model.input.batch or 1)
            kept = [others.get(name, name) for name in kept]
            _quantize_static(source, target, recipe, reader, kept)
            check_loads(target.read_bytes(), "onnxruntime.quantization")
            return onnx.load(target)


def make_room(graph: onnx.GraphProto) -> dict[str, str]:
    """In place: inner tensors, weights and nodes that have a name which ONNX Runtime's quantizer
    makes of another's get a new one, since it does not look whether its names are free.

    Gives the nodes' new names by the old ones.
    """
    ends = {v.name for v in (*graph.input, *graph.output)}
    tensors, nodes = g.tensor_names(graph), g.node_names(graph)
    both = tensors | nodes
    free, free_nodes = g.Names(tensors), g.Names(nodes)
    new = {n: free.new("tensor") for n in sorted(tensors - ends) if _would_be_made(n, both)}
    new_nodes = {n: free_nodes.new("node") for n in sorted(nodes) if _would_be_made(n, both)}
    for tensor in graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    for node in graph.node:
        node.name = new_nodes.get(node.name, node.name)
        node.output[:] = [new.get(name, name) for name in node.output]
        g.rename_node_reads(node, new)
    if new:
        del graph.value_info[:]
    return new_nodes


def _would_be_made(name: str, names: Collection[str]) -> bool:
    return any(name[: found.start()] in names for found in _MADE.finditer(name))


def _quantize_static(
    source: Path, target: Path, recipe: Recipe, reader: _Reader, kept: list[str]
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
            reduce_range=recipe.portable or recipe.reduce_range,
            activation_type=q.QuantType[_ACTIVATIONS[recipe.activations]],
            weight_type=q.QuantType[_WEIGHTS[recipe.weights]],
            nodes_to_exclude=kept,
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
            "Try engine: quantlab, which says what it cannot quantize, or another format.",
        ) from error


class _Reader:
    """Feeds one image at a time, so that ``mean`` is the mean of per-image minima and maxima.

    A model with a fixed batch size is fed that many.
    """

    def __init__(self, name: str, calibration: Calibration, step: int) -> None:
        self._images = _pieces(calibration, step)
        self._name = name

    def get_next(self, *_: object) -> dict[str, NDArray[np.generic]] | None:
        image = next(self._images, None)
        if image is None:
            return None
        if not np.isfinite(image).all():
            raise QuantizeError(
                "a calibration image is NaN or infinite.",
                "Check the images and the pipeline's scaling.",
            )
        return {self._name: image}


def _pieces(calibration: Calibration, step: int) -> Iterator[NDArray[np.generic]]:
    for batch in calibration:
        for i in range(0, len(batch), step):
            yield batch[i : i + step]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log and the warnings of ONNX Runtime's quantizer."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
