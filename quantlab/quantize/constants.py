"""Fold constants, and simplify shape arithmetic to plain Flatten or Reshape nodes."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, shape_inference

from quantlab.errors import ModelError
from quantlab.model import graph as g
from quantlab.model.large import Weights, array_of, tensor_of
from quantlab.model.model import main_opset

_FOLDABLE = {
    "Abs", "Add", "And", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Cos", "CumSum",
    "DepthToSpace", "Div", "Einsum", "Equal", "Erf", "Exp", "Flatten", "Floor", "Gather",
    "GatherElements", "GatherND", "Gemm", "Greater", "GreaterOrEqual", "InstanceNormalization",
    "LayerNormalization", "Less", "LessOrEqual", "Log", "LpNormalization", "MatMul", "Max", "Min",
    "Mod", "Mul", "Neg", "Not", "Or", "Pad", "Pow", "Reciprocal", "ReduceL1", "ReduceL2",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu",
    "Reshape", "Resize", "Round", "ScatterElements", "ScatterND", "Shape", "Sigmoid", "Sign", "Sin",
    "Size", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh",
    "Transpose", "Trilu", "Unsqueeze", "Where",
}  # fmt: skip
_GROWING = {"ConstantOfShape", "Expand", "Range", "Tile"}
_SMALL = 4096
"""So many values a node may make of less."""
_Symbolic = list[g.Dim]
_ONE_INPUT = ("Unsqueeze", "Squeeze", "Cast", "Reshape")
_ON_SIZES = (*_ONE_INPUT, "Gather", "Concat", "Slice", "Mul", "Equal", "Where")


def fold_constants(proto: onnx.ModelProto, most: int) -> int:
    """Computes, in place, every node of which all inputs are weights; returns the bytes of what was
    computed, not more than ``most``.

    What would blow the file up (Expand, Tile …), results of unknown size and quantizers of weights
    stay: a small file may ask for more than any memory holds.
    """
    left = most
    shapes = g.tensor_shapes(proto)
    weights = ChainMap[str, g.Array]({}, Weights(proto.graph))  # type: ignore[arg-type]
    made_by = g.producers(proto.graph)
    kept = []
    for node in proto.graph.node:
        values = _evaluate(node, weights, shapes, main_opset(proto), left)
        if values is None and g.is_standard(node, "Gather", "Slice"):
            values = _known_sizes(node, made_by, shapes, weights)
        if values is None:
            kept.append(node)
            continue
        for name, value in values.items():
            left -= value.nbytes
            weights[name] = value
            g.set_initializer(proto.graph, name, value)
    g.set_nodes(proto.graph, kept)
    _keep_outputs_computed(proto.graph)
    return most - left


def choose_branches(graph: onnx.GraphProto) -> None:
    """An If whose condition is a weight becomes the nodes of the branch that it takes."""
    conditions, names = g.initializers(graph), g.Names(g.tensor_names(graph))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        condition = conditions.get(node.input[0]) if g.is_standard(node, "If") else None
        if condition is None:
            nodes.append(node)
            continue
        wanted = "then_branch" if array_of(condition).any() else "else_branch"
        branch = next(found.g for found in node.attribute if found.name == wanted)
        made = [t.name for t in branch.initializer]
        made += [name for inner in branch.node for name in inner.output if name]
        renamed = {name: names.new(name) for name in made}
        for tensor in branch.initializer:
            tensor.name = renamed[tensor.name]
            graph.initializer.append(tensor)
        for inner in branch.node:
            g.rename_node_reads(inner, renamed)
            for i, name in enumerate(inner.output):
                inner.output[i] = renamed.get(name, name)
            nodes.append(inner)
        for value, target in zip(branch.output, node.output, strict=True):
            reads = [renamed.get(value.name, value.name)]
            nodes.append(helper.make_node("Identity", reads, [target]))
    g.set_nodes(graph, nodes)


def sequences_as_splits(graph: onnx.GraphProto) -> None:
    """A SplitToSequence of known sizes, of which SequenceAt alone read known parts, becomes a
    Split."""
    weights, names = Weights(graph), g.Names(g.tensor_names(graph))
    read_by, outputs = g.consumers(graph), {v.name for v in graph.output}
    for node in graph.node:
        sizes = weights.get(node.input[1]) if len(node.input) > 1 else None
        if not g.is_standard(node, "SplitToSequence") or sizes is None or sizes.ndim != 1:
            continue
        readers = read_by.get(node.output[0], [])
        known = all(g.is_standard(r, "SequenceAt") and r.input[1] in weights for r in readers)
        if not known or node.output[0] in outputs:
            continue
        parts = [names.new(f"{node.output[0]}_part") for _ in sizes]
        for reader in readers:
            part = parts[int(weights[reader.input[1]].item())]
            reader.CopyFrom(helper.make_node("Identity", [part], reader.output, name=reader.name))
        axis = g.attribute(node, "axis", 0)
        made = helper.make_node("Split", node.input, parts, name=node.name, axis=axis)
        node.CopyFrom(made)


def _evaluate(
    node: onnx.NodeProto,
    weights: Mapping[str, g.Array],
    shapes: Mapping[str, tuple[g.Dim, ...]],
    opset: int,
    most: int,
) -> dict[str, g.Array] | None:
    if not g.is_standard(node, *_FOLDABLE, *_GROWING):
        return None
    if node.op_type == "Shape" and node.input[0] not in weights:
        return _static_shape(node, shapes)
    inputs = {name: weights[name] for name in node.input if name in weights}
    if set(inputs) != {name for name in node.input if name} or _grows(node, inputs):
        return None
    from quantlab.runtime.session import create_session  # seldom needed

    model = _one_node_model(node, inputs, opset)
    if not 0 <= _result_bytes(model, inputs) <= most:
        return None
    try:
        values = create_session(model.SerializeToString(), threads=1).run(None, inputs)
    except (ModelError, RuntimeError):  # of ONNX Runtime: no kernel for these types
        return None
    return {name: np.asarray(v) for name, v in zip(filter(None, node.output), values, strict=True)}


def _grows(node: onnx.NodeProto, inputs: Mapping[str, g.Array]) -> bool:
    """Whether the node would make more values than _SMALL of less."""
    if node.op_type not in _GROWING:
        return False
    values = [inputs[name] for name in node.input]
    last = [int(n) for n in values[-1].reshape(-1)]
    match node.op_type:
        case "ConstantOfShape":
            return math.prod(last) > _SMALL
        case "Range":
            start, limit, delta = (float(value.item()) for value in values)
            return abs(limit - start) > _SMALL * abs(delta)
        case "Expand":
            return math.prod(np.broadcast_shapes(values[0].shape, tuple(last))) > _SMALL
        case _:
            return values[0].size * math.prod(last) > _SMALL


def _known_sizes(
    node: onnx.NodeProto,
    made_by: Mapping[str, onnx.NodeProto],
    shapes: Mapping[str, tuple[g.Dim, ...]],
    weights: Mapping[str, g.Array],
) -> dict[str, g.Array] | None:
    """What is selected of a shape, where it is known though the whole shape is not."""
    if len(shapes.get(node.output[0], (0, 0))) > 1 or _rests_on(node, made_by) != "Shape":
        return None
    small = {n: weights[n] for n in node.input if n in weights and weights[n].ndim < 2}
    sizes = _symbolic(node.output[0], made_by, shapes, small)
    if sizes is None or not all(isinstance(size, int) for size in sizes):
        return None
    value = np.array(sizes, np.int64)
    scalar = node.op_type == "Gather" and weights[node.input[1]].ndim == 0
    return {node.output[0]: value.reshape(()) if scalar else value}


def _rests_on(node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto]) -> str:
    source = made_by.get(node.input[0])
    return source.op_type if source is not None and g.is_standard(source, "Shape") else ""


def _static_shape(
    node: onnx.NodeProto, shapes: Mapping[str, tuple[g.Dim, ...]]
) -> dict[str, g.Array] | None:
    value = _shape_slice(node, shapes.get(node.input[0]))
    if value is None or not all(isinstance(d, int) for d in value):
        return None
    return {node.output[0]: np.array(value, np.int64)}


def _shape_slice(node: onnx.NodeProto, shape: tuple[g.Dim, ...] | None) -> _Symbolic | None:
    if shape is None:
        return None
    return list(shape)[g.attribute(node, "start", 0) : g.attribute(node, "end", len(shape))]


def _one_node_model(
    node: onnx.NodeProto, inputs: Mapping[str, g.Array], opset: int
) -> onnx.ModelProto:
    given = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in inputs.items()
    ]
    made = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "constant", given, made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def _result_bytes(model: onnx.ModelProto, inputs: Mapping[str, g.Array]) -> int:
    """The bytes of what the model makes of these inputs, by shape inference; −1 where that does
    not tell. Not the bytes that an Einsum of three tensors needs meanwhile: −1 too."""
    node = model.graph.node[0]
    if node.op_type == "Einsum" and len(node.input) > 2:
        return -1
    known = onnx.ModelProto()
    known.CopyFrom(model)
    small = {name: value for name, value in inputs.items() if value.size <= _SMALL}
    known.graph.initializer.extend(tensor_of(value, name) for name, value in small.items())
    try:
        made = shape_inference.infer_shapes(known, data_prop=True, strict_mode=True)
    except (shape_inference.InferenceError, RuntimeError, ValueError):
        return -1
    total = 0
    for value in made.graph.output:
        tensor = value.type.tensor_type
        sizes = [g.dim_size(dim) for dim in tensor.shape.dim]
        if not tensor.elem_type or not tensor.HasField("shape") or None in sizes:
            return -1
        width = helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
        total += width * math.prod(size or 0 for size in sizes)
    return total


def _keep_outputs_computed(graph: onnx.GraphProto) -> None:
    """A graph output that turned out constant still needs a node that makes it."""
    weights, names = g.initializers(graph), g.Names(g.tensor_names(graph))
    for value in graph.output:
        if value.name in weights:
            source = names.new(f"{value.name}_constant")
            g.set_initializer(graph, source, array_of(weights[value.name]))
            graph.initializer.remove(weights[value.name])
            graph.node.append(helper.make_node("Identity", [source], [value.name]))


def simplify_reshapes(proto: onnx.ModelProto) -> None:
    """In place: a Reshape that provably keeps the batch and joins the rest becomes a Flatten.

    Any other whose target is computed from the input's own batch dimension gets a constant
    target. Exporters write ``x.reshape(x.shape[0], -1)`` as Shape, Gather, Unsqueeze, Concat,
    Reshape; quantizers cannot see through that.
    """
    _name_unknown_dims(proto.graph)
    shapes = g.tensor_shapes(proto)
    made_by = g.producers(proto.graph)
    names = g.Names(g.tensor_names(proto.graph))
    weights = _small_weights(proto.graph)
    for node in proto.graph.node:
        if not g.is_standard(node, "Reshape") or g.attribute(node, "allowzero", 0):
            continue
        data = shapes.get(node.input[0])
        target = _symbolic(node.input[1], made_by, shapes, weights)
        if data is None or target is None:
            continue
        if _flattens(data, target):
            _make_flatten(node)
        elif node.input[1] not in weights and _same_batch(data, target):
            name = names.new(f"{node.output[0]}_shape")
            g.set_initializer(proto.graph, name, np.array([0, *target[1:]], np.int64))
            node.input[1] = name


def simplify_sizes(proto: onnx.ModelProto) -> None:
    """In place: a Where among sizes becomes the Concat of those that it picks, and a Reshape of
    sizes to a list goes.

    PyTorch writes ``x.expand(n, -1, -1)``, a class token's, so that −1 stands for a size of the
    token's own; of nothing behind it the shape is known, though it is clear where the −1 are.
    """
    shapes = g.tensor_shapes(proto)
    made_by = g.producers(proto.graph)
    weights = _small_weights(proto.graph)
    names = g.Names(g.tensor_names(proto.graph))
    for node in proto.graph.node:
        if g.is_standard(node, "Reshape") and len(shapes.get(node.input[0], ())) == 1:
            if _symbolic(node.input[1], made_by, shapes, weights) == [-1]:
                node.op_type = "Identity"
                del node.input[1:]
            continue
        value = None
        if g.is_standard(node, "Where"):
            value = _symbolic(node.output[0], made_by, shapes, weights)
        source = made_by.get(node.input[2]) if value is not None else None
        if value is None or source is None or not g.is_standard(source, "Concat"):
            continue
        pieces = []
        for name, size in zip(source.input, value, strict=False):
            if _symbolic(name, made_by, shapes, weights) == [size]:
                pieces.append(name)
            elif isinstance(size, int):
                pieces.append(names.new(f"{node.output[0]}_size"))
                g.set_initializer(proto.graph, pieces[-1], np.array([size], np.int64))
        if len(pieces) == len(value) == len(source.input):
            label = node.name
            node.CopyFrom(helper.make_node("Concat", pieces, node.output, name=label, axis=0))
    g.prune(proto.graph)


def _small_weights(graph: onnx.GraphProto) -> dict[str, g.Array]:
    return {t.name: array_of(t) for t in graph.initializer if len(t.dims) < 2}


def _name_unknown_dims(graph: onnx.GraphProto) -> None:
    """An input dimension without size or symbol gets one, so that it can be followed."""
    names = g.Names(g.size_names(graph))
    for value in graph.input:
        for i, dim in enumerate(value.type.tensor_type.shape.dim):
            if g.dim_size(dim) is None and not dim.dim_param:
                dim.dim_param = names.new("batch" if i == 0 else f"{value.name}_dim{i}")


def _symbolic(
    name: str,
    made_by: Mapping[str, onnx.NodeProto],
    shapes: Mapping[str, tuple[g.Dim, ...]],
    weights: Mapping[str, g.Array],
) -> _Symbolic | None:
    """The integers held by a small tensor, with symbols where they depend on the input's shape."""
    if name in weights:
        return [int(v) for v in weights[name].reshape(-1)]
    node = made_by.get(name)
    if node is None:
        return None
    if g.is_standard(node, "Shape"):
        return _shape_slice(node, shapes.get(node.input[0]))
    if g.is_standard(node, "ConstantOfShape"):
        return _repeated(node, _symbolic(node.input[0], made_by, shapes, weights))
    if g.is_standard(node, *_ON_SIZES):
        reads = node.input[:1] if node.op_type in _ONE_INPUT else node.input
        values = [_symbolic(n, made_by, shapes, weights) for n in reads]
        known = [v for v in values if v is not None]
        return _combine(node.op_type, known) if len(known) == len(values) else None
    return None


def _repeated(node: onnx.NodeProto, count: _Symbolic | None) -> _Symbolic | None:
    """What a ConstantOfShape holds, where it is a list of integers."""
    given = [array_of(found.t).reshape(-1) for found in node.attribute if found.name == "value"]
    number = given[0] if given else np.zeros(1, np.float32)
    if count is None or len(count) != 1 or not isinstance(count[0], int) or count[0] > 16:
        return None
    return [int(number[0])] * count[0] if number.dtype.kind == "i" else None


def _combine(op_type: str, values: list[_Symbolic]) -> _Symbolic | None:
    if op_type == "Concat":
        return [d for value in values for d in value]
    if op_type == "Gather":
        data, indices = values
        ok = all(isinstance(i, int) and -len(data) <= i < len(data) for i in indices)
        return [data[i] for i in indices if isinstance(i, int)] if ok else None
    if op_type in ("Mul", "Equal"):
        return _by_value(op_type, *values)
    if op_type == "Where":
        chosen = zip(*values, strict=False)
        even = len({len(v) for v in values}) == 1
        return [a if condition else b for condition, a, b in chosen] if even else None
    if op_type == "Slice":  # data, starts, ends, axes, steps
        bounds = [i for v in values[1:] if len(v) == 1 for i in v if isinstance(i, int)]
        ok = len(bounds) == len(values) - 1 and bounds[2:] in ([], [0], [0, 1])
        return values[0][slice(*bounds[:2])] if ok else None
    return values[0]


def _by_value(op_type: str, first: _Symbolic, second: _Symbolic) -> _Symbolic | None:
    """The product, or whether they are equal; a symbol, a size that is not known, is never
    negative."""
    count = max(len(first), len(second))
    if {len(first), len(second)} - {1, count}:
        return None
    pairs = list(zip(first * (count // len(first)), second * (count // len(second)), strict=True))
    found: _Symbolic = []
    for a, b in pairs:
        if isinstance(a, int) and isinstance(b, int):
            found.append(a * b if op_type == "Mul" else int(a == b))
        elif op_type == "Equal" and (a == b or any(isinstance(x, int) and x < 0 for x in (a, b))):
            found.append(int(a == b))
        else:
            return None
    return found


def _same_batch(data: tuple[g.Dim, ...], target: _Symbolic) -> bool:
    """Whether the target keeps the first dimension and is known in the others."""
    return (
        len(target) > 1
        and target[0] is not None
        and (target[0] == data[0] or target[0] == 0)
        and all(isinstance(d, int) for d in target[1:])
    )


def _flattens(data: tuple[g.Dim, ...], target: _Symbolic) -> bool:
    if len(target) != 2 or len(data) < 2:
        return False
    rest = [d for d in data[1:] if isinstance(d, int)]
    size = int(np.prod(rest)) if len(rest) == len(data) - 1 else None
    keeps_rest = size is not None and target[1] == size
    if target[0] == -1:
        return keeps_rest
    return _same_batch(data, target) and (target[1] == -1 or keeps_rest)


def _make_flatten(node: onnx.NodeProto) -> None:
    node.op_type = "Flatten"
    del node.input[1:]
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("axis", 1))
