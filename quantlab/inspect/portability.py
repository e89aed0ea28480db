"""What a u8s8 model would lose on a CPU without VNNI, emulated exactly on any CPU.

The graph is taken as ONNX Runtime fuses it (so QOperator and QDQ files look alike, and a layer that
runs in fp32 is none). Layers whose weights cannot saturate, whatever comes in, are told apart by
their weights alone. The network runs twice: exactly, counting on every position of every image the
pair sums that would saturate, and with saturation in all layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab.compare.comparison import OtherCpus
from quantlab.evaluate.metrics import kl_divergence, logits_of, sqnr_db
from quantlab.inspect.kernels import executed_graph, tensor_types
from quantlab.inspect.noise import Noise
from quantlab.inspect.pair_layers import PairLayer, read_layer, without_saturation
from quantlab.inspect.pairs import Risks, risks
from quantlab.inspect.steps import Steps
from quantlab.model import graph as g
from quantlab.model.kinds import OutputKind, of_two_classes
from quantlab.model.large import Weights
from quantlab.model.model import Model

AccumulatorState = Literal["impossible", "not seen", "not emulated", "saturates"]
"""The best first."""


class LayerSaturation(BaseModel):
    """One u8s8 layer. ``pair_sums`` were computed on all images, of which ``saturated`` would.

    ``weight_pairs`` at risk could saturate for some input; with none, nothing was computed.
    ``sqnr_db`` is the layer's output with saturation against without, given the same input.
    Of ``dynamic`` layers, whose activations are quantized by each batch, only the weights are read.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    op_type: str
    weight_pairs: int
    at_risk: int
    pair_sums: int = 0
    saturated: int = 0
    sqnr_db: float | None = None
    dynamic: bool = False

    @property
    def state(self) -> AccumulatorState:
        """Whether it saturates, has not on these images, or never can."""
        if self.saturated:
            return "saturates"
        if self.dynamic and self.at_risk:
            return "not emulated"
        return "not seen" if self.at_risk else "impossible"

    @property
    def share(self) -> float:
        """The fraction of its pair sums that saturate."""
        return self.saturated / self.pair_sums if self.pair_sums else 0.0


class Portability(BaseModel):
    """All u8s8 layers, and what saturation in all of them does to the model's answers.

    The last three compare the answers with saturation to those without, on ``images`` images; they
    are None where no layer can saturate.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    images: int
    layers: tuple[LayerSaturation, ...]
    agreement: float | None = None
    kl: float | None = None
    sqnr_db: float | None = None

    def in_state(self, state: AccumulatorState) -> tuple[LayerSaturation, ...]:
        """The layers in that state, the worst first."""
        found = [layer for layer in self.layers if layer.state == state]
        return tuple(sorted(found, key=lambda layer: -layer.share))

    @property
    def share(self) -> float:
        """The fraction of all layers' pair sums that saturate."""
        total = sum(layer.pair_sums for layer in self.layers)
        return sum(layer.saturated for layer in self.layers) / total if total else 0.0

    @property
    def outcome(self) -> OtherCpus:
        """The same without the single layers."""
        states = {layer.state for layer in self.layers}
        worst = (state for state in get_args(AccumulatorState)[::-1] if state in states)
        return OtherCpus(
            state=next(worst, "no pairs"),
            layers=len(self.layers),
            at_risk=len(self.layers) - len(self.in_state("impossible")),
            saturating=len(self.in_state("saturates")),
            images=self.images,
            share=self.share,
            agreement=self.agreement,
            kl=self.kl,
            sqnr_db=self.sqnr_db,
        )


def check_portability(model: Model, batches: Iterable[NDArray[np.generic]]) -> Portability:
    """Counts and emulates saturation on these images, given as the model takes them.

    Images are read only when some layer could saturate. Raises ModelError.
    """
    proto = executed_graph(model.runnable, optimization="extended")
    types = tensor_types(proto.graph)
    constants = Weights(proto.graph)
    found = (read_layer(node, constants, types) for node in proto.graph.node)
    layers = [_CountedLayer(layer) for layer in found if layer is not None]
    dynamic = [layer for node in proto.graph.node if (layer := _dynamic(node, constants, types))]
    risky = {one.layer.output: one for one in layers if one.at_risk}
    if not risky:
        known = (*(one.result() for one in layers), *dynamic)
        return Portability(name=model.name, images=0, layers=known)
    without_saturation(proto.graph, [one.layer for one in risky.values()])
    steps = Steps(proto, list(risky))
    exact, saturated = [], []
    for images in _few(batches, model.input.batch):
        exact.append(steps(images, {name: one.watch for name, one in risky.items()}))
        saturated.append(steps(images, {name: one.saturate for name, one in risky.items()}))
    answers = [_logits(np.concatenate(found), model.output_kind) for found in (exact, saturated)]
    return Portability(
        name=model.name,
        images=len(answers[0]),
        layers=(*(one.result() for one in layers), *dynamic),
        agreement=float((answers[0].argmax(axis=1) == answers[1].argmax(axis=1)).mean()),
        kl=float(kl_divergence(answers[0], answers[1]).mean()),
        sqnr_db=sqnr_db(answers[0], answers[1]),
    )


def _dynamic(
    node: onnx.NodeProto, constants: Mapping[str, g.Array], types: Mapping[str, int]
) -> LayerSaturation | None:
    """What the weights of a product with dynamic activation ranges allow; None for other nodes."""
    if node.op_type not in ("DynamicQuantizeMatMul", "MatMulInteger"):
        return None
    if types.get(node.input[0]) == onnx.TensorProto.INT8:  # signed ones are not summed in pairs
        return None
    weight = constants.get(node.input[1])
    if weight is None or weight.dtype != np.int8 or weight.ndim != 2:
        return None
    k, out = weight.shape
    at_risk = len(risks(weight.astype(np.int32)))
    return LayerSaturation(
        name=node.name,
        op_type=node.op_type,
        weight_pairs=(k + 1) // 2 * out,
        at_risk=at_risk,
        dynamic=True,
    )


def _few(
    batches: Iterable[NDArray[np.generic]], fixed: int | None
) -> Iterator[NDArray[np.generic]]:
    """One image at a time (or the model's fixed batch): memory stays that of one image."""
    for batch in batches:
        step = fixed or 1
        yield from (batch[i : i + step] for i in range(0, len(batch), step))


def _logits(answers: g.Array, kind: OutputKind) -> NDArray[np.float32]:
    flat = of_two_classes(answers.reshape(len(answers), -1).astype(np.float32), kind)
    return logits_of(flat) if kind == "probabilities" else flat


class _CountedLayer:
    """A layer with its counts of saturated pair sums so far."""

    def __init__(self, layer: PairLayer) -> None:
        self.layer = layer
        self.risks: list[Risks] = [risks(weight) for weight in layer.weight]
        self.pair_sums = self.count = 0
        self.noise = Noise()

    @property
    def at_risk(self) -> int:
        return sum(map(len, self.risks))

    def watch(self, x: g.Array, answer: g.Array) -> g.Array:
        """Count pair sums that would saturate, and return the exact answer."""
        found = self.layer.saturate(x.astype(np.uint8, copy=False), answer, self.risks)
        self.noise.add(self.layer.real(answer), self.layer.real(found.answer))
        self.pair_sums += found.pair_sums
        self.count += found.count
        return answer

    def saturate(self, x: g.Array, answer: g.Array) -> g.Array:
        """Return the answer with saturation."""
        return self.layer.saturate(x.astype(np.uint8, copy=False), answer, self.risks).answer

    def result(self) -> LayerSaturation:
        groups, k, out = self.layer.weight.shape
        return LayerSaturation(
            name=self.layer.name,
            op_type=self.layer.op_type,
            weight_pairs=groups * ((k + 1) // 2) * out,
            at_risk=self.at_risk,
            pair_sums=self.pair_sums,
            saturated=self.count,
            sqnr_db=self.noise.db,
        )
