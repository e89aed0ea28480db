"""A fp32 model that says the same as before, but that plain int8 breaks.

Channels of a tensor without activation are multiplied by powers of two where they are made and
divided by them where they are read: exact in fp32, but one quantizer no longer fits all channels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from quantlab.model.model import Model
from quantlab.quantize.engine import prepared_for
from quantlab.quantize.engine.equalize import tensor_groups
from quantlab.quantize.engine.net import Net, read_net
from quantlab.recipe import Recipe

REACH = 6
"""Channels are multiplied by 2^-REACH to 2^REACH."""


def break_int8(model: Model, path: Path, seed: int = 0) -> int:
    """Writes the changed model and says how many tensors were changed."""
    net = read_net(prepared_for(model, Recipe()), Recipe())
    proto = onnx.ModelProto()
    proto.CopyFrom(net.proto)
    weights = {t.name: t for t in proto.graph.initializer}
    rng = np.random.default_rng(seed)
    changed = 0
    for group in tensor_groups(net):
        if not _linear(net, group):
            continue
        makers = [net.producers[n] for n in group if net.producers[n].weight is not None]
        readers = [r for n in group for r in net.consumers[n] if r.weight is not None]
        channels = weights[makers[0].node.input[1]].dims[0]
        by = np.exp2(rng.integers(-REACH, REACH + 1, channels))
        for layer in makers:
            for name in layer.node.input[1:]:
                _multiply(weights[name], by, axis=0)
        for layer in readers:
            _multiply(weights[layer.node.input[1]], 1 / by, axis=1)
        changed += len(group)
    onnx.save(proto, path)
    return changed


def _linear(net: Net, group: list[str]) -> bool:
    """Made by convolutions without activation and sums, read by full convolutions and sums."""
    touching = [net.producers.get(n) for n in group] + [
        r for n in group for r in net.consumers.get(n, ())
    ]
    return all(
        layer is not None and (layer.kind == "Add" or (layer.kind == "Conv" and layer.groups == 1))
        for layer in touching
    ) and all(net.producers[n].low == -np.inf for n in group)


def _multiply(tensor: onnx.TensorProto, by: np.ndarray, axis: int) -> None:
    array = numpy_helper.to_array(tensor)
    shape = [-1 if i == axis else 1 for i in range(array.ndim)]
    scaled = (array * by.reshape(shape)).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
