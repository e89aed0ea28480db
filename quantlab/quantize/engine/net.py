"""Net: the prepared graph as layers, each with its activation folded in.

A layer is a node that is quantized (or any other node, left in fp32) together with the ReLU or Clip
after it, which costs nothing once it is the range of the layer's output quantizer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import onnx

from quantlab.errors import QuantizeError
from quantlab.model import graph as g
from quantlab.model.large import Weights
from quantlab.quantize.engine.grid import Floats
from quantlab.quantize.engine.names import MadeNames
from quantlab.quantize.operators import Operator, row
from quantlab.recipe import Recipe

HUGE = 2**28
"""Weights of a layer from which on they are rounded piece by piece, and not scaled."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One node, or a node and the activation after it.

    ``weight`` is float32 [out, in/groups, kernel…] or [out, in] and ``bias`` float32 [out], both
    None for layers without weights. ``low`` and ``high`` are the activation's bounds.
    ``constants`` are to be read in place of the node's own weights, by the input's number.
    """

    node: onnx.NodeProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    quantized: bool = False
    float_output: bool = False
    weight: Floats | None = None
    bias: Floats | None = None
    activation: onnx.NodeProto | None = None
    low: float = -np.inf
    high: float = np.inf
    constants: Mapping[int, Floats] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The node's operator."""
        return self.node.op_type

    @cached_property
    def row(self) -> Operator:
        """What can be done with the node's operator in int8."""
        return row(self.node)

    @property
    def moves(self) -> bool:
        """Whether it is quantized and its outputs have its input's quantizer."""
        return self.quantized and self.row.role == "moves"

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def output(self) -> str:
        """The first output."""
        return self.outputs[0]

    @property
    def groups(self) -> int:
        """The number of groups of a convolution, else 1."""
        return g.attribute(self.node, "group", 1)

    @property
    def huge(self) -> bool:
        """Whether the weights are too many to be held in double precision."""
        return self.weight is not None and self.weight.size > HUGE

    @property
    def depthwise(self) -> bool:
        """Whether every output channel reads one input channel of its own."""
        shape = self.weight.shape[:2] if self.weight is not None else ()
        return self.groups > 1 and shape == (self.groups, 1)


@dataclass(frozen=True, eq=False)
class Net:
    """Layers in the order of their computation, over the prepared graph; ``standard`` and
    ``shared_scales`` as the recipe wants them."""

    proto: onnx.ModelProto
    layers: tuple[Layer, ...]
    standard: bool = False
    shared_scales: bool = False

    @property
    def input(self) -> str:
        """The name of the image input."""
        return str(self.proto.graph.input[0].name)

    @cached_property
    def quantized_tensors(self) -> tuple[str, ...]:
        """Every tensor that gets a quantizer, in order of appearance."""
        floats = {x.output for x in self.layers if x.float_output and x.kind == "Conv"}
        return tuple(name for name in self.exchanged_tensors if name not in floats)

    @cached_property
    def exchanged_tensors(self) -> tuple[str, ...]:
        """Those, and the floats that one quantized layer makes for another."""
        names = (n for layer in self.layers if layer.quantized for n in _quantized_ends(layer))
        return tuple(dict.fromkeys(names))

    @cached_property
    def producers(self) -> dict[str, Layer]:
        """The layer that makes each tensor."""
        return {name: layer for layer in self.layers for name in layer.outputs}

    @cached_property
    def consumers(self) -> dict[str, list[Layer]]:
        """The layers that read each tensor."""
        found: dict[str, list[Layer]] = {}
        for layer in self.layers:
            for name in dict.fromkeys(layer.inputs):
                found.setdefault(name, []).append(layer)
        return found

    @cached_property
    def names(self) -> MadeNames:
        """The names of added tensors and nodes."""
        return MadeNames(self.proto.graph)

    def normalization(self, name: str) -> list[tuple[Layer, int]]:
        """What multiplies and shifts the tensor's channels, its last axis, in fp32, where products
        alone read it: constants by layer and number of the input. Empty for other tensors."""
        readers = self.consumers.get(name, [])
        widths = {r.weight.shape[1] for r in readers if r.weight is not None and r.kind == "Gemm"}
        if len(widths) != 1 or not all(r.quantized and r.kind == "Gemm" for r in readers):
            return []
        found: list[tuple[Layer, int]] = []
        while (layer := self.producers.get(name)) is not None and not layer.quantized:
            constants = [i for i, n in enumerate(layer.node.input) if self._sizes(n) == widths]
            found += [(layer, i) for i in constants]
            if layer.kind in ("LayerNormalization", "RMSNormalization"):
                return found if len(layer.outputs) == 1 else []
            if layer.kind in ("Add", "Mul") and len(layer.inputs) == len(constants) == 1:
                if layer.kind == "Mul":
                    return found
            elif layer.kind != "Reshape":
                return []
            name = layer.inputs[0]
            if len(self.consumers[name]) > 1 or name in self._outputs:
                return []
        return []

    def _sizes(self, name: str) -> set[int]:
        """The size of a float32 vector among the weights."""
        tensor = self._tensors.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 1:
            return set()
        return set(tensor.dims)

    @cached_property
    def _tensors(self) -> dict[str, onnx.TensorProto]:
        return g.initializers(self.proto.graph)

    @cached_property
    def _outputs(self) -> set[str]:
        return {v.name for v in self.proto.graph.output}

    def never_negative(self, name: str) -> bool:
        """Whether an activation keeps the tensor at or above zero."""
        maker = self.producers.get(name)
        return maker is not None and maker.low == 0

    def window(self, name: str) -> tuple[float, float]:
        """The interval beyond which the tensor's value makes no difference to any reader."""
        readers = self.consumers.get(name, [])
        if not readers or any(name == v.name for v in self.proto.graph.output):
            return -np.inf, np.inf
        seen = [self._window(name, reader) for reader in readers]
        return min(low for low, _ in seen), max(high for _, high in seen)

    def _window(self, name: str, reader: Layer) -> tuple[float, float]:
        if reader.kind == "HardSigmoid" and reader.row.bounds:
            alpha, beta = hard_sigmoid_of(reader.node)
            return -beta / alpha, (1 - beta) / alpha
        gates = [self.producers[n] for n in reader.inputs if n != name and n in self.producers]
        gated = gates and gates[0].kind == "HardSigmoid" and gates[0].inputs == (name,)
        if reader.kind == "Mul" and gated:
            return self._window(name, gates[0])[0], np.inf  # zero below
        return reader.row.window


def hard_sigmoid_of(node: onnx.NodeProto) -> tuple[float, float]:
    """α and β of clip(α·x + β, 0, 1)."""
    return g.attribute(node, "alpha", 0.2), g.attribute(node, "beta", 0.5)


def _quantized_ends(layer: Layer) -> Iterator[str]:
    yield from layer.inputs
    if not layer.float_output:
        yield from layer.outputs


def read_net(prepared: onnx.ModelProto, recipe: Recipe, left: Collection[str] = ()) -> Net:
    """The prepared graph as a Net, with the layers ``left`` in fp32 as well as the recipe's.

    Raises QuantizeError when no node can be quantized, ``left`` or not.
    """
    recipe = recipe.model_copy(update={"exclude": (*recipe.exclude, *left)})
    graph = prepared.graph
    weights = Weights(graph)
    layers = [_layer(node, weights) for node in graph.node]
    layers = _fold_activations(layers, graph, weights, recipe)
    decided = _decide(layers, graph, recipe)
    if recipe.fused_sums:
        decided = _sums_fused(decided, graph)
    if recipe.fused_activations:
        decided = _activations_fused(decided, graph)
    net = Net(prepared, tuple(decided), recipe.operators == "standard", recipe.shared_scales)
    if not left and not any(x.quantized and x.weight is not None for x in net.layers):
        raise QuantizeError(
            "nothing to quantize: no Conv, Gemm or MatMul outside of exclude has constant float32 "
            "weights.",
            "Keep the fp32 model, or try engine: ort, which quantizes every MatMul.",
        )
    return net


def check_excluded(recipe: Recipe, names: Collection[str]) -> None:
    """Raises QuantizeError when a node to exclude is not among these."""
    unknown = sorted(set(recipe.exclude).difference(names))
    if unknown:
        raise QuantizeError(
            f"exclude: the model has no node called {unknown[0]!r}.",
            "quantlab inspect --layers lists the names.",
        )


def _layer(node: onnx.NodeProto, weights: Mapping[str, g.Array]) -> Layer:
    dynamic = tuple(n for n in g.node_reads(node) if n not in weights)
    layer = Layer(node, dynamic, tuple(n for n in node.output if n))
    if not g.is_standard(node, "Conv", "Gemm") or len(dynamic) != 1:
        return layer
    kernel = weights.get(node.input[1])
    if kernel is None or kernel.dtype != np.float32 or not _plain(node, kernel.ndim):
        return layer
    if node.op_type == "Gemm" and not g.attribute(node, "transB", 0):
        kernel = kernel.T
    given = len(node.input) > 2 and node.input[2]
    bias = weights.get(node.input[2]) if given else np.zeros(1, np.float32)
    if bias is None or bias.size not in (1, len(kernel)):
        return layer
    bias = np.broadcast_to(bias.reshape(-1), len(kernel)).astype(np.float32)
    return replace(layer, weight=np.ascontiguousarray(kernel, np.float32), bias=bias)


def _plain(node: onnx.NodeProto, dimensions: int) -> bool:
    if node.op_type == "Conv":
        return dimensions in (4, 5) and g.attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    ones = (g.attribute(node, name, 1.0) for name in ("alpha", "beta"))
    return all(one == 1.0 for one in ones) and not g.attribute(node, "transA", 0)


def _fold_activations(
    layers: list[Layer], graph: onnx.GraphProto, weights: Mapping[str, g.Array], recipe: Recipe
) -> list[Layer]:
    """Merge Relu, and Clip that contains zero, into the layer whose output only they read."""
    read_by = g.consumers(graph)
    outputs = {v.name for v in graph.output}
    made: dict[str, int] = {}
    folded: list[Layer] = []
    for layer in layers:
        bounds = _bounds(layer.node, weights)
        i = made.get(layer.inputs[0], -1) if bounds and layer.inputs else -1
        if (
            bounds
            and i >= 0
            and len(read_by[folded[i].output]) == 1
            and (folded[i].output not in outputs)
        ):
            low, high = bounds
            folded[i] = replace(
                folded[i], activation=layer.node, outputs=layer.outputs, low=low, high=high
            )
            made[layer.output] = -1
            continue
        shared = recipe.shared_scales and layer.kind == "AveragePool"
        if (
            layer.row.role == "weights"
            or layer.row.rounds_weights
            or (layer.row.clips and not shared)
        ):
            made[layer.output] = len(folded)
        folded.append(layer)
    return folded


def _bounds(node: onnx.NodeProto, weights: Mapping[str, g.Array]) -> tuple[float, float] | None:
    if g.is_standard(node, "Relu"):
        return 0.0, np.inf
    if not g.is_standard(node, "Clip"):
        return None
    limits = [-np.inf, np.inf]
    for i, name in enumerate(node.input[1:3]):
        if name and (name not in weights or weights[name].size != 1):
            return None
        limit = float(weights[name].item()) if name else limits[i]
        if abs(limit) < np.finfo(np.float32).max:  # older operator sets have no other infinity
            limits[i] = limit
    return (limits[0], limits[1]) if limits[0] <= 0 <= limits[1] else None


def _decide(layers: list[Layer], graph: onnx.GraphProto, recipe: Recipe) -> list[Layer]:
    """Marks the layers to quantize. What only fp32 reads is then left in floats, where it can be:
    a Gemm gives fp32 at the same speed, and an Add behind it need not round. Where a sum or a
    product for an int8 layer reads one int8 tensor and one of floats, the latter is quantized.
    With dynamic activations products alone are quantized, and give fp32."""
    if recipe.activations == "dynamic":
        wanted = [
            x.kind == "Gemm" and x.weight is not None and x.name not in recipe.exclude
            for x in layers
        ]
        return [
            replace(layer, quantized=each, float_output=each)
            for layer, each in zip(layers, wanted, strict=True)
        ]
    decided = _marked(layers, graph, recipe, set(), set())
    floats = _not_wanted(decided, graph, recipe)
    taken = _also_quantized(decided) - floats
    return _marked(layers, graph, recipe, floats, taken) if floats or taken else decided


def _sums_fused(layers: list[Layer], graph: onnx.GraphProto) -> list[Layer]:
    """Of what a quantized sum of two tensors reads, one convolution that nobody else reads gives
    floats."""
    outputs = {v.name for v in graph.output}
    readers: dict[str, int] = {}
    for layer in layers:
        for name in layer.inputs:
            readers[name] = readers.get(name, 0) + 1
    alone = {
        layer.output
        for layer in layers
        if layer.quantized and layer.weight is not None and layer.kind == "Conv"
        if layer.activation is None and layer.output not in outputs
        if readers.get(layer.output) == 1
    }
    floats = set[str]()
    for layer in layers:
        if layer.quantized and layer.kind == "Add" and len(set(layer.inputs)) == 2:
            floats.update([name for name in layer.inputs if name in alone][-1:])
    return [
        replace(layer, float_output=True) if layer.outputs and layer.output in floats else layer
        for layer in layers
    ]


def _activations_fused(layers: list[Layer], graph: onnx.GraphProto) -> list[Layer]:
    """Functions of what one layer with weights makes, value by value, are computed in fp32 of its
    unrounded output, where nothing else reads that."""
    source: dict[str, str] = {}
    outputs = {v.name for v in graph.output}
    for layer in layers:
        if layer.quantized and layer.weight is not None and layer.activation is None:
            source[layer.output] = layer.output
        elif _by_value(layer) and len({source.get(name) for name in layer.inputs}) == 1:
            found = source.get(layer.inputs[0])
            if found is not None:
                source[layer.output] = found
    inside = {name for name, root in source.items() if name != root}
    read_outside = {
        name for layer in layers if layer.output not in inside for name in layer.inputs
    } | outputs
    roots = {source[name] for name in inside} - read_outside
    return [
        replace(layer, float_output=True)
        if layer.output in roots
        else replace(layer, quantized=False, float_output=False)
        if layer.output in inside and source[layer.output] in roots
        else layer
        for layer in layers
    ]


_BY_VALUE = (
    "Add", "Sub", "Mul", "Div", "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid",
    "HardSwish", "QuickGelu", "Gelu", "FastGelu", "Tanh", "Erf", "Elu", "Selu", "Celu", "Mish",
    "Softplus", "Softsign", "ThresholdedRelu",
)  # fmt: skip


def _by_value(layer: Layer) -> bool:
    return layer.kind in _BY_VALUE and len(layer.outputs) == 1 and bool(layer.inputs)


def _also_quantized(layers: list[Layer]) -> set[str]:
    read = {name for layer in layers if layer.quantized for name in layer.inputs}
    made = {
        name
        for layer in layers
        if layer.quantized and not layer.float_output
        for name in layer.outputs
    }
    return {
        name
        for layer in layers
        if not layer.quantized and g.is_standard(layer.node, "Add", "Mul")
        if layer.output in read and len(layer.inputs) == 2 and made.intersection(layer.inputs)
        for name in layer.inputs
    } - made


def _marked(
    layers: list[Layer],
    graph: onnx.GraphProto,
    recipe: Recipe,
    floats: set[str],
    taken: set[str],
) -> list[Layer]:
    """After the last layer with weights nothing is quantized when the recipe keeps the classifier's
    output in fp32, and a Gemm there gives fp32 itself."""
    exclude = set(recipe.exclude)
    last = max((i for i, layer in enumerate(layers) if layer.weight is not None), default=-1)
    outputs = {v.name for v in graph.output}
    made = taken & {v.name for v in graph.input}
    marked = []
    for i, layer in enumerate(layers):
        wanted = layer.name not in exclude and not (recipe.fp32_output and i > last)
        plain = layer.row.gives_floats and layer.activation is None
        if layer.weight is not None:
            ends = recipe.fp32_output and i == last
            wanted = wanted and not (ends and layer.output in outputs and not plain)
            gives = wanted and plain and (ends or layer.output in floats)
            layer = replace(layer, quantized=wanted, float_output=gives)
        elif wanted and layer.row.role in ("follows", "moves") and _follows(layer, made):
            gives = plain and layer.output in floats
            stays = layer.output not in floats or gives
            layer = replace(layer, quantized=stays, float_output=gives)
        if layer.quantized and not layer.float_output:
            made.update(layer.outputs)
        elif not layer.quantized:
            made.update(taken.intersection(layer.outputs))
        marked.append(layer)
    return marked


def _follows(layer: Layer, made: set[str]) -> bool:
    """Whether the layer reads what is quantized, and besides it nothing that its kernel does not
    take."""
    if not layer.inputs or not made.issuperset(layer.inputs):
        return False
    if layer.row.role == "moves":
        return layer.inputs == (layer.node.input[0],)
    return all(name in layer.inputs for name in layer.node.input)


def _not_wanted(layers: list[Layer], graph: onnx.GraphProto, recipe: Recipe) -> set[str]:
    """Outputs of quantized layers that no integer kernel needs and that can be floats at no cost:
    those of a product, and of what follows one."""
    outputs = {v.name for v in graph.output}
    wanted = set(outputs)
    if not recipe.fp32_output:
        wanted.update([layer.output for layer in layers if layer.weight is not None][-1:])
    for layer in reversed(layers):
        needs = layer.weight is not None or wanted.intersection(layer.outputs)
        if layer.quantized and needs:
            wanted.update(layer.inputs)
    found: set[str] = set()
    for layer in layers:
        if not layer.quantized or wanted.intersection(layer.outputs):
            continue
        product = layer.row.gives_floats and layer.activation is None
        if product or (layer.weight is None and found.intersection(layer.inputs)):
            found.update(layer.outputs)
    return found
