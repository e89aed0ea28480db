"""What quantlab makes for a target keeps to its rules, runs in ONNX Runtime and is near to fp32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import SIZE, Weights, conv, floats, network, node, ops, quantize, sqnr

from quantlab.fetch import published
from quantlab.quantize.stamp import stamp
from quantlab.recipe import Recipe
from quantlab.targets import TARGETS
from quantlab.targets.graph import QuantizedGraph

C = 8
POINT: Weights = {"hw": floats(C, C, 1, 1, seed=3), "kw": floats(C, C, 1, 1, seed=4)}


def numbers(*values: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, np.int64)


NETWORKS: dict[str, tuple[list[onnx.NodeProto], Weights]] = {
    "plain": ([node("Identity", "a", "m")], {}),
    "residual": (
        [conv("a w2 b2", "i_c"), node("Relu", "i_c", "i_r"), conv("i_r w2", "i_d"),
         node("Add", "i_d a", "m")],
        {},
    ),
    "residual of two layers": (
        [node("Conv", "a hw", "i_c"), node("Conv", "a kw", "i_d"), node("Add", "i_c i_d", "i_s"),
         node("Relu", "i_s", "m")],
        POINT,
    ),
    "depthwise and a residual": (
        [node("Conv", "a hw", "i_c"), node("Clip", "i_c zero six", "i_r"),
         conv("i_r dw", "i_d", group=C), node("Clip", "i_d zero six", "i_e"),
         node("Conv", "i_e kw", "i_f"),
         node("Add", "a i_f", "m")],
        {**POINT, "dw": floats(C, 1, 3, 3), "zero": np.array(0, np.float32),
         "six": np.array(6, np.float32)},
    ),
    "Concat and pools": (
        [node("Conv", "a hw", "i_c"), node("Relu", "i_c", "i_r"), conv("a w2 b2", "i_d"),
         node("MaxPool", "i_r", "i_p", kernel_shape=[3, 3], pads=[1] * 4),
         node("AveragePool", "i_r", "i_q", kernel_shape=[3, 3], pads=[1] * 4),
         node("Concat", "i_r i_d i_p i_q", "i_k", axis=1), node("Conv", "i_k jw", "m")],
        {**POINT, "jw": floats(C, 4 * C, 1, 1)},
    ),
    "squeeze-excite": (
        [node("GlobalAveragePool", "a", "i_p"), node("Conv", "i_p hw", "i_g"),
         node("Sigmoid", "i_g", "i_s"),
         node("Mul", "i_s a", "m")],
        POINT,
    ),
    "HardSwish": ([node("Conv", "a hw", "i_c"), node("HardSwish", "i_c", "m")], POINT),
    "SiLU": (
        [node("Conv", "a hw", "i_c"), node("Sigmoid", "i_c", "i_s"), node("Mul", "i_c i_s", "m")],
        POINT,
    ),
    "shuffled channels": (
        [node("Split", "a", "i_s i_t", axis=1, num_outputs=2), node("Conv", "i_t sw", "i_u"),
         node("Concat", "i_s i_u", "i_k", axis=1), node("Reshape", "i_k two", "i_v"),
         node("Transpose", "i_v", "i_w", perm=[0, 2, 1, 3, 4]), node("Reshape", "i_w one", "m")],
        {"sw": floats(C // 2, C // 2, 1, 1), "two": numbers(0, 2, C // 2, SIZE, SIZE),
         "one": numbers(0, C, SIZE, SIZE)},
    ),
    "attention": (
        [node("Reshape", "a flat", "i_t"), node("Transpose", "i_t", "i_x1", perm=[0, 2, 1]),
         node("LayerNormalization", "i_x1 up down", "i_n"),
         node("MatMul", "i_n qw", "i_q"), node("MatMul", "i_n pw", "i_k"),
         node("MatMul", "i_n vw", "i_v"),
         node("Transpose", "i_k", "i_kt", perm=[0, 2, 1]), node("MatMul", "i_q i_kt", "i_l"),
         node("Softmax", "i_l", "i_o", axis=-1), node("MatMul", "i_o i_v", "i_z"),
         node("MatMul", "i_z ow", "i_z1"), node("Add", "i_z1 i_x1", "i_y1"),
         node("Transpose", "i_y1", "i_y2", perm=[0, 2, 1]), node("Reshape", "i_y2 square", "m")],
        {"flat": numbers(0, C, SIZE * SIZE), "square": numbers(0, C, SIZE, SIZE),
         "up": np.ones(C, np.float32), "down": np.zeros(C, np.float32),
         "qw": floats(C, C, seed=5), "pw": floats(C, C, seed=6), "vw": floats(C, C, seed=7),
         "ow": floats(C, C, seed=8)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_keeps_to_the_rules(name: str, target: str, tmp_path: Path) -> None:
    nodes, weights = NETWORKS[name]
    model = network(tmp_path, nodes, weights)
    proto = quantize(model, target=target)
    assert TARGETS[target].breaches(proto) == ()
    assert sqnr(model, proto) > 20


@pytest.mark.parametrize("activations", ["u16", "u8"])
def test_qnn_takes_16_bits_too(activations: str, tmp_path: Path) -> None:
    nodes, weights = NETWORKS["squeeze-excite"]
    model = network(tmp_path, nodes, weights)
    proto = quantize(model, target="qnn", activations=activations)
    assert TARGETS["qnn"].breaches(proto) == ()
    assert sqnr(model, proto) > (30 if activations == "u16" else 20)


def test_qnn_takes_one_scale_for_all_weights(tmp_path: Path) -> None:
    model = network(tmp_path)
    proto = quantize(model, target="qnn", per_channel=False)
    assert TARGETS["qnn"].breaches(proto) == ()
    assert {len(q.scale) for q in QuantizedGraph(proto).of_role("weight")} == {1}
    assert {len(q.scale) for q in QuantizedGraph(proto).of_role("bias")} == {1}
    assert sqnr(model, proto) > 20


def test_x86_is_what_is_made_without_a_target(tmp_path: Path) -> None:
    nodes, weights = NETWORKS["depthwise and a residual"]
    model = network(tmp_path, nodes, weights)
    named, unnamed = quantize(model, target="x86"), quantize(model)
    assert named.SerializeToString() == unnamed.SerializeToString()
    recipes = Recipe(target="x86"), Recipe()
    stamped = [stamp(p, model, r, "", ()) for p, r in zip((named, unnamed), recipes, strict=True)]
    assert stamped[0] == stamped[1]


def test_the_npu_recipe_is_the_widest_with_percentiles(tmp_path: Path) -> None:
    """What it was before it named its target is known by its digest, and what makes the same file
    in every byte needs no target."""
    nodes, weights = NETWORKS["depthwise and a residual"]
    model = network(tmp_path, nodes, weights)
    entry = published("npu-timm")
    assert entry.recipe is not None
    assert (entry.recipe.target, entry.recipe.placement) == ("widest", "widest")
    before = Recipe(ranges="percentile", range_search=False, images_per_class=1)
    assert entry.former_recipes == (before.digest,)
    now = quantize(model, **entry.recipe.given)
    same = quantize(model, **before.given, placement="widest")
    assert now.SerializeToString() == same.SerializeToString()
    assert TARGETS["widest"].breaches(now) == ()


def test_a_symmetric_file_keeps_its_relu(tmp_path: Path) -> None:
    """A quantizer with zero point 0 clips nothing at zero, which an asymmetric one does."""
    model = network(tmp_path)
    proto = quantize(model, activations="s8", symmetric=True)
    assert ops(proto).count("Relu") == 2
    assert "Relu" not in ops(quantize(model, activations="s8"))


def test_one_convolution_of_a_sum_is_not_rounded(tmp_path: Path) -> None:
    nodes, weights = NETWORKS["residual"]
    model = network(tmp_path, nodes, weights)
    proto = quantize(model, fused_sums=True, activations="s8")
    made = {n.output[0]: n.op_type for n in proto.graph.node}
    [total] = [n for n in proto.graph.node if n.op_type == "Add"]
    assert sorted(made[name] for name in total.input) == ["Conv", "DequantizeLinear"]
    assert sqnr(model, proto) > 25


def test_averages_and_joins_share_scales(tmp_path: Path) -> None:
    """What a Concat reads with another scale is quantized anew before it, once."""
    nodes, weights = NETWORKS["Concat and pools"]
    model = network(tmp_path, nodes, weights)
    proto = quantize(model, shared_scales=True, activations="s8")
    rule = next(r for r in TARGETS["tflite"].rules if r.name == "same-scale-joins")
    assert not list(rule.breaches(QuantizedGraph(proto)))
    onnx.checker.check_model(proto)
    assert sqnr(model, proto) > 25
