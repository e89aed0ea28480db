"""Make the table of costs: times of operators in int8 and in fp32, fitted on small networks.

    python benchmarks/costs.py [--out quantlab/quantize/costs.json] [--rounds 3]

Networks of the blocks that image classifiers are made of, of many sizes, are run in ONNX Runtime's
profiler on one thread: in fp32, with everything in int8, and in turns layer by layer, which times
the conversions. Files of one network take turns; a time is the median of the rounds' medians. Each
kind's times are fitted by non-negative least squares of the relative error.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import nnls

from quantlab._util.files import write_whole
from quantlab.quantize.costs import TABLE, Cost, Costs, Precision, Work
from quantlab.quantize.engine import PLAIN, make_plan
from quantlab.quantize.engine.forms import to_int8_forms
from quantlab.quantize.engine.net import read_net
from quantlab.quantize.engine.place import FUSED, sizes_of, tensor_values, units_of, work_of
from quantlab.quantize.engine.plan import QuantizationPlan
from quantlab.quantize.engine.qdq import write_qdq
from quantlab.quantize.engine.timed import NodeRun, by_layer, fp32_file, node_runs
from quantlab.quantize.prepare import prepare
from quantlab.recipe import Recipe

RECIPE = Recipe().model_copy(update={**PLAIN, "placement": "widest"})
UNSURE = 2.0
"""Microseconds."""
TERMS = ("start", "position", "read", "write", "mac")
Row = tuple[Work, float]


@dataclass
class Network:
    """A graph under construction, of random weights."""

    channels: int
    size: int
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, op: str, *reads: str, domain: str = "", **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        made = helper.make_node(op, list(reads), [f"{name}_out"], name, domain=domain, **attributes)
        self.nodes.append(made)
        return f"{name}_out"

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        values = self.rng.normal(size=shape, scale=np.prod(shape[1:]) ** -0.5)
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(
        self, x: str, a: int, b: int, kernel: int = 1, stride: int = 1, groups: int = 1,
        axes: int = 2,
    ) -> str:  # fmt: skip
        w, bias = self.weight(b, a // groups, *[kernel] * axes), self.weight(b)
        around: dict[str, Any] = {"pads": [kernel // 2] * 2 * axes, "strides": [stride] * axes}
        return self.node("Conv", x, w, bias, kernel_shape=[kernel] * axes, group=groups, **around)

    def act(self, x: str, kind: str) -> str:
        if kind == "silu":
            return self.node("Mul", x, self.node("Sigmoid", x))
        return self.node({"relu": "Relu", "hswish": "HardSwish"}[kind], x)

    def gate(self, x: str, channels: int, hard: bool) -> str:
        small = max(channels // 4, 4)
        y = self.node("Relu", self.conv(self.node("GlobalAveragePool", x), channels, small))
        y = self.conv(y, small, channels)
        return self.node("Mul", x, self.node("HardSigmoid" if hard else "Sigmoid", y))

    def model(self, x: str, shape: Sequence[int]) -> onnx.ModelProto:
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
        made = helper.make_tensor_value_info(x, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "costs", [given], [made], self.weights)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        proto.ir_version = 9
        return proto


def mobile(c: int, size: int, expand: int, kernel: int, act: str, gated: bool) -> onnx.ModelProto:
    """Inverted bottlenecks, the second one of half the size."""
    net = Network(c, size)
    wide, x = c * expand, "x"
    x = net.conv(x, c, c)
    for stride in (1, 1, 2):
        y = net.act(net.conv(x, c, wide), act)
        y = net.act(net.conv(y, wide, wide, kernel, stride, wide), act)
        y = net.gate(y, wide, act == "hswish") if gated else y
        y = net.conv(y, wide, c)
        x = net.node("Add", x, y) if stride == 1 else y
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net.model(net.node("Gemm", x, net.weight(c, 10)), (1, c, size, size))


def residual(c: int, size: int, groups: int) -> onnx.ModelProto:
    """Convolutions of 3×3, grouped or not, with pools, a Concat and a channel shuffle."""
    net = Network(c, size)
    x = net.node("Relu", net.conv("x", c, c, 3, 1, groups))
    x = net.node("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
    y = net.node("Relu", net.conv(x, c, c, 3, 1, groups))
    x = net.node("Relu", net.node("Add", x, net.conv(y, c, c, 3, 1, groups)))
    z = net.node("LeakyRelu", net.conv(x, c, c, 3, 2, groups))
    y = net.node("Relu", net.conv(x, c, c, 1, 2))
    x = net.conv(net.node("Concat", y, z, axis=1), 2 * c, c)
    x = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Flatten", net.node("GlobalAveragePool", net.conv(x, c, c)))
    return net.model(net.node("Gemm", x, net.weight(c, 10)), (1, c, size, size))


def shuffled(c: int, size: int) -> onnx.ModelProto:
    """Channels split, computed on one side and shuffled, as in ShuffleNet."""
    net = Network(c, size)
    half = c // 2
    shape = numpy_helper.from_array(np.array([1, 2, half, size, size]), "apart")
    back = numpy_helper.from_array(np.array([1, c, size, size]), "together")
    net.weights += [shape, back]

    def shuffle(a: str, b: str) -> str:
        x = net.node("Reshape", net.node("Concat", a, b, axis=1), "apart")
        return net.node("Reshape", net.node("Transpose", x, perm=[0, 2, 1, 3, 4]), "together")

    x = shuffle(*(net.node("Relu", net.conv("x", c, half)) for _ in range(2)))
    for _ in range(2):
        a, b = f"{x}_a", f"{x}_b"
        net.nodes.append(helper.make_node("Split", [x], [a, b], f"Split_{x}", axis=1))
        y = net.node("Relu", net.conv(b, half, half))
        y = net.node("Relu", net.conv(net.conv(y, half, half, 3, 1, half), half, half))
        x = shuffle(a, y)
    x = net.node("Flatten", net.node("GlobalAveragePool", net.conv(x, c, c)))
    return net.model(net.node("Gemm", x, net.weight(c, 10)), (1, c, size, size))


def first(c: int, size: int, kernel: int) -> onnx.ModelProto:
    """What an image meets first."""
    net = Network(3, size)
    x = net.node("Relu", net.conv("x", 3, c, kernel, 2))
    x = net.node("Relu", net.conv(x, c, c, 3, 2, c))
    x = net.node("Flatten", net.node("GlobalAveragePool", net.conv(x, c, c)))
    return net.model(net.node("Gemm", x, net.weight(c, 10)), (1, 3, size, size))


def volume(c: int, size: int, groups: int) -> onnx.ModelProto:
    """Convolutions over three axes: 3×3×3, grouped or not, and 1×1×1."""
    net = Network(c, size)
    x = net.node("Relu", net.conv("x", c, c, 3, 1, groups, axes=3))
    y = net.node("Relu", net.conv(x, c, c, axes=3))
    y = net.node("Relu", net.conv(y, c, c, 3, 2, groups, axes=3))
    x = net.node("Relu", net.conv(y, c, 2 * c, axes=3))
    x = net.node("Flatten", net.node("GlobalAveragePool", net.conv(x, 2 * c, c, axes=3)))
    return net.model(net.node("Gemm", x, net.weight(c, 10)), (1, c, size, size, size))


def perceptron(tokens: int, width: int) -> onnx.ModelProto:
    """Rows through matrices, as in a transformer's blocks."""
    net = Network(width, tokens)
    x = "x"
    for _ in range(2):
        y = net.node(
            "Add", net.node("MatMul", x, net.weight(width, 4 * width)), net.weight(4 * width)
        )
        y = net.node("Relu", y)
        x = net.node("Add", net.node("MatMul", y, net.weight(4 * width, width)), net.weight(width))
        x = net.node("Add", net.node("MatMul", x, net.weight(width, width)), net.weight(width))
    return net.model(net.node("MatMul", x, net.weight(width, 10)), (1, tokens, width))


def networks() -> Iterator[onnx.ModelProto]:
    """All of them."""
    for c, size in ((16, 112), (24, 56), (32, 28), (64, 28), (64, 14), (96, 14), (160, 7), (8, 24)):
        for expand, kernel in ((6, 3), (4, 5)) if size < 100 else ((2, 3),):
            for act, gated in (("relu", False), ("hswish", True), ("silu", True)):
                yield mobile(c, size, expand, kernel, act, gated)
    for c, size in ((11, 24), (22, 16), (25, 14), (26, 32), (30, 56)):
        yield mobile(c, size, 4, 5, "hswish", True)
        yield mobile(c, size, 3, 3, "silu", True)
    for c, size in ((32, 56), (64, 56), (128, 28), (256, 14), (512, 7), (64, 16)):
        for groups in (1, c // 16):
            yield residual(c, size, groups)
    for c, size in ((116, 28), (232, 14), (464, 7), (48, 56), (116, 14), (52, 28), (84, 56)):
        yield shuffled(c, size)
    for c, size in ((8, 64), (16, 160), (16, 224), (32, 96), (32, 224), (64, 160), (64, 224)):
        for kernel in (3, 7):
            yield first(c, size, kernel)
    for c, size in ((16, 16), (32, 16), (64, 8), (64, 14), (128, 7), (256, 4)):
        for groups in (1, c // 16, c):
            yield volume(c, size, groups)
    for tokens, width in ((16, 64), (49, 128), (64, 64), (197, 192), (197, 384), (49, 384)):
        yield perceptron(tokens, width)


def plan_of(model: onnx.ModelProto) -> tuple[QuantizationPlan, Mapping[str, NDArray[Any]]]:
    """The network with everything in int8 that can be, and an image for it."""
    proto = prepare(model)
    to_int8_forms(proto)
    del proto.graph.value_info[:]
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return make_plan(read_net(proto, RECIPE), RECIPE, [image] * 2), {"x": image}


def in_turns(plan: QuantizationPlan) -> onnx.ModelProto:
    """Every other layer with weights in fp32, with what follows it."""
    turn = False
    kept = []
    for layer in plan.net.layers:
        turn = turn != (layer.weight is not None)
        kept.append(turn or layer.weight is None)
    return without(plan, kept)


def no_gates(plan: QuantizationPlan) -> onnx.ModelProto:
    """All in int8 but pools and products."""
    kept = [layer.kind not in ("Mul", "GlobalAveragePool") for layer in plan.net.layers]
    return without(plan, kept)


def without(plan: QuantizationPlan, kept: Sequence[bool]) -> onnx.ModelProto:
    """The plan's file with some layers in fp32."""
    layers = (
        replace(x, quantized=x.quantized and keep, float_output=x.float_output and keep)
        for x, keep in zip(plan.net.layers, kept, strict=True)
    )
    mixed = replace(plan.net, layers=tuple(layers))
    names = set(mixed.quantized_tensors)
    made = {x.output for x in mixed.layers if x.quantized}
    tensors = {n: t for n, t in plan.tensors.items() if n in names}
    weights = {n: w for n, w in plan.weights.items() if n in made}
    return write_qdq(replace(plan, net=mixed, tensors=tensors, weights=weights))


def collect(model: onnx.ModelProto, rounds: int, rows: dict[tuple[str, str], list[Row]]) -> None:
    """Adds the times of one network's operators and conversions."""
    plan, feeds = plan_of(model)
    shapes = sizes_of(tensor_values(plan.net, feeds["x"]))
    files = {
        "int8": write_qdq(plan),
        "fp32": fp32_file(plan),
        "in turns": in_turns(plan),
        "no gates": no_gates(plan),
    }
    units = [unit for unit in units_of(plan.net, shapes) if len(unit) > 1]
    activating = {unit[0].name for unit in units if unit[-1].kind == "Mul"}
    runs: dict[str, list[list[NodeRun]]] = defaultdict(list)
    for _ in range(rounds):
        for how, proto in files.items():
            runs[how].append(node_runs(proto, feeds))
    for how in files:
        nodes = [
            replace(same[0], microseconds=median(x.microseconds for x in same))
            for same in zip(*runs[how], strict=True)
        ]
        if how in ("int8", "fp32"):
            for layer, run in by_layer(plan.net, nodes):
                work = work_of(plan.net, layer, shapes)
                activated = how == "fp32" and layer.name in activating
                rows[f"{FUSED} {work.kind}" if activated else work.kind, how].append(
                    (work, run.microseconds)
                )
        for run in nodes:
            size = int(np.prod(run.reads[0])) if run.reads else 0
            image = bool(run.reads) and len(run.reads[0]) == 4 and size > np.prod(run.reads[0][:2])
            kind = run.operator
            if kind == "Transpose" and len(run.reads[0]) == 4:
                kind = f"Transpose {'floats' if run.floats else 'integers'}"
            if kind in CONVERSIONS and image:
                rows[kind, "convert"].append((Work(kind, 0, 0, size), run.microseconds))


CONVERSIONS = (
    "QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Transpose floats",
    "Transpose integers",
)  # fmt: skip


def fitted(rows: Sequence[Row], terms: Sequence[str] = TERMS) -> tuple[Cost, float]:
    """The cost with the least squared relative error, and the median of that error; times of a
    few microseconds are not known so well, and count for less."""
    kept = [TERMS.index(term) for term in terms]
    times = np.array([t for _, t in rows])
    amounts = np.array([work.amounts for work, _ in rows])[:, kept]
    weights = 1 / (times + UNSURE)
    found, _ = nnls(amounts * weights[:, None], times * weights)
    error = np.abs(amounts @ found / times - 1)
    return Cost(**{t: float(f"{v:.4g}") for t, v in zip(terms, found, strict=True)}), float(
        np.median(error)
    )


def sum_of(*costs: Cost) -> Cost:
    return Cost(**{t: float(f"{sum(getattr(c, t) for c in costs):.4g}") for t in TERMS})


def table(rows: Mapping[tuple[str, str], Sequence[Row]]) -> Costs:
    """The fitted table; errors of each fit go to stderr."""
    operators: dict[str, dict[Precision, Cost]] = defaultdict(dict)
    parts: dict[str, Cost] = {}
    for (kind, how), found in sorted(rows.items()):
        if kind.startswith(FUSED):
            continue
        terms = ("start", "write") if how == "convert" else TERMS
        cost, error = fitted(found, terms)
        print(
            f"{kind:20s} {how:8s} {len(found):4d} times, {error:5.1%} off  {cost}", file=sys.stderr
        )
        if how == "convert":
            parts[kind] = cost
        else:
            operators[kind]["int8" if how == "int8" else "fp32"] = cost
    operators[FUSED]["fp32"] = activations(rows, operators)
    quantize, dequantize = parts["QuantizeLinear"], parts["DequantizeLinear"]
    image = {
        "quantize": sum_of(parts["ReorderOutput"], quantize, parts["Transpose integers"]),
        "dequantize": sum_of(parts["Transpose integers"], dequantize, parts["ReorderInput"]),
        "reorder": parts["ReorderInput"],
        "transpose": sum_of(parts["Transpose floats"], parts["ReorderInput"]),
    }
    matrix = {
        "quantize": quantize,
        "dequantize": dequantize,
        "reorder": Cost(),
        "transpose": Cost(),
    }
    return Costs.model_validate(
        {
            "instructions": "avx512-vnni",
            "onnxruntime": onnxruntime.__version__,
            "operators": operators,
            "conversions": {"image": image, "matrix": matrix},
        }
    )


def activations(
    rows: Mapping[tuple[str, str], Sequence[Row]], operators: Mapping[str, Mapping[Precision, Cost]]
) -> Cost:
    """What a HardSwish adds to the convolution that computes it too, for each value written: the
    least squared error, as a share of both together."""
    found = [
        (work.writes / 1000, time, operators[work.kind]["fp32"].of(work))
        for (kind, _), timed in rows.items()
        if kind.startswith(FUSED) and "odd" not in kind  # these are computed apart
        for work, time in timed
    ]
    writes, times, alone = (np.array(column) for column in zip(*found, strict=True))
    weights = (times + UNSURE) ** -2
    each = float((weights * writes * (times - alone)).sum() / (weights * writes**2).sum())
    error = np.median(np.abs((alone + each * writes) / times - 1))
    print(
        f"{FUSED:20s} fp32     {len(found):4d} times, {error:5.1%} off  {each:.4f}", file=sys.stderr
    )
    return Cost(write=float(f"{max(each, 0.0):.4g}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for model in networks():
        collect(model, args.rounds, rows)
    write_whole(args.out, (table(rows).model_dump_json(indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
