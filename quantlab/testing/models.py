"""Tiny models, and a Runner without a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.data.crops import load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.model.model import Layout, Model

_CHANNELS = 16


class _Builder:
    """Nodes and weights of a graph under construction; every method returns a tensor's name."""

    def __init__(self, opset: int, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.opset = opset
        self.rng = np.random.default_rng(seed)

    def weight(self, name: str, value: NDArray[np.generic]) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def normal(self, name: str, *shape: int, scale: float) -> str:
        return self.weight(name, (self.rng.standard_normal(shape) * scale).astype(np.float32))

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def conv(
        self, name: str, data: str, shape: tuple[int, ...], *, norm: bool, **attributes: Any
    ) -> str:
        """A convolution with a bias, or with batch normalization after it."""
        fan_in = int(np.prod(shape[1:]))
        kernel = self.normal(f"{name}.w", *shape, scale=(2 / fan_in) ** 0.5)
        if not norm:
            bias = self.normal(f"{name}.b", shape[0], scale=0.1)
            return self.node("Conv", name, data, kernel, bias, **attributes)
        made = self.node("Conv", name, data, kernel, **attributes)
        around_one = [
            self.weight(f"{name}.{k}", self.rng.uniform(0.5, 1.5, shape[0]).astype(np.float32))
            for k in ("scale", "var")
        ]
        around_zero = [self.normal(f"{name}.{k}", shape[0], scale=0.1) for k in ("shift", "mean")]
        reads = (around_one[0], *around_zero, around_one[1])
        return self.node("BatchNormalization", f"{name}_bn", made, *reads)

    def activation(self, name: str, data: str, *, relu6: bool) -> str:
        if not relu6:
            return self.node("Relu", name, data)
        if self.opset < 11:
            return self.node("Clip", name, data, min=0.0, max=6.0)
        bounds = [
            self.weight(f"{name}.{k}", np.array(v, np.float32))
            for k, v in (("min", 0.0), ("max", 6.0))
        ]
        return self.node("Clip", name, data, *bounds)


def tiny_classifier(
    path: Path,
    *,
    classes: int = 10,
    size: int = 32,
    opset: int = 13,
    layout: Layout = "NCHW",
    dtype: Literal["float32", "uint8"] = "float32",
    batch: int | None = None,
    softmax: bool = False,
    batch_norm: bool = False,
    relu6: bool = True,
    residual: bool = True,
    channels: int = 3,
    seed: int = 0,
) -> Path:
    """Writes a MobileNet-like classifier of a few thousand weights and returns its path.

    ``input`` [batch, channels, size, size] (or NHWC; uint8 pixels are scaled inside) → ``output``
    [batch, classes]: a convolution, a depthwise one, a pointwise one added to the first's output,
    global average pooling and Gemm. The same arguments give the same bytes.
    """
    b = _Builder(opset, seed)
    data = _image_input(b, layout, dtype)
    data = _body(b, data, channels, batch_norm=batch_norm, relu6=relu6, residual=residual)
    b.normal("fc.w", classes, _CHANNELS, scale=1.0)
    b.normal("fc.b", classes, scale=0.1)
    data = b.node("Gemm", "logits" if softmax else "output", data, "fc.w", "fc.b", transB=1)
    if softmax:
        b.node("Softmax", "output", data, axis=1)
    shape = (channels, size, size) if layout == "NCHW" else (size, size, channels)
    onnx.save(_model(b, (batch or "batch", *shape), dtype, classes), path)
    return path


def taught(path: Path, data: Path, pipeline: str | Path) -> Path:
    """Rewrite a ``tiny_classifier`` so that it classifies the images of the ``data`` folder as well
    as its features allow (linear discriminants); returns its path.

    An untrained model guesses, and nothing can be judged by one that does.
    """
    inputs, labels = _labelled_inputs(path, data, pipeline)
    proto = onnx.load(path)
    last = {t.name: t for t in proto.graph.initializer if t.name in ("fc.w", "fc.b")}
    weights, offsets = _discriminants(_features(proto, inputs), labels, last["fc.b"].dims[0])
    for name, values in (("fc.w", weights), ("fc.b", offsets)):
        last[name].CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(proto, path)
    return path


def _labelled_inputs(
    path: Path, data: Path, pipeline: str | Path
) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    spec = Model.load(path).input
    with TemporaryDirectory() as folder:
        chosen = get_pipeline(pipeline, size=spec.sides)
        crops = load_crops(open_dataset(data), chosen, cache_dir=Path(folder))
        assert crops.labels is not None
        return np.array(crops.inputs(slice(None), spec)), crops.labels


def _features(proto: onnx.ModelProto, inputs: NDArray[np.generic]) -> NDArray[np.float64]:
    """What the last layer reads [n, channels]."""
    seen = onnx.ModelProto.FromString(proto.SerializeToString())
    seen.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        seen.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    given = session.get_inputs()[0]
    step = given.shape[0] if isinstance(given.shape[0], int) else len(inputs)
    rows = np.resize(inputs, (-(-len(inputs) // step) * step, *inputs.shape[1:]))
    parts = (rows[i : i + step] for i in range(0, len(rows), step))
    made = np.concatenate([session.run(["flat"], {given.name: part})[0] for part in parts])
    return np.asarray(made[: len(inputs)], np.float64)


def _discriminants(
    features: NDArray[np.float64], labels: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights [classes, channels] and offsets; what no image shows is never answered."""
    known = np.unique(labels)
    means = np.zeros((classes, features.shape[1]))
    means[known] = [features[labels == k].mean(axis=0) for k in known]
    spread = np.cov((features - means[labels]).T) + 1e-4 * np.eye(features.shape[1])
    weights = np.linalg.solve(spread, means.T).T
    offsets = -(weights * means).sum(axis=1) / 2
    scale = 10 / np.abs((features @ weights.T + offsets)[:, known]).max()
    weights, offsets = scale * weights, scale * offsets
    offsets[np.setdiff1d(np.arange(classes), known)] = -20
    return weights.astype(np.float32), offsets.astype(np.float32)


def blind_model(source: Path, path: Path, classes: Sequence[int]) -> Path:
    """Write ``source`` changed so that it never answers some classes. Returns ``path``."""
    return _shifted(source, path, dict.fromkeys(classes, -1000.0))


def with_boxes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a second output of three dimensions, as detectors have for boxes."""
    classes = model.graph.output[0].name
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "axes"))
    model.graph.node.append(helper.make_node("Unsqueeze", [classes, "axes"], ["boxes"]))
    boxes = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ("n", "classes", "one"))
    model.graph.output.append(boxes)
    return model


def near_model(source: Path, path: Path) -> Path:
    """Writes ``source`` with a little more for every class: other outputs, the same answers.
    Returns ``path``."""
    return _shifted(source, path, 0.01)


def _shifted(source: Path, path: Path, by: float | dict[int, float]) -> Path:
    """Writes ``source`` with so much added to its outputs, all or those of some classes."""
    proto = onnx.load(source)
    output = proto.graph.output[0]
    size = output.type.tensor_type.shape.dim[-1].dim_value
    added = np.zeros(size, np.float32)
    for index, value in (dict.fromkeys(range(size), by) if isinstance(by, float) else by).items():
        added[index] = value
    for node in proto.graph.node:
        for i, name in enumerate(node.output):
            if name == output.name:
                node.output[i] = "before"
    proto.graph.initializer.append(numpy_helper.from_array(added, "added"))
    proto.graph.node.append(helper.make_node("Add", ["before", "added"], [output.name]))
    onnx.save(proto, path)
    return path


def _image_input(b: _Builder, layout: Layout, dtype: str) -> str:
    data = "input"
    if dtype == "uint8":
        data = b.node("Cast", "pixels", data, to=TensorProto.FLOAT)
        data = b.node("Div", "scaled", data, b.weight("div", np.array(64, np.float32)))
        data = b.node("Sub", "centred", data, b.weight("sub", np.array(2, np.float32)))
    if layout == "NHWC":
        data = b.node("Transpose", "nchw", data, perm=[0, 3, 1, 2])
    return data


def _body(
    b: _Builder, data: str, channels: int, *, batch_norm: bool, relu6: bool, residual: bool
) -> str:
    c = _CHANNELS
    pads = [1, 1, 1, 1]
    data = b.conv("stem", data, (c, channels, 3, 3), norm=batch_norm, strides=[2, 2], pads=pads)
    stem = data = b.activation("stem_act", data, relu6=relu6)
    data = b.conv("depthwise", data, (c, 1, 3, 3), norm=batch_norm, group=c, pads=pads)
    data = b.activation("depthwise_act", data, relu6=relu6)
    data = b.conv("pointwise", data, (c, c, 1, 1), norm=batch_norm)
    if residual:
        data = b.node("Add", "residual", data, stem)
    return b.node("Flatten", "flat", b.node("GlobalAveragePool", "pool", data), axis=1)


def _model(b: _Builder, shape: tuple[int | str, ...], dtype: str, classes: int) -> onnx.ModelProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    given = helper.make_tensor_value_info("input", kind, shape)
    made = helper.make_tensor_value_info("output", TensorProto.FLOAT, (shape[0], classes))
    opsets = [helper.make_opsetid("", b.opset)]
    ir_version = helper.find_min_ir_version_for(opsets)
    # As in files of that age: before IR version 4, weights are graph inputs too.
    weights = b.weights if ir_version < 4 else []
    inputs = [given, *(helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in weights)]
    graph = helper.make_graph(b.nodes, "tiny", inputs, [made], b.weights)
    return helper.make_model(
        graph, producer_name="quantlab.testing", opset_imports=opsets, ir_version=ir_version
    )


class FakeRunner:
    """Runner's interface without a session: ``function`` makes the answers.

    ``function`` maps a batch to float32 [n, classes]; without one the answers are a fixed linear
    map of each image's pixels to ``classes``. ``batches`` lists the size of every batch seen.
    """

    def __init__(
        self,
        function: Callable[[NDArray[np.generic]], NDArray[np.floating]] | None = None,
        *,
        classes: int = 10,
        seed: int = 0,
    ) -> None:
        self._function = function or (lambda batch: pixel_logits(batch, classes, seed))
        self.batch: int | None = None
        self.batches: list[int] = []

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        self.batches.append(len(batch))
        return np.asarray(self._function(batch), np.float32)

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pixel_logits(
    batch: NDArray[np.generic], classes: int = 10, seed: int = 0
) -> NDArray[np.float32]:
    """Logits float32 [n, classes]: each image's 64 block means through a fixed random matrix."""
    flat = batch.reshape(len(batch), -1).astype(np.float64)
    blocks = np.array([[part.mean() for part in np.array_split(row, 64)] for row in flat])
    weights = np.random.default_rng(seed).standard_normal((64, classes))
    return np.asarray(blocks @ weights, np.float32)
