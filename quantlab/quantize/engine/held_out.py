"""Held-out images: answers of the quantized network beside those of the fp32 network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.data.threads import ordered_map
from quantlab.quantize.engine.grid import Doubles
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.plan import QuantizationPlan
from quantlab.quantize.engine.qdq import write_qdq
from quantlab.runtime.environment import default_threads
from quantlab.runtime.graphs import graph_session

CLEAR = 1.0
"""A change must gain so many standard errors of its gain, image by image."""
Images = Sequence[NDArray[np.generic]]


def clearly_less(new: Doubles, old: Doubles) -> bool:
    """Whether errors ``new`` are less than ``old`` of the same images, [n], beyond chance."""
    gain = old - new
    return bool(gain.mean() > CLEAR * gain.std() / np.sqrt(len(gain)))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Images, and the fp32 network's logits ``reference`` [n, classes] of them."""

    images: Images
    output: str
    reference: Doubles

    @np.errstate(all="ignore")
    def errors(self, plan: QuantizationPlan) -> Doubles:
        """Each image's squared error of the logits, as a share of the logits' power, [n]."""
        made = _answers(write_qdq(plan), plan.net.input, self.output, self.images)
        power = max((self.reference**2).sum(1).mean(), 1e-30)
        return np.asarray(((made - self.reference) ** 2).sum(1) / power)


def held_out_images(net: Net, images: Images) -> HeldOut:
    """These images with the fp32 network's logits, which are what goes into a final Softmax."""
    output = _logits(net)
    proto = onnx.ModelProto()
    proto.CopyFrom(net.proto)
    return HeldOut(images, output, _answers(proto, net.input, output, images))


def _logits(net: Net) -> str:
    """The network's first output, or what the Softmax before it reads."""
    name = str(net.proto.graph.output[0].name)
    maker = net.producers.get(name)
    return maker.inputs[0] if maker is not None and maker.kind == "Softmax" else name


def _answers(proto: onnx.ModelProto, source: str, output: str, images: Images) -> Doubles:
    del proto.graph.output[1:]
    proto.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    )
    session = graph_session(proto, threads=1)

    def answers(i: int) -> NDArray[np.generic]:
        made = np.asarray(session.run([output], {source: images[i]})[0])
        return made.reshape(len(made), -1)

    made = list(ordered_map(answers, len(images), default_threads()))
    return np.concatenate(made).astype(np.float64)
