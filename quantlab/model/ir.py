"""Read OpenVINO IR: a graph in ``NAME.xml``, its constants in ``NAME.bin``.

Read as text by its elements, bounded, without entities; OpenVINO itself is not needed for it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from xml.parsers import expat

from quantlab.errors import ModelError, shown
from quantlab.model.kinds import OutputKind, TensorInfo, kind_of

MAX_BYTES = 64 * 1024**2
"""Of the .xml: those of large networks have a few MiB."""
_NO_OPERATORS = {"Const", "Parameter", "Result"}
_PASS_THROUGH = {
    "Squeeze",
    "Unsqueeze",
    "Reshape",
    "Convert",
    "FakeQuantize",
    "Multiply",
    "Subtract",
}
_FLOAT = re.compile(r"(b?f|fp)\d+$")
_SMALL = re.compile(r"[ui][1-8]$")
"""Integers in which weights are stored."""
_NAMES = {"boolean": "bool", "bf16": "bfloat16"}
_LAYER = ["net", "layers", "layer"]

Port: TypeAlias = tuple[str, str]
"""The ids of a layer and of one of its ports."""


@dataclass(frozen=True)
class Ir:
    """What the .xml says: inputs and outputs in their order, how often there is which
    operator, ``metadata`` (quantlab's stamp among it), whether weights are stored as small
    integers, how large the ``.bin`` is."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    output_kinds: tuple[OutputKind, ...]
    op_census: dict[str, int]
    metadata: dict[str, str]
    small_weights: bool
    weight_bytes: int


def is_ir(path: Path) -> bool:
    """Whether the name is that of an IR."""
    return path.suffix.lower() == ".xml"


def weights_path(path: Path) -> Path:
    """The ``.bin`` of the ``.xml``."""
    return path.with_suffix(".bin")


def read_ir(path: Path) -> Ir:
    """The IR, whose ``.bin`` is there and as large as its constants need. Raises ModelError."""
    found, weights = _parsed(path), weights_path(path)
    if not weights.is_file():
        raise ModelError(
            f"{path}: its weights {shown(weights.name)} are missing.",
            "Put the .bin that was written with it beside it, under the same name.",
        )
    size = weights.stat().st_size
    if size != found.weight_bytes:
        raise ModelError(
            f"{path}: {shown(weights.name)} has {size:,} bytes, and its constants need "
            f"{found.weight_bytes:,}.",
            "Put the .bin that was written with it beside it, or export both again.",
        )
    return found


def _parsed(path: Path) -> Ir:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is larger than {MAX_BYTES >> 20} MiB: it is no graph.")
        reader = _Reader(path)
        reader.parser.Parse(path.read_bytes(), True)
        return reader.ir()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ModelError(f"{path} cannot be read: {reason}.") from error
    except (expat.ExpatError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise ModelError(
            f"{path} is not readable OpenVINO IR: it is truncated or damaged.",
            "Export it again, both the .xml and the .bin.",
        ) from error


@dataclass
class _Layer:
    """One layer with its ports' shapes, those that it reads and those that it makes."""

    name: str
    kind: str
    data: dict[str, str] = field(default_factory=dict)
    read: dict[str, _PortInfo] = field(default_factory=dict)
    made: dict[str, _PortInfo] = field(default_factory=dict)
    output_names: str = ""


@dataclass
class _PortInfo:
    names: str
    precision: str
    dims: list[int | None] = field(default_factory=list)


class _Reader:
    """Collects the layers of the outermost graph, its edges and the notes behind them; of the
    graphs inside layers the places of their constants alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layers: dict[str, _Layer] = {}
        self.made_by: dict[Port, Port] = {}
        self.metadata: dict[str, str] = {}
        self.weight_bytes = 0
        self._open: list[str] = []
        self._layer: _Layer | None = None
        self._port: _PortInfo | None = None
        self._kind = self._text = ""
        self.parser: Any = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._said

    def _refuse(self, *_: object) -> None:
        raise ModelError(
            f"{self.path} has a document type: it may name other files, and is not read.",
            "Export it again with openvino.save_model, which writes none.",
        )

    def _start(self, tag: str, values: dict[str, str]) -> None:
        if not self._open and tag != "net":
            raise ModelError(
                f"{self.path} is not OpenVINO IR: it begins with <{shown(tag)}>, not with <net>.",
                "Give the .xml that openvino.save_model wrote, or an .onnx file.",
            )
        self._open.append(tag)
        if tag == "layer":
            self._kind = values["type"]
        match self._open:
            case ["net", "layers", "layer"]:
                self._layer = _Layer(values["name"], values["type"])
                self._layer.output_names = values.get("output_names", "")
                self.layers[values["id"]] = self._layer
            case ["net", "layers", "layer", "data"] if self._layer is not None:
                self._layer.data = values
            case ["net", "layers", "layer", ("input" | "output") as side, "port"]:
                self._port = _PortInfo(values.get("names", ""), values.get("precision", ""))
                if self._layer is not None:
                    ports = self._layer.read if side == "input" else self._layer.made
                    ports[values["id"]] = self._port
            case ["net", "edges", "edge"]:
                reader = values["to-layer"], values["to-port"]
                self.made_by[reader] = values["from-layer"], values["from-port"]
            case ["net", "rt_info", *between, _] if "value" in values:
                key = ".".join((*between, values.get("name", tag)))
                self.metadata[key.removeprefix("framework.")] = values["value"]
        if tag == "data" and self._kind == "Const":
            end = int(values["offset"]) + int(values["size"])
            self.weight_bytes = max(self.weight_bytes, end)

    def _said(self, text: str) -> None:
        if self._open[-1] == "dim":
            self._text += text

    def _end(self, tag: str) -> None:
        if tag == "dim" and self._port is not None and self._open[:3] == _LAYER:
            size = int(self._text)
            self._port.dims.append(None if size < 0 else size)
        self._text = ""
        self._open.pop()

    def ir(self) -> Ir:
        """What was read. Raises ModelError without a graph, KeyError for edges from nowhere."""
        census = Counter(x.kind for x in self.layers.values() if x.kind not in _NO_OPERATORS)
        if not census:
            raise ModelError(f"{self.path} is not OpenVINO IR: it holds no graph.")
        results = [key for key, layer in self.layers.items() if layer.kind == "Result"]
        given = [layer for layer in self.layers.values() if layer.kind == "Parameter"]
        made = {
            "/".join(port): (layer.kind, self._first_input(key))
            for key, layer in self.layers.items()
            for port in ((key, number) for number in layer.made)
        }
        outputs = tuple(self._output(key) for key in results)
        return Ir(
            inputs=tuple(map(_input, given)),
            outputs=outputs,
            output_kinds=tuple(
                kind_of(self._first_input(key), o.shape[1:] == (1,), made, _PASS_THROUGH)
                for key, o in zip(results, outputs, strict=True)
            ),
            op_census=dict(census.most_common()),
            metadata=self.metadata,
            small_weights=self._has_small_weights(),
            weight_bytes=self.weight_bytes,
        )

    def _first_input(self, key: str) -> str:
        """What is read by the layer's first port, "" for a layer that reads nothing."""
        ports = self.layers[key].read
        return "/".join(self.made_by[key, _first(ports)]) if ports else ""

    def _output(self, key: str) -> TensorInfo:
        layer = self.layers[key]
        maker, number = self.made_by[key, _first(layer.read)]
        port = self.layers[maker].made[number]
        name = _first_name(layer.output_names) or _first_name(port.names)
        return TensorInfo(
            name or self.layers[maker].name, _dtype(port.precision.lower()), tuple(port.dims)
        )

    def _has_small_weights(self) -> bool:
        """Whether stored integers are made floats: so weights are kept that were quantized."""
        return any(
            source.kind == "Const"
            and layer.kind == "Convert"
            and _SMALL.match(source.data.get("element_type", ""))
            and _FLOAT.match(layer.data.get("destination_type", ""))
            for (key, _), (maker, _) in self.made_by.items()
            for layer, source in [(self.layers[key], self.layers[maker])]
        )


def _input(layer: _Layer) -> TensorInfo:
    port = layer.made[_first(layer.made)]
    shape = layer.data.get("shape", "")
    dims = tuple(int(d) if d.isdecimal() else None for d in shape.split(",")) if shape else ()
    kind = layer.data.get("element_type") or port.precision.lower()
    return TensorInfo(_first_name(port.names) or layer.name, _dtype(kind), dims)


def _first(ports: Mapping[str, object]) -> str:
    first, *_ = ports  # ValueError where there is none, as of all that is damaged
    return first


def _first_name(names: str) -> str:
    """Of those that a port or a result has, with commas between them; one in a name is escaped."""
    return re.split(r"(?<!\\),", names)[0].replace("\\,", ",")


def _dtype(kind: str) -> str:
    """numpy's name: float32 of f32 and of fp32, uint8 of u8."""
    if found := re.fullmatch(r"(f|fp|i|u)(\d+)", kind):
        family = {"f": "float", "fp": "float", "i": "int", "u": "uint"}[found[1]]
        return f"{family}{found[2]}"
    return _NAMES.get(kind, f"type {kind}")
