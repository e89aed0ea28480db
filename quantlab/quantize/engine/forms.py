"""Forms: operators of the prepared graph rewritten to those that have an int8 kernel.

In place, and the same answers to float rounding. The first node of what is rewritten keeps its
name.
"""

from __future__ import annotations

import onnx

from quantlab.model import graph as g
from quantlab.quantize.engine.activations import (
    activations_first,
    hard_sigmoids,
    hard_swishes,
    limits_as_clips,
)
from quantlab.quantize.engine.convolutions import (
    affine_as_convs,
    lines_as_images,
    transposed_convs,
)
from quantlab.quantize.engine.einsums import einsums_as_matmuls
from quantlab.quantize.engine.functions import fast_functions
from quantlab.quantize.engine.gelus import gelus
from quantlab.quantize.engine.pools import means_as_pools, sums_as_adds
from quantlab.quantize.engine.products import (
    classifier_as_gemm,
    matmuls_as_gemms,
    normalizations_first,
)
from quantlab.quantize.fold import fold_factors_ahead


def to_int8_forms(proto: onnx.ModelProto, *, standard: bool = False, fused: bool = False) -> None:
    """Every rewriting, in the order that they need; ``standard``: to standard operators alone;
    ``fused``: activations as a runtime knows them that computes them with what is before them."""
    graph = proto.graph
    shapes = g.tensor_shapes(proto)
    sums_as_adds(graph)
    limits_as_clips(graph)
    hard_sigmoids(graph)
    if fused:
        hard_swishes(graph)
    gelus(proto, standard=standard)
    fold_factors_ahead(graph)
    means_as_pools(proto, shapes)
    einsums_as_matmuls(graph, shapes)
    shapes = g.tensor_shapes(proto)
    normalizations_first(graph, shapes)
    matmuls_as_gemms(graph, shapes)
    affine_as_convs(graph, shapes)
    lines_as_images(graph)
    transposed_convs(graph)
    activations_first(graph)
    classifier_as_gemm(proto)
    if not fused:
        fast_functions(graph)
    g.prune(graph)
