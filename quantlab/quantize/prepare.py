"""Prepare the fp32 graph for quantization: fold, simplify, raise the opset.

The result computes what the original does (to float rounding, where batch norm was folded), and is
the same byte for byte each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np
import onnx
from onnx import TensorProto, helper, shape_inference, version_converter

from quantlab.errors import QuantizeError
from quantlab.model import graph as g
from quantlab.model.large import array_of, put_aside, weight_bytes, without_weights
from quantlab.model.model import main_opset
from quantlab.model.plain import plain
from quantlab.quantize.constants import (
    choose_branches,
    fold_constants,
    sequences_as_splits,
    simplify_reshapes,
    simplify_sizes,
)
from quantlab.quantize.float32 import to_float32
from quantlab.quantize.fold import (
    fold_affine,
    fold_branches,
    fold_into_normalizations,
    fold_pads,
    plain_gemms,
)
from quantlab.quantize.lookups import lookups_as_gathers
from quantlab.quantize.normalizations import (
    LAYER_NORMALIZATION_OPSET,
    can_be_joined,
    groups_as_instances,
    join_normalizations,
)
from quantlab.quantize.unfuse import unfuse

MIN_OPSET = 13
"""Per-channel QuantizeLinear and DequantizeLinear begin here."""
MIN_IR_VERSION = 8
_ROUNDS = 12
"""So often sizes are computed at most: what is known of them makes more known."""
_FOLDED_SHARE, _FOLDED_BYTES = 4, 2**26
"""So many times its weights, or so many bytes, may what a model computes of its weights take."""
_Shapes = Mapping[str, tuple[g.Dim, ...]]


def prepare(proto: onnx.ModelProto, *, min_opset: int = MIN_OPSET) -> onnx.ModelProto:
    """A prepared copy of the graph; ``proto`` itself is not changed.

    In order: local functions are put where they are called; what ONNX Runtime's optimizer put
    together is taken apart; weights are no longer graph inputs; Constant nodes become weights and
    what depends on constants alone is computed; Clip bounds are scalars; the opset is at least
    ``min_opset``; Identity and Dropout are gone; what float16 was is float32; BatchNormalization,
    and a constant for each channel that is added or multiplied, are folded into the Conv or Gemm
    before it, and zeros that a Pad adds into the Conv or pool after it; a Reshape that flattens is
    a Flatten (so that no Shape, Gather, Concat chain stays behind); a LayerNormalization or
    InstanceNormalization in several nodes is one (and the opset 17); a MatMul of one-hot rows and a
    constant table is a Gather; a MatMul of rank 2 with
    constant weights, and the Add of a bias after it, is a Gemm with the MatMul's name; ``auto_pad``
    is explicit pads where sizes are known; dead nodes and unused weights are gone; every node has a
    name of its own and every tensor its shape. Names of inputs, outputs and of nodes that have one
    are kept, and so is a fixed batch size.

    Raises QuantizeError when the graph cannot be upgraded or is not valid.
    """
    copy = plain(_copy(proto))
    put_aside(copy)
    unfuse(copy)
    _raise_ir(copy)
    for step in (_constants_to_initializers, _scalar_clip_bounds):
        step(copy.graph)
    groups_as_instances(copy)
    copy = upgrade_opset(copy, min_opset)
    to_float32(copy)
    _apply(copy, _constants_to_initializers, _remove_no_ops, plain_gemms, fold_affine)
    _scalar_clip_bounds(copy.graph)
    _compute_sizes(copy)
    copy = _with_normalizations(copy)
    shapes = g.tensor_shapes(copy)
    lookups_as_gathers(copy.graph, shapes)
    _matmuls_to_gemms(copy.graph, shapes)
    _explicit_pads(copy.graph, shapes)
    _apply(copy, _remove_no_ops, fold_affine, fold_pads)
    fold_branches(copy)
    _apply(copy, fold_affine, fold_into_normalizations, g.prune, g.name_nodes)
    _drop_unused_domains(copy)
    return _checked(_with_shapes(copy))


def _with_normalizations(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its normalizations in one node each, in the opset that knows them."""
    shapes = g.tensor_shapes(proto)
    if main_opset(proto) < LAYER_NORMALIZATION_OPSET and can_be_joined(proto, shapes):
        with suppress(QuantizeError):  # they stay as they are
            proto = upgrade_opset(proto, LAYER_NORMALIZATION_OPSET)
            shapes = g.tensor_shapes(proto)
    join_normalizations(proto, shapes)
    return proto


def _compute_sizes(proto: onnx.ModelProto) -> None:
    before: list[tuple[str, list[str]]] = []
    left = max(_FOLDED_SHARE * weight_bytes(proto), _FOLDED_BYTES)
    for _ in range(_ROUNDS):
        left -= fold_constants(proto, left)
        choose_branches(proto.graph)
        _constants_to_initializers(proto.graph)
        sequences_as_splits(proto.graph)
        simplify_reshapes(proto)
        simplify_sizes(proto)
        _remove_no_ops(proto.graph)
        after = [(node.op_type, list(node.input)) for node in proto.graph.node]
        if after == before:
            break
        before = after


def _apply(proto: onnx.ModelProto, *steps: Callable[[onnx.GraphProto], None]) -> None:
    for step in steps:
        step(proto.graph)


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def _raise_ir(proto: onnx.ModelProto) -> None:
    """From IR version 4 on, weights need not be graph inputs; as inputs they cannot be folded."""
    proto.ir_version = max(proto.ir_version, MIN_IR_VERSION)
    weights = g.initializers(proto.graph)
    inputs = [v for v in proto.graph.input if v.name not in weights]
    if len(inputs) < len(proto.graph.input):
        kept = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in inputs]
        del proto.graph.input[:]
        proto.graph.input.extend(kept)


def upgrade_opset(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The graph in at least this version of the standard operator set.

    Raises QuantizeError when ONNX's own version converter cannot do it.
    """
    if main_opset(proto) >= opset:
        return proto
    try:
        upgraded = without_weights(lambda m: version_converter.convert_version(m, opset), proto)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise QuantizeError(
            f"The model's opset {main_opset(proto)} cannot be upgraded to {opset}: {reason}",
            f"Export the model again with opset {opset} or later.",
        ) from error
    upgraded.ir_version = max(upgraded.ir_version, proto.ir_version)
    del upgraded.metadata_props[:]
    upgraded.metadata_props.extend(proto.metadata_props)
    return upgraded


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        array = _constant_value(node) if g.is_standard(node, "Constant") else None
        if array is None:
            kept.append(node)
        else:
            g.set_initializer(graph, node.output[0], array)
    g.set_nodes(graph, kept)


def _constant_value(node: onnx.NodeProto) -> g.Array | None:
    for found in node.attribute:
        value = helper.get_attribute_value(found)
        if found.name == "value":
            return array_of(value)
        if found.name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if found.name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    return None


def _scalar_clip_bounds(graph: onnx.GraphProto) -> None:
    """Clip bounds of shape [1] (the ONNX zoo has them) become the scalars that ONNX asks for."""
    weights = {t.name: t for t in graph.initializer if list(t.dims) == [1]}
    names = g.Names(g.tensor_names(graph))
    scalars: dict[str, str] = {}
    for node in graph.node:
        for i, name in enumerate(node.input if g.is_standard(node, "Clip") else ()):
            if i > 0 and name in weights:
                if name not in scalars:
                    scalars[name] = names.new(f"{name}_scalar")
                    bound = array_of(weights[name]).reshape(())
                    g.set_initializer(graph, scalars[name], bound)
                node.input[i] = scalars[name]


def _remove_no_ops(graph: onnx.GraphProto) -> None:
    """Removes Identity, and Dropout as it is at inference, keeping the graph's output names."""
    inputs = {v.name for v in graph.input} | set(g.initializers(graph))
    outputs = {v.name for v in graph.output}
    removed = []
    for i, node in enumerate(graph.node):
        if not _is_no_op(node, g.initializers(graph)) or _used(graph, list(node.output[1:])):
            continue
        source, target = node.input[0], node.output[0]
        if target in outputs:
            if source in inputs or source in outputs or _read_by_subgraph(graph, source):
                continue
            _rename_tensor(graph, source, target)
        elif _read_by_subgraph(graph, target):
            continue
        else:
            g.rename_reads(graph, target, source)
        removed.append(i)
    g.set_nodes(graph, [n for i, n in enumerate(graph.node) if i not in removed])


def _is_no_op(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    if g.is_standard(node, "Identity"):
        return True
    training = node.input[2] if len(node.input) > 2 else ""
    return g.is_standard(node, "Dropout") and (
        not training or (training in weights and not array_of(weights[training]).any())
    )


def _used(graph: onnx.GraphProto, names: list[str]) -> bool:
    consumers = g.consumers(graph) if any(names) else {}
    return any(n in consumers or n in {v.name for v in graph.output} for n in names if n)


def _read_by_subgraph(graph: onnx.GraphProto, name: str) -> bool:
    return any(
        name in g.node_reads(inner)
        for node in graph.node
        for sub in g.subgraphs(node)
        for inner in sub.node
    )


def _rename_tensor(graph: onnx.GraphProto, old: str, new: str) -> None:
    g.rename_reads(graph, old, new)
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name == old:
                node.output[i] = new


def _matmuls_to_gemms(graph: onnx.GraphProto, shapes: _Shapes) -> None:
    """MatMul of rank 2 with constant weights becomes a Gemm, with the bias that it alone gets."""
    weights, read_by = g.initializers(graph), g.consumers(graph)
    made_by = g.producers(graph)
    outputs = {v.name for v in graph.output}
    merged = set[str]()
    for node in graph.node:
        if not g.is_standard(node, "MatMul") or not _is_matrix(node.input[0], shapes, made_by):
            continue
        weight = weights.get(node.input[1])
        if weight is None or len(weight.dims) != 2 or weight.data_type != TensorProto.FLOAT:
            continue
        node.op_type = "Gemm"
        consumers = read_by.get(node.output[0], [])
        bias = _added(consumers[0], node.output[0], weights) if len(consumers) == 1 else None
        if bias is None or node.output[0] in outputs or not _is_bias(bias, weight.dims[1]):
            continue
        node.input.append(bias.name)
        node.output[0] = consumers[0].output[0]
        merged.add(node.output[0])
    kept = [n for n in graph.node if n.op_type != "Add" or n.output[0] not in merged]
    if merged:
        g.set_nodes(graph, kept)


def _is_matrix(name: str, shapes: _Shapes, made_by: Mapping[str, onnx.NodeProto]) -> bool:
    maker = made_by.get(name)
    flat = maker is not None and g.is_standard(maker, "Flatten", "Gemm")
    return flat or len(shapes.get(name, ())) == 2


def _added(
    node: onnx.NodeProto, name: str, weights: Mapping[str, onnx.TensorProto]
) -> onnx.TensorProto | None:
    """The weight that the node, an Add, adds to the tensor."""
    others = [n for n in node.input if n != name] if g.is_standard(node, "Add") else []
    return weights.get(others[0]) if others else None


def _is_bias(bias: onnx.TensorProto, width: int) -> bool:
    """Whether it has one number for all columns or one for each, and is no matrix."""
    dims = list(bias.dims)
    return len(dims) <= 2 and all(d == 1 for d in dims[:-1]) and dims[-1:] in ([], [1], [width])


def _explicit_pads(graph: onnx.GraphProto, shapes: _Shapes) -> None:
    """Write the padding of convolutions and pools as numbers, where the input's size is known."""
    for node in graph.node:
        if not g.is_standard(node, "Conv", "MaxPool", "AveragePool"):
            continue
        mode = g.attribute(node, "auto_pad", "NOTSET")
        pads = None if g.attribute(node, "ceil_mode", 0) else _pads(node, mode, shapes)
        if mode != "NOTSET" and pads is not None:
            kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("pads", pads)])


def _pads(node: onnx.NodeProto, mode: str, shapes: _Shapes) -> list[int] | None:
    """All that goes before, then all that goes after; None where a size is not known.

    SAME gives ⌈size / stride⌉ values; of an odd padding SAME_UPPER puts the larger part after.
    """
    weight = shapes.get(node.input[1], ())[2:] if node.op_type == "Conv" else ()
    kernel = g.attribute(node, "kernel_shape", [d for d in weight if isinstance(d, int)])
    if not kernel or len(kernel) < len(weight):
        return None
    if mode == "VALID":
        return [0, 0] * len(kernel)
    ones = [1] * len(kernel)
    strides = g.attribute(node, "strides", ones)
    sizes = [d for d in shapes.get(node.input[0], ())[2:] if isinstance(d, int)]
    if len(sizes) != len(kernel):
        if any(step != 1 for step in strides):
            return None
        sizes = list(kernel)  # any: with strides of 1 padding does not depend on them
    windows = zip(sizes, kernel, strides, g.attribute(node, "dilations", ones), strict=True)
    totals = [max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n) for n, k, s, d in windows]
    less, more = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return less + more if mode == "SAME_UPPER" else more + less


def _drop_unused_domains(proto: onnx.ModelProto) -> None:
    used = {node.domain or "" for node in g.all_nodes(proto.graph)}
    kept = [(o.domain, o.version) for o in proto.opset_import if o.domain in used | {"", "ai.onnx"}]
    del proto.opset_import[:]
    proto.opset_import.extend(helper.make_opsetid(d, v) for d, v in kept)


def _valid(proto: onnx.ModelProto) -> onnx.ModelProto:
    onnx.checker.check_model(proto)
    return proto


def _with_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    del proto.graph.value_info[:]
    return shape_inference.infer_shapes(proto, data_prop=True)


def _checked(proto: onnx.ModelProto) -> onnx.ModelProto:
    put_aside(proto)
    try:
        without_weights(_valid, proto)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise QuantizeError(
            f"The model is not valid ONNX: {reason}",
            "Export it again; with torch.onnx.export, also try optimize=False.",
        ) from error
    return proto
