"""Check a recipe and a graph before an engine starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import onnx
import psutil

from quantlab.errors import ModelError, QuantizeError
from quantlab.model import graph as g
from quantlab.model.large import Weights
from quantlab.recipe import Recipe
from quantlab.runtime.session import create_session

WEIGHTED = ("Conv", "Gemm", "MatMul")
_CORRECTIONS: Mapping[str, Collection[object]] = {
    "equalize": (False,),
    "bias_correction": (False,),
    "range_search": (False,),
    "smooth": (None,),
    "rounding": ("nearest",),
    "symmetric": (False,),
    "bias": ("auto",),
    "operators": ("onnxruntime",),
    "fused_sums": (False,),
    "fused_activations": (False,),
    "shared_scales": (False,),
}
_FORM = ("symmetric", "bias", "operators", "fused_sums", "fused_activations", "shared_scales")


def has_plain_form(recipe: Recipe) -> bool:
    """Whether it asks for nothing of the file's form that quantlab's engine alone writes."""
    return all(getattr(recipe, name) in _CORRECTIONS[name] for name in _FORM)


def check_recipe(recipe: Recipe, engine: str, allowed: Mapping[str, Collection[object]]) -> None:
    """Raises QuantizeError when a field has a value that the engine does not know.

    ``allowed`` names the values by field. The corrections (equalize, bias_correction, rounding,
    range_search, smooth) must be off where it does not name them.
    """
    known = {**_CORRECTIONS, **allowed}
    wrong = [
        f"{name}: {_as_yaml(getattr(recipe, name))}"
        for name, values in known.items()
        if values and getattr(recipe, name) not in values
    ]
    if wrong:
        raise QuantizeError(
            f"the {engine} engine cannot do {', '.join(wrong)} (recipe {recipe.name}).",
            "Use engine: quantlab, or " + "; ".join(_choices(known, wrong)) + ".",
        )


def _choices(known: Mapping[str, Collection[object]], wrong: Collection[str]) -> list[str]:
    names = [text.split(":")[0] for text in wrong]
    return [f"{name}: {' or '.join(map(_as_yaml, known[name]))}" for name in names]


def _as_yaml(value: object) -> str:
    return "null" if value is None else str(value).lower()


def check_quantizable(prepared: onnx.ModelProto, path: Path) -> None:
    """Raises QuantizeError when there is nothing to quantize, or weights are NaN or infinite."""
    if not any(n.op_type in WEIGHTED for n in prepared.graph.node):
        raise QuantizeError(
            f"{path}: nothing to quantize: no Conv, Gemm or MatMul in the graph.",
            "Keep the fp32 model.",
        )
    check_weights(prepared, path)


def check_weights(prepared: onnx.ModelProto, path: Path) -> None:
    """Raises QuantizeError, naming the first node with weights that are NaN or infinite."""
    weights = Weights(prepared.graph)
    for node in prepared.graph.node:
        arrays = (weights[name] for name in node.input if name in weights)
        if node.op_type in WEIGHTED and not all(np.isfinite(a).all() for a in arrays):
            raise QuantizeError(
                f"{path}: the weights of node {node.name} hold NaN or infinity.",
                "Export the model again.",
            )


def check_loads(content: bytes, who: str) -> None:
    """Raises QuantizeError when ONNX Runtime does not load what another quantizer made: some ignore
    subgraphs, or write types that no kernel reads."""
    try:
        create_session(content, threads=1)
    except ModelError as error:
        raise QuantizeError(
            f"{who} made a broken file: {error.problem}", "Use engine: quantlab."
        ) from error


def classifier_node(prepared: onnx.ModelProto) -> str | None:
    """The name of the node that makes the logits, None where it is not on the way to the output.

    Quantizing its output costs whole points of top-1.
    """
    producers = {name: node for node in prepared.graph.node for name in node.output}
    node = producers.get(prepared.graph.output[0].name)
    while node is not None and node.op_type not in WEIGHTED:
        node = producers.get(node.input[0])
    return node.name if node is not None else None


def fp32_nodes(prepared: onnx.ModelProto, recipe: Recipe) -> list[str]:
    """The names of the nodes that the recipe wants in fp32."""
    classifier = classifier_node(prepared) if recipe.fp32_output else None
    return [*recipe.exclude, *([classifier] if classifier is not None else [])]


def check_memory(prepared: onnx.ModelProto, images: int, who: str) -> None:
    """Raises QuantizeError when every float32 activation of every image does not fit into memory.

    Only for engines that keep them all. ``who``, in the plural, begins the error's sentence.
    """
    needed = images * activation_bytes(prepared)
    available = psutil.virtual_memory().available
    if needed > 0.8 * available:
        raise QuantizeError(
            f"{who} keep every activation: {images} images need about {needed / 2**30:.1f} GiB, "
            f"{available / 2**30:.1f} GiB are free.",
            "Use engine: quantlab (its histograms stream), or a smaller calibration_size.",
        )


def activation_bytes(prepared: onnx.ModelProto) -> int:
    """Bytes of all float32 activations of one image."""
    inferred = onnx.shape_inference.infer_shapes(prepared)
    total = 0
    for value in inferred.graph.value_info:
        dims = [g.dim_size(d) or 1 for d in value.type.tensor_type.shape.dim]
        total += 4 * int(np.prod(dims))
    return total
