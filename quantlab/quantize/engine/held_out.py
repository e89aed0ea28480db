"""Held-out images: answers of the quantized network beside those of the fp32 network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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

TAIL = 0.05
"""The share of the images that are the worst."""
TAIL_WEIGHT = 0.25
"""What their mean counts beside that of all images."""
SURE = 0.8
"""A change must lower the cost of so many of the samples that chance might have drawn instead."""
FEWEST = 24
"""The KL of fewer images is that of one or two whose answer is at stake: it does not count."""
_RESAMPLES = 256
_LEAST, _MOST = 1e-12, 1e30
_SHAPING = ("Flatten", "Reshape", "Squeeze", "Identity")
Images = Sequence[NDArray[np.generic]]


def cost(errors: Doubles) -> Doubles:
    """What errors [..., n] of n images cost: their mean, and TAIL_WEIGHT times the mean of the
    worst TAIL of them, one image at least."""
    worst = max(1, round(TAIL * errors.shape[-1]))
    tail = np.sort(errors, axis=-1)[..., -worst:].mean(-1)
    return np.asarray(errors.mean(-1) + TAIL_WEIGHT * tail)


def clearly_less(new: Doubles, old: Doubles) -> bool:
    """Whether errors ``new`` cost less than ``old`` of the same images, both [kinds, n], and would
    of nearly all samples of them (bootstrap). Each kind counts as a share of ``old``'s mean; of
    fewer than FEWEST images the first kind alone counts."""
    if old.shape[1] < FEWEST:
        new, old = new[:1], old[:1]
    level = np.maximum(old.mean(1, keepdims=True), _LEAST)
    fresh, before = (new / level).sum(0), (old / level).sum(0)
    if not cost(fresh) < cost(before):
        return False
    drawn = np.random.default_rng(0).integers(len(fresh), size=(_RESAMPLES, len(fresh)))
    return bool((cost(fresh[drawn]) < cost(before[drawn])).mean() >= SURE)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Images, and the fp32 network's logits ``reference`` [n, classes] of them."""

    images: Images
    output: str
    reference: Doubles

    @np.errstate(all="ignore")
    def errors(self, plan: QuantizationPlan) -> Doubles:
        """Each image's squared error of the logits, as a share of the logits' mean power, and the
        KL divergence of the probabilities, [2, n].

        The former is alike for all images and says most of small changes, the latter is large on
        the few images whose answer is at stake.
        """
        made = _answers(write_qdq(plan), plan.net.input, self.output, self.images)
        power = max((self.reference**2).sum(1).mean(), 1e-30)
        squared = ((made - self.reference) ** 2).sum(1) / power
        found = np.stack([squared, _divergence(self.reference, made)])
        return np.asarray(np.where(found < _MOST, found, _MOST))

    def first(self, batches: int) -> HeldOut:
        """The first of them."""
        images = self.images[:batches]
        return replace(self, images=images, reference=self.reference[: sum(map(len, images))])


def _divergence(reference: Doubles, made: Doubles) -> Doubles:
    """KL(softmax(reference) || softmax(made)) of each image, [n]."""
    p, q = _log_softmax(reference), _log_softmax(made)
    return np.asarray((np.exp(p) * (p - q)).sum(1))


def _log_softmax(logits: Doubles) -> Doubles:
    below = logits - logits.max(1, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(1, keepdims=True)))


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
    while maker is not None and maker.kind in _SHAPING:
        maker = net.producers.get(maker.inputs[0])
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
