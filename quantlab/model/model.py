"""Model: an ONNX file, or OpenVINO IR, seen read-only."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from quantlab._util.files import write_together, write_whole
from quantlab.errors import ModelError, OutputError, shown
from quantlab.model import graph as g
from quantlab.model.ir import is_ir, read_ir, weights_path
from quantlab.model.kinds import ONNX_RUNTIME, OPENVINO, RuntimeName, output_kinds
from quantlab.model.kinds import Layout as Layout
from quantlab.model.kinds import OutputKind as OutputKind
from quantlab.model.kinds import TensorInfo as TensorInfo
from quantlab.model.large import kept_folder, load_weights, serialized
from quantlab.model.plain import has_zero_sizes, plain

MAX_BYTES = 2 * 1024**3
_QUANTIZED_OPS = {
    "QuantizeLinear",
    "DequantizeLinear",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLinear",
    "FakeQuantize",
    "FakeConvert",
}


@dataclass(frozen=True)
class InputSpec:
    """How the model wants its images: ``channels`` is 3 for colours and 1 for grey, ``batch`` None
    when any batch size goes."""

    name: str
    layout: Layout
    dtype: str
    height: int
    width: int
    batch: int | None
    channels: int = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of one image."""
        if self.layout == "NCHW":
            return self.channels, self.height, self.width
        return self.height, self.width, self.channels

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        return self.height, self.width


class _TemporaryFolder:
    """A folder that is removed once no object refers to it, or when Python ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="quantlab-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Another process may read the folder, and does not remove it."""
        return type(None), ()


@dataclass(frozen=True)
class Model:
    """An image classifier, ONNX or OpenVINO IR: one image input, a [N, classes] output, or [N, 1]
    for two classes. Never written to.

    ``input`` and ``output_kind`` are detected from the graph; ``with_overrides`` corrects them.
    ``size`` is the height and width in pixels of images where the graph leaves them free, one
    number where they are equal. Of several outputs the first [N, classes] is judged, or the one
    that ``output_name`` names, as it must where one has three dimensions, such as boxes;
    ``proto`` and ``runnable`` have it first, the others after it. ``runtime`` is what runs it. A
    model that was made in memory (``of``) has its file in a temporary folder, which is there as
    long as the Model is. ``source`` is the fp32 file that it was made from, where that is known.
    OpenVINO IR (``path`` ends in ``.xml``) can be run, by OpenVINO alone; it has no ``proto``.

    Examples:
        >>> from quantlab import Model
        >>> from quantlab.testing import example_model
        >>> model = Model.of(example_model().proto())
        >>> model.input.layout, model.input.height, model.num_classes, model.is_quantized
        ('NCHW', 32, 4, False)
    """

    path: Path
    sha256: str
    size_bytes: int
    opset: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    op_census: dict[str, int]
    output_kind: OutputKind
    metadata: dict[str, str]
    output_kinds: tuple[OutputKind, ...] = ()
    output_name: str | None = None
    layout: Layout | None = None
    label: str | None = None
    size: int | tuple[int, int] | None = None
    runtime: RuntimeName = ONNX_RUNTIME
    source: Path | None = field(default=None, compare=False)
    folder: _TemporaryFolder | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls, source: Model | Path | str | bytes | onnx.ModelProto, *, name: str | None = None
    ) -> Model:
        """A Model from whatever holds one.

        Args:
            source: a path, the bytes of an ONNX file, an ``onnx.ModelProto`` with all weights
                inside, or a Model, which is returned as it is.
            name: what to call it; by default the file's name, or "model".

        Raises:
            ModelError: it is not a usable ONNX model.
            OutputError: the temporary folder cannot be written.

        Examples:
            >>> from quantlab import Model
            >>> from quantlab.testing import example_model
            >>> model = example_model()
            >>> Model.of(model.path.read_bytes(), name="mine").name
            'mine'
        """
        if isinstance(source, onnx.ModelProto):
            try:
                source = source.SerializeToString()
            except Exception as error:  # protobuf's own kinds of error differ by version
                raise ModelError(
                    "the model is larger than 2 GiB, the limit of one ONNX protobuf."
                ) from error
        if isinstance(source, bytes):
            folder = _TemporaryFolder()
            called = name or "model"
            path = folder.path / f"{file_name(called)}.onnx"
            write_whole(path, source)
            made = replace(cls.load(path), label=called, folder=folder)
        else:
            made = source if isinstance(source, Model) else cls.load(source)
        return made if name is None else replace(made, label=name)

    @classmethod
    def of_ir(cls, contents: tuple[bytes, bytes], *, name: str) -> Model:
        """A Model of OpenVINO IR: what its .xml and its .bin hold.

        Raises ModelError, and OutputError when the temporary folder cannot be written.
        """
        folder = _TemporaryFolder()
        files = whole_files(folder.path / f"{file_name(name)}.xml")
        write_together(dict(zip(files, contents, strict=True)))
        return replace(cls.load(files[0]), label=name, folder=folder)

    def save(self, path: Path | str) -> Path:
        """Write the model to ``path``, whole or not at all, with its weights inside; as OpenVINO IR
        where the name ends in ``.xml``: its weights are the ``.bin`` beside it.

        Args:
            path: the file; one that is there is replaced.

        Returns:
            The path.

        Raises:
            OutputError: the file cannot be written, or is this model's own or the fp32 model's.
            ModelError: the model's file changed since it was loaded, or OpenVINO cannot convert it.
            MissingExtraError: OpenVINO is not installed.

        Examples:
            >>> from quantlab.testing import example_model
            >>> example_model().save("copy.onnx").name
            'copy.onnx'
        """
        path = Path(path)
        targets = whole_files(path)
        own = [f for one in (self.path, self.source) if one for f in whole_files(one)]
        for target in targets:
            if target.exists() and any(f.exists() and target.samefile(f) for f in own):
                raise OutputError(
                    f"{target} is an input, and inputs are never written.",
                    "Give another file name.",
                )
        self.check_unchanged()
        write_together(dict(zip(targets, self._contents(path), strict=True)))
        return path

    def _contents(self, path: Path) -> Sequence[bytes]:
        """What its files hold under the name ``path``."""
        if self.is_ir:
            if not is_ir(path):
                raise OutputError(
                    f"cannot write {path}: {self.path} is OpenVINO IR, and stays it.",
                    "Give a name that ends in .xml.",
                )
            return [file.read_bytes() for file in whole_files(self.path)]
        external = external_files(read_proto(self.path), self.path)
        if is_ir(path):
            from quantlab.runtime.openvino import ir_of

            return ir_of(self.path if external else self.path.read_bytes())
        return [self.proto().SerializeToString() if external else self.path.read_bytes()]

    zero_sizes: bool = False
    small_weights: bool = False

    @classmethod
    def load(cls, path: Path | str) -> Model:
        """Read the file's structure. Raises ModelError when it is no usable ONNX file or IR."""
        path = Path(path)
        if is_ir(path):
            return cls._load_ir(path)
        proto = read_proto(path)
        files = (path, *external_files(proto, path))
        zero_sizes = has_zero_sizes(proto.graph)
        proto = _plain(proto, path)
        outputs = tuple(_tensor_info(v) for v in proto.graph.output)
        kinds = output_kinds(proto.graph)
        return cls(
            path=path,
            sha256=file_sha256(*files),
            size_bytes=sum(file.stat().st_size for file in files),
            opset=main_opset(proto),
            inputs=_graph_inputs(proto),
            outputs=outputs,
            op_census=dict(Counter(_op_name(n) for n in proto.graph.node).most_common()),
            output_kind=kinds[_judged(outputs, None)] if kinds else "logits",
            output_kinds=kinds,
            metadata={p.key: p.value for p in proto.metadata_props},
            zero_sizes=zero_sizes,
        )

    @classmethod
    def _load_ir(cls, path: Path) -> Model:
        _check_is_file(path)
        ir = read_ir(path)
        files = whole_files(path)
        return cls(
            path=path,
            sha256=file_sha256(*files),
            size_bytes=sum(file.stat().st_size for file in files),
            opset=0,
            inputs=ir.inputs,
            outputs=ir.outputs,
            op_census=ir.op_census,
            output_kind=ir.output_kinds[_judged(ir.outputs, None)] if ir.outputs else "logits",
            output_kinds=ir.output_kinds,
            metadata=ir.metadata,
            runtime=OPENVINO,
            small_weights=ir.small_weights,
        )

    def proto(self) -> onnx.ModelProto:
        """A fresh copy of the graph, plain (see ``quantlab.model.plain``) and with all weights; a
        large model's are aside (see ``quantlab.model.large``). Free to be changed.

        Raises ModelError when its external data is incomplete, and for OpenVINO IR.
        """
        self.check_onnx()
        proto = _plain(read_proto(self.path), self.path)
        try:
            load_weights(proto, self.path.parent)
        except (ValueError, OSError, onnx.checker.ValidationError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ModelError(
                f"{self.path}: its external data cannot be read: {reason}",
                "Fetch or export it again.",
            ) from error
        if self.judged_index:
            outputs = list(proto.graph.output)
            first = outputs.pop(self.judged_index)
            kept = [
                onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in (first, *outputs)
            ]
            del proto.graph.output[:]
            proto.graph.output.extend(kept)
        return proto

    @property
    def judged(self) -> TensorInfo:
        """The output that is judged."""
        return self.outputs[self.judged_index]

    @property
    def judged_index(self) -> int:
        """Its place among the outputs."""
        return _judged(self.outputs, self.output_name)

    @cached_property
    def runnable(self) -> Path:
        """The file for a runtime: ``path``, or a plain copy of one whose free sizes are written as
        0, or whose judged output is not the first. IR's is ``path``, with its outputs as they are.
        """
        if self.is_ir or (not self.zero_sizes and not self.judged_index):
            return self.path
        copy = kept_folder() / f"{self.sha256}-{self.judged_index}.onnx"
        part = copy.with_suffix(f".{os.getpid()}")
        part.write_bytes(serialized(self.proto(), str(self.path)))
        part.replace(copy)
        return copy

    @property
    def name(self) -> str:
        """What to call it: its ``title``, with the runtime where that is not ONNX Runtime."""
        return self.title + runtime_suffix(self.runtime)

    @property
    def title(self) -> str:
        """``label``, or the file's name without the ending."""
        return self.label or self.path.stem

    @property
    def is_ir(self) -> bool:
        """Whether it is OpenVINO IR, which only OpenVINO runs."""
        return is_ir(self.path)

    def check_onnx(self) -> None:
        """Raises ModelError for OpenVINO IR."""
        if self.is_ir:
            raise ModelError(
                f"{self.path} is OpenVINO IR: it can be run, not quantized or inspected node by "
                "node.",
                "Give the ONNX file that it was made of.",
            )

    @property
    def is_quantized(self) -> bool:
        """Whether the graph already holds quantized operators, or of IR quantized weights."""
        return self.small_weights or any(
            op in _QUANTIZED_OPS or "QLinear" in op for op in self.op_census
        )

    @cached_property
    def input(self) -> InputSpec:
        """The image input. Raises ModelError unless there is exactly one, of four dimensions."""
        if len(self.inputs) != 1:
            names = shown(", ".join(t.name for t in self.inputs)) or "none"
            raise ModelError(
                f"{self.path}: an image classifier has one input, this model has "
                f"{len(self.inputs)} ({names})."
            )
        return _input_spec(self.inputs[0], self.layout, self.size, self.path)

    @cached_property
    def num_classes(self) -> int:
        """The number of classes. Raises ModelError when the output is not [N, classes]."""
        found = ", ".join(f"{shown(t.name)} {_shape_text(t.shape)}" for t in self.outputs)
        if self.output_name not in (None, *(t.name for t in self.outputs)):
            raise ModelError(
                f"{self.path} has no output called {shown(self.output_name or '')}.",
                f"Its outputs: {found}.",
            )
        boxes = self.output_name is None and any(len(t.shape) == 3 for t in self.outputs)
        if self.outputs and not boxes and (classes := _classes(self.judged)):
            return classes
        raise ModelError(
            f"{self.path}: not an image classifier: its output must be one [N, classes] tensor, "
            f"found {found}.",
            "Detection, segmentation and embedding models are not supported; of a classifier with "
            "several outputs --output-name names the one of classes.",
        )

    def with_overrides(
        self,
        *,
        layout: Layout | None = None,
        output_kind: OutputKind | None = None,
        size: int | tuple[int, int] | None = None,
        output_name: str | None = None,
        runtime: RuntimeName | None = None,
    ) -> Model:
        """The same model with what was detected wrongly set right, and what is free settled.

        Raises ModelError when another runtime than OpenVINO is to run IR.
        """
        if self.is_ir and runtime not in (None, OPENVINO):
            raise ModelError(
                f"{self.path} is OpenVINO IR, which ONNX Runtime does not run.",
                "Leave the runtime out, or give the ONNX file that it was made of.",
            )
        chosen = _judged(self.outputs, output_name) if output_name else None
        detected = self.output_kind if chosen is None else self.output_kinds[chosen]
        return replace(
            self,
            layout=layout or self.layout,
            output_kind=output_kind or detected,
            size=size or self.size,
            output_name=output_name or self.output_name,
            runtime=runtime or self.runtime,
        )

    def like(self, other: Model) -> Model:
        """The same model, read and run as the other one is: layout, size, judged output and its
        kind, runtime where it has the choice."""
        return self.with_overrides(
            layout=other.layout,
            output_kind=other.output_kind,
            size=other.size,
            output_name=other.output_name,
            runtime=None if self.is_ir else other.runtime,
        )

    def check_classifier(self) -> Model:
        """Itself. Raises ModelError unless it has one image input and a [N, classes] output."""
        _ = self.input, self.num_classes
        return self

    def check_unchanged(self) -> None:
        """Raises ModelError when the file on disk is no longer the one that was loaded."""
        if file_sha256(*model_files(self.path)) != self.sha256:
            raise ModelError(f"{self.path} changed while quantlab was reading it.", "Run again.")


def model_files(path: Path) -> tuple[Path, ...]:
    """The file with those that are read with it: external data, IR's weights. Raises ModelError."""
    if is_ir(path):
        _check_is_file(path)
        read_ir(path)
        return whole_files(path)
    return (path, *external_files(read_proto(path), path))


def whole_files(path: Path) -> tuple[Path, ...]:
    """The files of a model that has no external data: two of IR."""
    return (path, weights_path(path)) if is_ir(path) else (path,)


def runtime_suffix(runtime: str) -> str:
    """``@openvino`` behind a model's name; nothing for ONNX Runtime."""
    return "" if runtime == ONNX_RUNTIME else f"@{runtime}"


def file_name(name: str) -> str:
    """A model's name as a file may be called, without an ending."""
    return re.sub(r"[^\w.+-]", "_", name)[:100]


def _plain(proto: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    try:
        return plain(proto)
    except ModelError as error:
        raise ModelError(f"{path}: {error.problem}", error.remedy) from error


def read_proto(path: Path) -> onnx.ModelProto:
    """The protobuf without its external data. Raises ModelError with the reason in plain words."""
    _check_is_file(path)
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(f"{path} is larger than 2 GiB, the limit of one ONNX protobuf.")
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ModelError(f"{path} cannot be read: {reason}.") from error
    except DecodeError as error:
        raise ModelError(
            f"{path} is not a readable ONNX file: it is truncated or of another format.",
            "Fetch or export it again; a complete file passes onnx.checker.check_model.",
        ) from error
    _check_structure(proto, path)
    return proto


def _check_is_file(path: Path) -> None:
    if not path.exists():
        raise ModelError(
            f"{path}: no such model file.", "quantlab recipes lists the models it can fetch."
        )
    if not path.is_file():
        raise ModelError(f"{path} is not a file.", "Give the path of an .onnx file.")
    graph = path.with_suffix(".xml")
    if path == weights_path(graph) and graph.is_file():
        raise ModelError(f"{path} holds the weights of OpenVINO IR.", f"Give {graph}.")


def _check_structure(proto: onnx.ModelProto, path: Path) -> None:
    if not proto.graph.node or not proto.opset_import:
        raise ModelError(
            f"{path} is not an ONNX model: it holds no graph.", "Give the path of an .onnx file."
        )
    if any(isinstance(name, bytes) for name in _names(proto)):
        raise ModelError(
            f"{path} has names that are not UTF-8: the file is damaged.",
            "Fetch or export it again.",
        )
    for file in external_files(proto, path):
        if not file.is_file():
            raise ModelError(f"{path}: its external data file {shown(file.name)} is missing.")
    for tensor in proto.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL and not _payload_fits(tensor):
            raise ModelError(
                f"{path}: the weight {shown(tensor.name)} is incomplete: the file is damaged.",
                "Fetch or export it again.",
            )


def _names(proto: onnx.ModelProto) -> Iterator[str | bytes]:
    """All texts that are used as such; what is not UTF-8 protobuf gives as bytes."""
    yield from (opset.domain for opset in proto.opset_import)
    yield from (text for entry in proto.metadata_props for text in (entry.key, entry.value))
    for part in _all_graphs(proto.graph):
        yield from (v.name for v in (*part.input, *part.output, *part.value_info))
        for node in part.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
            yield from (attribute.name for attribute in node.attribute)
    for function in proto.functions:
        yield from (function.name, function.domain, *function.input, *function.output)
        for node in function.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    for tensor in _all_tensors(proto):
        yield tensor.name
        yield from (entry.value for entry in tensor.external_data)


def _payload_fits(tensor: onnx.TensorProto) -> bool:
    try:
        if not tensor.HasField("raw_data"):
            return onnx.numpy_helper.to_array(tensor).shape == tuple(tensor.dims)
        bits = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
    except (KeyError, TypeError, ValueError):
        return False
    if tensor.data_type in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        bits = 4
    count = math.prod(tensor.dims)
    return min(tensor.dims, default=0) >= 0 and len(tensor.raw_data) * 8 >= count * bits


def external_location(tensor: onnx.TensorProto) -> str:
    """The relative path of the tensor's external data, or ''."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return ""
    return next((e.value for e in tensor.external_data if e.key == "location"), "")


def external_files(proto: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """The external data files, by name. Raises ModelError for one outside the model's folder."""
    folder = path.parent.resolve()
    files = set()
    for tensor in _all_tensors(proto):
        location = external_location(tensor)
        if not location:
            continue
        try:
            file = (folder / location).resolve()
            file.is_file()
        except (OSError, ValueError) as error:  # a name too long, or with a zero byte
            raise ModelError(
                f"{path}: the weight {shown(tensor.name)} has an impossible place."
            ) from error
        if not file.is_relative_to(folder):
            raise ModelError(
                f"{path}: the weight {shown(tensor.name)} points outside the model's folder "
                f"({shown(location)})."
            )
        files.add(file)
    return tuple(sorted(files))


def _all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The stored tensors of the graph, the graphs inside its nodes, and the functions."""
    inner = (s for f in proto.functions for node in f.node for s in g.subgraphs(node))
    graphs = [part for graph in (proto.graph, *inner) for part in _all_graphs(graph)]
    for graph in graphs:
        yield from graph.initializer
    for part in (*graphs, *proto.functions):
        for attribute in (a for node in part.node for a in node.attribute):
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for inner in g.subgraphs(node):
            yield from _all_graphs(inner)


def file_sha256(*paths: Path) -> str:
    """The sha256 of the files' contents one after the other, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def main_opset(proto: onnx.ModelProto) -> int:
    """The version of the standard operator set that the graph uses."""
    return next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)


def _op_name(node: onnx.NodeProto) -> str:
    return node.op_type


def _graph_inputs(proto: onnx.ModelProto) -> tuple[TensorInfo, ...]:
    weights = {t.name for t in proto.graph.initializer}
    return tuple(_tensor_info(v) for v in proto.graph.input if v.name not in weights)


def _tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    shape = tuple(map(g.dim_size, tensor.shape.dim))
    return TensorInfo(value.name, _dtype_name(tensor.elem_type), shape)


def _dtype_name(elem_type: int) -> str:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
    except (KeyError, TypeError):
        return f"type {elem_type}"


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("N" if d is None else str(d) for d in shape) + "]"


_USUAL_SIZE = 224


def _input_spec(
    tensor: TensorInfo, layout: Layout | None, size: int | tuple[int, int] | None, path: Path
) -> InputSpec:
    shape = tensor.shape
    what = f"{path}: the input {shown(tensor.name)} is {tensor.dtype} {_shape_text(shape)}"
    if len(shape) != 4 or tensor.dtype not in ("float32", "uint8"):
        raise ModelError(
            f"{what}, not float32 or uint8 images of shape [N, 3, H, W] or [N, H, W, 3].",
            "Export the model for a batch of images.",
        )
    chosen = layout or _layout(shape)
    if chosen is None or shape[_CHANNELS[chosen]] not in (1, 3, None):
        remedy = _channel_remedy(shape, layout)
        raise ModelError(f"{what}: {_channel_problem(shape, layout)}", remedy)
    layout = chosen
    sides = shape[2:] if layout == "NCHW" else shape[1:3]
    wanted = (size, size) if size is None or isinstance(size, int) else size
    if any(w is not None and side not in (None, w) for side, w in zip(sides, wanted, strict=True)):
        raise ModelError(
            f"{path}: the input {shown(tensor.name)} is {_shape_text(shape)}: its graph takes no "
            f"images of {wanted[0]} x {wanted[1]}.",
            "Leave --size out, or export the model with free height and width.",
        )
    height, width = (side or w or _USUAL_SIZE for side, w in zip(sides, wanted, strict=True))
    channels = shape[_CHANNELS[layout]] or 3
    return InputSpec(tensor.name, layout, tensor.dtype, height, width, shape[0], channels)


_CHANNELS: dict[Layout, int] = {"NCHW": 1, "NHWC": 3}
"""Where each layout has its channels."""


def _layout(shape: tuple[int | None, ...]) -> Layout | None:
    """By where three channels are, or else one."""
    known = ((layout, count) for count in (3, 1) for layout in _CHANNELS)
    return next((x for x, count in known if shape[_CHANNELS[x]] == count), None)


def _free_layouts(shape: tuple[int | None, ...]) -> list[Layout]:
    """Those in which the number of channels is left open."""
    return [layout for layout, place in _CHANNELS.items() if shape[place] is None]


def _channel_problem(shape: tuple[int | None, ...], layout: Layout | None) -> str:
    if layout is not None:
        return f"as {layout} it has {shape[_CHANNELS[layout]]} channels, and images have 3 or 1."
    if _free_layouts(shape):
        return "it does not tell where its channels are."
    return "neither its second nor its last size is 3 channels (colours) or 1 (grey)."


def _channel_remedy(shape: tuple[int | None, ...], layout: Layout | None) -> str:
    if layout is not None and _layout(shape) is not None:
        return "Leave --layout out: it is told by the shape."
    if free := [x for x in _free_layouts(shape) if x != layout]:
        return f"Give {' or '.join(f'--layout {x}' for x in free)}."
    return "quantlab feeds images of 3 or 1 channels only: this model is beyond it."


def _classes(output: TensorInfo) -> int:
    """The number of classes of a [N, classes] output, two where it is [N, 1]; 0 for any other."""
    size = output.shape[1] if len(output.shape) == 2 else None
    return 0 if size is None else max(size, 2)


def _judged(outputs: Sequence[TensorInfo], name: str | None) -> int:
    """The place of the output of that name, else of the first [N, classes] of more than one number,
    else of the first [N, 1], else 0."""
    named = [i for i, output in enumerate(outputs) if output.name == name]
    classes = [i for i, output in enumerate(outputs) if _classes(output)]
    several = [i for i in classes if outputs[i].shape[1] != 1]
    return next(iter([*named, *several, *classes]), 0)
