"""Range search: choose among candidate ranges those with the least error of the logits.

No way to estimate ranges is best for every network, and a tensor's own rounding error does not say
how much the answers suffer. So the quantized network itself is run on some calibration images, and
what counts is the squared error of its logits to the fp32 network's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.data.threads import ordered_map
from quantlab.quantize.engine.grid import Affine, Doubles
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.plan import QuantizationPlan, input_takes_output_quantizer, quantizers
from quantlab.quantize.engine.qdq import write_qdq
from quantlab.quantize.engine.ranges import Range
from quantlab.runtime.environment import default_threads
from quantlab.runtime.graphs import graph_session

METHODS = ("mean", "minmax", "percentile", "mse")
CLEAR = 1.0
"""A change must gain so many standard errors of its gain, image by image."""
_ALIKE = 0.01
Images = Sequence[NDArray[np.generic]]
Choice = Mapping[str, Range]


@dataclass
class TriedPlan:
    """Runs a quantized network with any ranges on a fixed set of images."""

    plan: QuantizationPlan
    images: Images
    output: str
    reference: Doubles

    def errors(self, ranges: Choice) -> Doubles:
        """Each image's squared error of the logits, as a share of the logits' power, [n]."""
        net = self.plan.net
        plan = replace(self.plan, tensors=quantizers(net, ranges, self.plan.grid))
        made = _answers(write_qdq(plan), net.input, self.output, self.images)
        power = max((self.reference**2).sum(1).mean(), 1e-30)
        return np.asarray(((made - self.reference) ** 2).sum(1) / power)


@dataclass
class RangeSearch:
    """The ranges chosen so far, with the errors that they give."""

    trial: TriedPlan
    ranges: dict[str, Range]
    errors: Doubles = field(init=False)

    def __post_init__(self) -> None:
        self.errors = self.trial.errors(self.ranges)

    def consider(self, change: Choice) -> bool:
        """Adopt the change when it clearly lowers the error."""
        change = {n: r for n, r in change.items() if not alike(r, self.ranges[n])}
        if not change:
            return False
        ranges = {**self.ranges, **change}
        errors = self.trial.errors(ranges)
        gain = self.errors - errors
        if gain.mean() <= CLEAR * gain.std() / np.sqrt(len(gain)):
            return False
        self.ranges, self.errors = ranges, errors
        return True


def alike(first: Range, second: Range) -> bool:
    """Whether two ranges differ by less than a few percent of their width."""
    width = max(first[1], 0.0) - min(first[0], 0.0) + 1e-30
    return max(abs(first[0] - second[0]), abs(first[1] - second[1])) < _ALIKE * width


def searched(
    plan: QuantizationPlan, ranges: Choice, found: Mapping[str, Mapping[str, Range]], images: Images
) -> dict[str, Affine]:
    """The quantizers of ``ranges``, with those of ``found`` (by tensor, by method) that answer
    better.

    One method for all tensors first, then one for all of a kind: the image, sums, pools, and so
    on. Choosing tensor by tensor gained nothing more (see docs/engine.md).
    """
    found = {
        name: by for name, by in found.items() if not input_takes_output_quantizer(plan.net, name)
    }
    search = RangeSearch(make_trial(plan, images), dict(ranges))
    for method in METHODS:
        search.consider({name: by[method] for name, by in found.items()})
    for names in _by_kind(plan.net, found).values():
        for method in METHODS:
            search.consider({name: found[name][method] for name in names})
    return quantizers(plan.net, search.ranges, plan.grid)


def _by_kind(net: Net, names: Iterable[str]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(net.producers[name].kind if name in net.producers else "", []).append(name)
    return kinds


def make_trial(plan: QuantizationPlan, images: Images) -> TriedPlan:
    """The trial against the fp32 network. Logits are what goes into a final Softmax."""
    net = plan.net
    output = logits(net)
    proto = onnx.ModelProto()
    proto.CopyFrom(net.proto)
    return TriedPlan(plan, images, output, _answers(proto, net.input, output, images))


def logits(net: Net) -> str:
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
