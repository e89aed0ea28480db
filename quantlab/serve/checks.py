"""Check whether an upload is a usable model: valid ONNX, a classifier, of known operators, of
bounded tensors, complete.

An upload is one ``.onnx`` file, or a zip of one and its external data. It is looked at in a
confined child (``{"task": "check"}``): protobuf, ONNX's checker and ONNX Runtime are C++ that has
met few hostile files.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from pydantic import BaseModel, ConfigDict

from quantlab.errors import ModelError, shown
from quantlab.model.graph import dim_size
from quantlab.model.model import Model, external_files, external_location, read_proto
from quantlab.model.plain import expanded_nodes
from quantlab.serve.packed import REMEDY, Bounds, is_packed, plain_name, too_large, unpack

LOOPS = frozenset({"Loop", "Scan", "SequenceMap"})
FOLDER = "model"
"""In it the files of the upload are put; the model's name in it is the upload's own, or this."""
MAX_NAME = 1_000


class ModelFacts(BaseModel):
    """A usable model: its ``files`` in their folder, the model first, and what it is.

    ``sha256`` is over the contents of all files, as ``Model.sha256``; ``input_shape`` has None
    where the graph leaves a dimension free.
    """

    model_config = ConfigDict(frozen=True)

    files: tuple[str, ...]
    sha256: str
    size_bytes: int
    opset: int
    input_name: str
    input_type: str
    input_shape: tuple[int | None, ...]
    classes: int
    output_kind: str
    quantized: bool
    operators: dict[str, int]


def check_upload(file: Path, folder: Path, bounds: Bounds, name: str = "model.onnx") -> ModelFacts:
    """The facts of the model in an upload, whose files are then in ``folder``/FOLDER, which must
    not exist. ``name`` is what a plain file is called there.

    Raises ModelError for what may not be used.
    """
    place = folder / FOLDER
    place.mkdir()
    if is_packed(file):
        path = unpack(file, place, bounds)
    else:
        if file.stat().st_size > bounds.max_bytes:
            raise too_large(bounds)
        path = place / name
        shutil.copyfile(file, path)
    return check_model(path, place, bounds)


def check_model(path: Path, folder: Path, bounds: Bounds) -> ModelFacts:
    """The facts of a model file of ``folder``, whose external data lies beside or beneath it.

    The graph is looked at before ONNX's checker and ONNX Runtime see it; one image of zeros is run.
    Raises ModelError.
    """
    proto = read_proto(path)
    _check_graphs(proto, path, bounds)
    _check_validity(path)
    model = Model.load(path).check_classifier()
    _check_answer(model)
    files = [path, *external_files(proto, path)]
    return ModelFacts(
        files=tuple(file.resolve().relative_to(folder.resolve()).as_posix() for file in files),
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        opset=model.opset,
        input_name=model.input.name,
        input_type=model.input.dtype,
        input_shape=model.inputs[0].shape,
        classes=model.num_classes,
        output_kind=model.output_kind,
        quantized=model.is_quantized,
        operators=model.op_census,
    )


def _check_graphs(proto: onnx.ModelProto, path: Path, bounds: Bounds) -> None:
    """Raises ModelError for what is beyond the bounds in any graph of the model."""
    if proto.training_info:
        raise ModelError(f"{path} holds a training graph.", "Export it for inference.")
    if any(opset.version > bounds.max_opset for opset in proto.opset_import):
        raise ModelError(f"{path} needs an opset above {bounds.max_opset}.", REMEDY)
    for function in proto.functions:
        _check_domain(function.domain, function.name, path, bounds)
    for value in (*proto.graph.input, *proto.graph.output):
        if len(value.name) > MAX_NAME:
            raise ModelError(f"{path}: a name has more than {MAX_NAME} characters.", REMEDY)
    for count, node in enumerate(_nodes(proto, path, bounds.max_depth), 1):
        if count > bounds.max_nodes:
            raise ModelError(f"{path} has more than {bounds.max_nodes:,} nodes.", REMEDY)
        _check_domain(node.domain, node.op_type, path, bounds)
        if node.op_type in LOOPS and not bounds.loops:
            raise ModelError(f"{path} has a {node.op_type}: loops are not let through.", REMEDY)
    for tensor in _tensors(proto, path, bounds.max_depth):
        _check_tensor(tensor, path, bounds)
    for value in _values(proto, path, bounds.max_depth):
        sizes = map(dim_size, value.type.tensor_type.shape.dim)
        _check_sizes([size or 1 for size in sizes], value.name, path, bounds)
    if expanded_nodes(proto) > bounds.max_nodes:
        raise ModelError(
            f"{path}: its functions unfold to more than {bounds.max_nodes:,} nodes.", REMEDY
        )


def _check_domain(domain: str, name: str, path: Path, bounds: Bounds) -> None:
    if domain not in bounds.domains:
        known = ", ".join(filter(None, bounds.domains))
        raise ModelError(
            f"{path}: the operator {shown(name)} is of the domain {shown(domain)}.",
            f"Operators of these domains are let through: {known}.",
        )


def _check_tensor(tensor: onnx.TensorProto, path: Path, bounds: Bounds) -> None:
    _check_sizes(tensor.dims, tensor.name, path, bounds)
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return
    location = external_location(tensor)
    file = path.parent / location
    if not plain_name(location) or not file.is_file() or file.is_symlink():
        raise ModelError(
            f"{path}: the external data of {shown(tensor.name)} is not in the upload.",
            "Zip the model with its external data, or save it as one file.",
        )


def _check_sizes(sizes: Sequence[int], name: str, path: Path, bounds: Bounds) -> None:
    beyond = len(sizes) > bounds.max_dimensions or math.prod(sizes) > bounds.max_elements
    if beyond or min(sizes, default=0) < 0:
        raise ModelError(
            f"{path}: the tensor {shown(name)} has an impossible or too large shape.",
            f"A tensor may have {bounds.max_elements:,} elements in {bounds.max_dimensions} "
            "dimensions.",
        )


def _graphs(proto: onnx.ModelProto, path: Path, depth: int) -> Iterator[onnx.GraphProto]:
    """The model's graph and all graphs inside nodes, also of functions."""
    level = [proto.graph]
    nodes: Iterable[onnx.NodeProto] = (n for f in proto.functions for n in f.node)
    inner = list(_inside(nodes))
    for _ in range(depth + 1):
        if not level:
            return
        yield from level
        level = [*_inside(n for graph in level for n in graph.node), *inner]
        inner = []
    raise ModelError(f"{path} has graphs in graphs, more than {depth} deep.", REMEDY)


def _inside(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from attribute.graphs
            if attribute.HasField("g"):
                yield attribute.g


def _nodes(proto: onnx.ModelProto, path: Path, depth: int) -> Iterator[onnx.NodeProto]:
    for owner in (*_graphs(proto, path, depth), *proto.functions):
        yield from owner.node


def _values(proto: onnx.ModelProto, path: Path, depth: int) -> Iterator[onnx.ValueInfoProto]:
    for graph in _graphs(proto, path, depth):
        yield from (*graph.input, *graph.output, *graph.value_info)


def _tensors(proto: onnx.ModelProto, path: Path, depth: int) -> Iterator[onnx.TensorProto]:
    """All stored tensors. Raises ModelError for sparse ones, which little software reads."""
    for graph in _graphs(proto, path, depth):
        yield from graph.initializer
        if graph.sparse_initializer:
            raise ModelError(f"{path} has sparse tensors.", "Save them as dense ones.")
    for node in _nodes(proto, path, depth):
        for attribute in node.attribute:
            yield from (*attribute.tensors, *([attribute.t] if attribute.HasField("t") else []))
            if attribute.sparse_tensors or attribute.HasField("sparse_tensor"):
                raise ModelError(f"{path} has sparse tensors.", "Save them as dense ones.")


def _check_validity(path: Path) -> None:
    """Raises ModelError with the first line of what ONNX's checker says."""
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        reason = shown(str(error).strip().partition("\n")[0], 300).rstrip(".")
        raise ModelError(f"{path} is not valid ONNX: {reason}.", REMEDY) from error


def _check_answer(model: Model) -> None:
    """Raises ModelError unless ONNX Runtime runs it on one image, and it answers as it promises."""
    from quantlab.runtime.runner import Runner  # ONNX Runtime: for the child only

    spec = model.input
    with Runner(model, threads=1) as run:
        answer = run(np.zeros((1, *spec.shape), spec.dtype))
    if answer.shape != (1, model.num_classes):
        raise ModelError(
            f"{model.path} promises {model.num_classes} classes, but answers {answer.shape[1]}.",
            REMEDY,
        )
