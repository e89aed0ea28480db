"""Run models in OpenVINO on the CPU.

Needs ``pip install 'quantlab[openvino]'``. Every setting is explicit: fp32 is computed in fp32,
threads are not pinned, nothing is cached in files.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab._util.scratch import temporary_folder
from quantlab.errors import MissingExtraError, ModelError
from quantlab.model.model import TensorInfo
from quantlab.runtime.batches import filled

KEPT = 4
"""Compiled models, one a shape of the input."""
SETTINGS: Mapping[str, Any] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    "PERFORMANCE_HINT": "LATENCY",
    "ENABLE_CPU_PINNING": False,
    "ENABLE_HYPER_THREADING": True,
    "CACHE_DIR": "",
}
"""Of all models; beside them NUM_STREAMS and INFERENCE_NUM_THREADS."""
_NODE = re.compile(r"Node\((\w+)\): ([^>']+)>")
_NO_RULE = re.compile(r"No conversion rule found for operations: (?:[\w.]+\.)?(\w+)")
_NOISE = re.compile(
    r"^(Exception from |Check '|FrontEnd API failed|Model wasn't|Summary:|While validating |-- )"
)


def import_openvino(purpose: str = "--runtime openvino") -> Any:
    """The package. Raises MissingExtraError."""
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", purpose) from error
    return openvino


def ir_of(source: Path | bytes, metadata: Mapping[str, str] = {}) -> tuple[bytes, bytes]:
    """OpenVINO IR of an ONNX model, or of other IR: what its .xml and its .bin hold, the same bytes
    for the same model.

    Its metadata are kept, and these added; fp32 stays fp32. Raises ModelError for a model that
    OpenVINO cannot convert, naming the node; MissingExtraError.
    """
    openvino = import_openvino("OpenVINO IR")
    with plain_errors("OpenVINO cannot convert the model", source), temporary_folder() as folder:
        model = openvino.Core().read_model(source)
        for key, value in metadata.items():
            model.set_rt_info(value, ["framework", key])
        _name_plainly(model)
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
        return (folder / "model.xml").read_bytes(), (folder / "model.bin").read_bytes()


def _name_plainly(model: Any) -> None:
    """Nodes without a name are called by numbers that count all nodes this process ever made: call
    them by their place in the graph."""
    nodes = model.get_ordered_ops()
    nameless = [node for node in nodes if node.get_friendly_name() == node.get_name()]
    names = Counter(node.get_friendly_name() for node in nodes)
    names.subtract(node.get_friendly_name() for node in nameless)
    number = 0
    for node in nameless:
        number += 1
        while names[f"{node.get_type_name()}_{number}"] > 0:
            number += 1
        node.set_friendly_name(f"{node.get_type_name()}_{number}")


class OpenVinoSession:
    """A model that OpenVINO runs; see ``quantlab.runtime.runner.Session``.

    It is compiled for each shape of its input that comes, at once the fastest and the usual way;
    ``streams`` calls are computed at the same time, with ``threads`` each; the judged output is
    the model's number ``output``, and the first of ``outputs``. ``settings`` go beside SETTINGS.
    Raises ModelError for a model that OpenVINO cannot convert, naming the node.
    """

    def __init__(
        self,
        source: Path | bytes,
        *,
        threads: int,
        streams: int = 1,
        output: int = 0,
        settings: Mapping[str, Any] = {},
    ) -> None:
        core = import_openvino().Core()
        self._name = "the model" if isinstance(source, bytes) else str(source)
        with plain_errors(f"OpenVINO cannot load {self._name}", source):
            self.model = core.read_model(source)
        self.inputs = tuple(map(_tensor_info, self.model.inputs))
        outputs = [_tensor_info(port) for port in self.model.outputs]
        self.outputs = (outputs.pop(output), *outputs)
        self._output = output
        many = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads * streams}
        self._settings = {**SETTINGS, **many, **settings}
        self._core, self._lock = core, threading.Lock()
        self._compiled: OrderedDict[tuple[int, ...], tuple[Any, list[Any]]] = OrderedDict()

    def compile(self, shape: tuple[int, ...]) -> Any:
        """The model compiled anew for this shape of its input. Raises ModelError."""
        with plain_errors("OpenVINO cannot run the model on this batch"):
            model = self.model.clone()
            model.reshape({model.input(0).any_name: list(shape)})
            return self._core.compile_model(model, "CPU", dict(self._settings))

    def compiled(self, shape: tuple[int, ...]) -> Any:
        """The model compiled for this shape of its input. Raises ModelError."""
        return self._for(shape)[0]

    def run(self, batch: NDArray[np.generic]) -> NDArray[Any]:
        """See Session. Several images are filled up to a number that was run before; one alone is
        computed alone."""
        given = self.inputs[0]
        if str(batch.dtype) != given.dtype:
            raise ModelError(
                f"OpenVINO cannot run the model on this batch: it is {batch.dtype}, "
                f"not {given.dtype}."
            )
        count = len(batch)
        with self._lock:
            known = [s[0] for s in self._compiled if s[1:] == batch.shape[1:] and s[0] >= count]
        if known and count > 1:
            batch = filled(batch, min(known))
        compiled, idle = self._for(batch.shape)
        with plain_errors("OpenVINO cannot run the model on this batch"):
            request = idle.pop() if idle else compiled.create_infer_request()
            request.infer([batch], share_inputs=True)
            answer: NDArray[Any] = request.get_output_tensor(self._output).data.copy()
        idle.append(request)
        return answer[:count]

    def bound(self, batch: NDArray[np.generic]) -> Callable[[], object]:
        """One call of the model on this batch, which was run once. Raises ModelError."""
        request = self.compiled(batch.shape).create_infer_request()
        with plain_errors("OpenVINO cannot run the model on this batch"):
            request.infer([batch], share_inputs=True, share_outputs=True)
        return lambda: request.infer([batch], share_inputs=True, share_outputs=True)

    def _for(self, shape: tuple[int, ...]) -> tuple[Any, list[Any]]:
        """The compiled model, and its requests that are at rest."""
        with self._lock:
            if shape not in self._compiled:
                if len(self._compiled) == KEPT:
                    self._compiled.popitem(last=False)
                self._compiled[shape] = (self.compile(shape), [])
            self._compiled.move_to_end(shape)
            return self._compiled[shape]


def _tensor_info(port: Any) -> TensorInfo:
    dims = port.get_partial_shape()
    rank = dims.rank.get_length() if dims.rank.is_static else 0
    shape = tuple(dims[i].get_length() if dims[i].is_static else None for i in range(rank))
    name = port.any_name if port.names else port.node.friendly_name
    return TensorInfo(name, str(np.dtype(port.element_type.to_dtype())), shape)


@contextmanager
def plain_errors(doing: str, source: Path | bytes | None = None) -> Iterator[None]:
    """Turn OpenVINO's exceptions into one ModelError line: what was tried, at which node it failed,
    and why."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        where = _failing_node(text, source)
        raise ModelError(f"{doing}: {where}{_reason(text)}", _remedy(text)) from error


def _failing_node(text: str, source: Path | bytes | None) -> str:
    if found := _NODE.search(text):
        operator, given = found.groups()
        names = (n.name for n in _onnx_nodes(source) if given in n.output and n.name)
        return f"the node {next(names, given)} ({operator}): "
    if found := _NO_RULE.search(text):
        nodes = (n for n in _onnx_nodes(source) if n.op_type == found[1])
        name = next((f" of the node {n.name or n.output[0]}" for n in nodes), "")
        return f"it has no conversion for the operator {found[1]}{name}: "
    return ""


def _onnx_nodes(source: Path | bytes | None) -> Sequence[Any]:
    """The nodes of an ONNX model, to tell their names; none of anything else."""
    import onnx

    try:
        content = source if isinstance(source, bytes) else Path(source or "").read_bytes()
        return tuple(onnx.ModelProto.FromString(content).graph.node)
    except Exception:  # a message is being made: without names it is one as well
        return ()


def _reason(text: str) -> str:
    """The last sentence that a person can use."""
    if not _NODE.search(text) and _NO_RULE.search(text):
        return "OpenVINO does not know the operator."
    lines = [line.strip() for line in text.splitlines()]
    told = [line for line in lines if line and not _NOISE.match(line)]
    return (told[0] if told else " ".join(text.split())).removesuffix(".")[:300] + "."


def _remedy(text: str) -> str:
    if "QLinear" in text:
        return "quantlab quantize with format: QDQ (the default) writes what OpenVINO reads."
    return ""
