"""Held-out images: answers of the quantized network beside those of the fp32 network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.data.threads import ordered_map
from quantlab.quantize.engine.grid import Doubles, Floats
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.observe import Watch
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
PARTS = 8
"""A change is tried on so many parts of the images in turn, as long as it may still be a gain."""
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


def less(new: Doubles, old: Doubles) -> bool:
    """Whether errors ``new`` cost less than ``old`` of the same images, both [kinds, n]. Each kind
    counts as a share of ``old``'s mean; of fewer than FEWEST images the first kind alone counts."""
    fresh, before = _together(new, old)
    return bool(cost(fresh) < cost(before))


def _together(new: Doubles, old: Doubles) -> tuple[Doubles, Doubles]:
    if old.shape[1] < FEWEST:
        new, old = new[:1], old[:1]
    level = np.maximum(old.mean(1, keepdims=True), _LEAST)
    return (new / level).sum(0), (old / level).sum(0)


def clearly_less(new: Doubles, old: Doubles) -> bool:
    """Whether they are ``less``, and would be of nearly all samples of the images (bootstrap)."""
    fresh, before = _together(new, old)
    if not cost(fresh) < cost(before):
        return False
    drawn = np.random.default_rng(0).integers(len(fresh), size=(_RESAMPLES, len(fresh)))
    return bool((cost(fresh[drawn]) < cost(before[drawn])).mean() >= SURE)


class HeldOut:
    """Images, and the fp32 network's logits of them, which are what goes into a final Softmax.

    ``watch`` is to be given these images, and nothing else, before errors are asked for.
    """

    def __init__(self, net: Net, images: Images, batches: range | None = None) -> None:
        self.images, self.output = images, _logits(net)
        self._seen: list[NDArray[np.generic]] = []
        self.watch = Watch([self.output], self._see, batches)

    def _see(self, values: dict[str, Floats]) -> None:
        made = values[self.output]
        self._seen.append(made.reshape(len(made), -1).copy())

    @cached_property
    def reference(self) -> Doubles:
        """The fp32 network's logits, [n, classes]."""
        return np.concatenate(self._seen).astype(np.float64)

    def errors(self, plan: QuantizationPlan, batches: int | None = None) -> Doubles:
        """Each image's squared error of the logits, as a share of the logits' mean power, and the
        KL divergence of the probabilities, [2, n]; of the first ``batches``, or of all.

        The former is alike for all images and says most of small changes, the latter is large on
        the few images whose answer is at stake.
        """
        order = np.arange(len(self.images))[:batches]
        return np.concatenate([part for _, part in self.in_parts(plan, order)], axis=1)

    def in_parts(
        self, plan: QuantizationPlan, order: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], Doubles]]:
        """The errors of the batches in this order, some at a time, with the images' numbers: what
        is not asked for is not computed."""
        answer = _answering(write_qdq(plan), plan.net.input, self.output)
        for some in np.array_split(order, min(PARTS, len(order))):
            rows = np.concatenate([self._rows[i] for i in some])
            made = answer([self.images[i] for i in some])
            yield rows, self._errors(made, self.reference[rows])

    def worst_first(self, errors: Doubles) -> NDArray[np.int64]:
        """The batches by the images' errors [2, n], largest first."""
        one, _ = _together(errors, errors)
        return np.argsort([-one[rows].mean() for rows in self._rows], kind="stable")

    @cached_property
    def _rows(self) -> list[NDArray[np.int64]]:
        """The numbers of each batch's images."""
        sizes = [len(batch) for batch in self.images]
        return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])

    @np.errstate(all="ignore")
    def _errors(self, made: Doubles, reference: Doubles) -> Doubles:
        power = max((self.reference**2).sum(1).mean(), 1e-30)
        squared = ((made - reference) ** 2).sum(1) / power
        found = np.stack([squared, _divergence(reference, made)])
        return np.asarray(np.where(found < _MOST, found, _MOST))


def _divergence(reference: Doubles, made: Doubles) -> Doubles:
    """KL(softmax(reference) || softmax(made)) of each image, [n]."""
    p, q = _log_softmax(reference), _log_softmax(made)
    return np.asarray((np.exp(p) * (p - q)).sum(1))


def _log_softmax(logits: Doubles) -> Doubles:
    below = logits - logits.max(1, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(1, keepdims=True)))


def _logits(net: Net) -> str:
    """The network's first output, or what the Softmax before it reads."""
    name = str(net.proto.graph.output[0].name)
    maker = net.producers.get(name)
    while maker is not None and maker.kind in _SHAPING:
        maker = net.producers.get(maker.inputs[0])
    return maker.inputs[0] if maker is not None and maker.kind == "Softmax" else name


def _answering(proto: onnx.ModelProto, source: str, output: str) -> Callable[[Images], Doubles]:
    """What gives the network's ``output`` of batches of images, [n, classes]."""
    del proto.graph.output[1:]
    proto.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    )
    session = graph_session(proto, threads=1)

    def answers(images: Images) -> Doubles:
        def of_batch(i: int) -> NDArray[np.generic]:
            made = np.asarray(session.run([output], {source: images[i]})[0])
            return made.reshape(len(made), -1)

        made = list(ordered_map(of_batch, len(images), default_threads()))
        return np.concatenate(made).astype(np.float64)

    return answers
