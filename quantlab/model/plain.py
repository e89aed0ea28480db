"""Normalize an ONNX model: inline local functions, free sizes of −1 or 0."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import inliner

from quantlab.errors import ModelError, shown
from quantlab.model import graph as g
from quantlab.model.large import without_weights

MAX_NODES = 1_000_000
"""Nodes that a model may have once its functions are put where they are called."""
_MAX_DEPTH = 50
_Key = tuple[str, str, str]


def plain(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without local functions and with every size positive or free.

    ``proto`` itself may be changed. Raises ModelError for functions that cannot be resolved.
    """
    proto = inlined(proto)
    free_sizes(proto.graph)
    return proto


def free_sizes(graph: onnx.GraphProto) -> None:
    """In place: free the sizes of −1 or 0, by which paddle2onnx and MindSpore mean free ones."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.HasField("tensor_type"):
            for dim in value.type.tensor_type.shape.dim:
                if dim.HasField("dim_value") and g.dim_size(dim) is None:
                    dim.ClearField("dim_value")


def has_zero_sizes(graph: onnx.GraphProto) -> bool:
    """Whether a size is 0, which ONNX Runtime takes by its word, as it does not a negative one."""
    values = (*graph.input, *graph.output, *graph.value_info)
    dims = (d for v in values for d in v.type.tensor_type.shape.dim)
    return any(d.HasField("dim_value") and d.dim_value == 0 for d in dims)


def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every local function put where it is called.

    A function that shadows an operator of ONNX or ONNX Runtime is left out: ONNX Runtime computes
    the operator. Raises ModelError.
    """
    if not proto.functions:
        return proto
    _drop_shadows(proto)
    if expanded_nodes(proto) > MAX_NODES:
        raise ModelError(
            f"the model's functions unfold to more than {MAX_NODES:,} nodes.",
            "Export it without functions.",
        )
    try:
        made = without_weights(_inline, proto)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = shown(str(error).strip().partition("\n")[0], 300).rstrip(".")
        raise ModelError(
            f"the model's functions cannot be put where they are called: {reason}.",
            "Export it without functions.",
        ) from error
    if made.functions:
        names = shown(", ".join(f.name for f in made.functions))
        raise ModelError(
            f"the model's functions {names} cannot be put where they are called.",
            "Export it without functions, or with one version of the operator set for all.",
        )
    return made


def _inline(proto: onnx.ModelProto) -> onnx.ModelProto:
    made: onnx.ModelProto = inliner.inline_local_functions(proto, convert_version=True)
    return made


def _drop_shadows(proto: onnx.ModelProto) -> None:
    kept = [f for f in proto.functions if not _is_operator(f.domain, f.name)]
    if len(kept) < len(proto.functions):
        copies = [onnx.FunctionProto.FromString(f.SerializeToString()) for f in kept]
        del proto.functions[:]
        proto.functions.extend(copies)


def _is_operator(domain: str, name: str) -> bool:
    if domain in ("", "ai.onnx"):
        return onnx.defs.has(name)
    if not domain.startswith("com.microsoft"):
        return False
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # seldom needed

    return any((s.domain, s.name) == (domain, name) for s in state.get_all_operator_schema())


def expanded_nodes(proto: onnx.ModelProto) -> int:
    """How many nodes the model has once functions are put where they are called; those in
    subgraphs count. Raises ModelError for a function that calls itself, or too deep a nesting."""
    functions = {(f.domain, f.name, f.overload): f for f in proto.functions}
    known: dict[_Key, int] = {}

    def count(nodes: Iterable[onnx.NodeProto], above: tuple[_Key, ...]) -> int:
        return sum(one(node, above) for node in nodes)

    def one(node: onnx.NodeProto, above: tuple[_Key, ...]) -> int:
        key = (node.domain, node.op_type, node.overload)
        inner = sum(count(graph.node, above) for graph in g.subgraphs(node))
        if key not in functions:
            return 1 + inner
        if key in above or len(above) >= _MAX_DEPTH:
            why = "calls itself" if key in above else f"is called more than {_MAX_DEPTH} deep"
            raise ModelError(
                f"the model's function {shown(node.op_type)} {why}.", "Export it without functions."
            )
        if key not in known:
            known[key] = count(functions[key].node, (*above, key))
        return known[key] + inner

    return count(proto.graph.node, ())
