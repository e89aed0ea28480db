"""The Profile that is made of OpenVINO's counters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino.opset13 as ops
import pytest

from quantlab.inspect.kernels import KernelKind
from quantlab.inspect.openvino_profile import (
    Counted,
    RuntimeNode,
    RuntimeTensor,
    Turn,
    counters,
    kind_of_node,
    openvino_profile,
    runtime_nodes,
)
from quantlab.inspect.profile import Profile
from quantlab.runtime.openvino import OpenVinoSession


def node(layer: str, precision: str, *inputs: tuple[str, str, str], made: str = "") -> RuntimeNode:
    read = tuple(RuntimeTensor(*each) for each in inputs)
    return RuntimeNode("conv/WithoutBiases", layer, precision, made or precision, read)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (node("Convolution", "u8", ("x", "Convolution", "u8")), "int8"),
        (node("Convolution", "f32", ("x", "Convolution", "f32")), "fp32"),
        (node("Reorder", "f32", ("x", "Input", "f32"), made="u8"), "quantize"),
        (node("Reorder", "f32", ("x", "Input", "f32")), "move"),
        (node("Convert", "u8", ("x", "Input", "u8"), made="f32"), "quantize"),
        (node("FakeQuantize", "f32", ("x", "Input", "f32")), "quantize"),
        (node("Reshape", "u8", ("x", "Input", "u8")), "move"),
        (node("Eltwise", "i32", ("x", "Input", "i32")), "move"),
        (node("Eltwise", "bf16", ("x", "Input", "bf16")), "fp32"),
    ],
)
def test_kinds_are_those_of_onnx_runtime(given: RuntimeNode, kind: KernelKind) -> None:
    assert kind_of_node(given) == kind


WEIGHT, SMALL, IMAGE = ("w", "Const", "f32"), ("w", "Const", "i8"), ("input", "Input", "f32")
INT8 = ("before", "Convolution", "u8")


def profile(
    one: RuntimeNode, op_type: str = "Convolution", *, quantized: bool = True, turns: int = 1
) -> Profile:
    ran = (Counted(one.name, op_type, "jit_f32", 30.0),)
    each = Turn((9.0, 1.0, 3.0), 1, ran, (Counted(one.name, op_type, "jit_f32", 20.0),))
    return openvino_profile(
        {one.name: one},
        [each] * turns,
        model="m@openvino",
        quantized=quantized,
        batch_size=1,
        threads=1,
    )


@pytest.mark.parametrize(
    ("one", "op_type", "reason"),
    [
        (
            node("Convolution", "f32", IMAGE, WEIGHT),
            "Convolution",
            "its input is the model's, in fp32; its weight is in fp32",
        ),
        (node("Convolution", "f32", INT8, WEIGHT), "Convolution", "its weight is in fp32"),
        (
            node("Convolution", "f32", IMAGE, SMALL),
            "Convolution",
            "its input is the model's, in fp32",
        ),
        (
            node("Convolution", "f32", INT8, SMALL, ("bias", "Const", "f32")),
            "Convolution",
            "it reads int8, but OpenVINO computes it in fp32",
        ),
        (
            node("Softmax", "f32", ("conv/WithoutBiases", "Convolution", "f32")),
            "Softmax",
            "OpenVINO has no int8 kernel for Softmax; what it reads of conv is in fp32",
        ),
    ],
)
def test_why_a_node_is_in_fp32(one: RuntimeNode, op_type: str, reason: str) -> None:
    (found,) = profile(one, op_type).nodes
    assert (found.name, found.kind, found.reason) == ("conv", "fp32", reason)
    (found,) = profile(one, op_type, quantized=False).nodes
    assert found.reason == "the model is not quantized"


def test_an_int8_node_needs_no_reason() -> None:
    (found,) = profile(node("Convolution", "u8", INT8, SMALL)).nodes
    assert (found.kind, found.reason, found.kernel) == ("int8", "", "jit_f32")


def test_a_turn_is_what_its_counters_gained_since_the_warm_up() -> None:
    found = profile(node("Convolution", "u8", INT8, SMALL), turns=2)
    assert found.nodes[0].ms == pytest.approx((20 * 3 - 30 * 1) / 2 / 1000)
    assert (found.runs, found.run_ms, found.runtime) == (4, 2.0, "openvino")


def test_a_node_s_time_is_the_median_over_the_turns() -> None:
    one = node("Convolution", "u8", INT8, SMALL)
    turns = [
        Turn(
            (1.0, 1.0), 1, (Counted(one.name, "C", "k", 10.0),), (Counted(one.name, "C", "k", us),)
        )
        for us in (10.0, 15.0, 500.0)
    ]
    found = openvino_profile(
        {one.name: one}, turns, model="m", quantized=True, batch_size=1, threads=1
    )
    assert found.nodes[0].ms == pytest.approx((15 * 2 - 10) / 1000)


def test_openvino_says_what_ran(tmp_path: Path) -> None:
    """A quantized convolution behind one that is not."""
    given = ops.parameter([1, 3, 32, 32], np.float32, name="x")
    rng = np.random.default_rng(0)

    def convolution(x: Any, channels: int, name: str, levels: int) -> Any:
        kernels = rng.standard_normal((16, channels, 3, 3)).astype(np.float32)
        weight = ops.constant(kernels)
        low, high = ops.constant(np.float32(-3)), ops.constant(np.float32(3))
        if levels:
            x, weight = (
                ops.fake_quantize(each, low, high, low, high, levels) for each in (x, weight)
            )
        return ops.convolution(x, weight, [1, 1], [0, 0], [0, 0], [1, 1], name=name)

    answer = convolution(convolution(given, 3, "plain", 0), 16, "small", 255)
    path = tmp_path / "m.xml"
    openvino.save_model(openvino.Model([answer], [given], "m"), path, compress_to_fp16=False)
    session = OpenVinoSession(path, threads=1, settings={"PERF_COUNT": True})
    compiled = session.compile((1, 3, 32, 32))
    request = compiled.create_infer_request()
    request.infer([np.zeros((1, 3, 32, 32), np.float32)])
    before = counters(request)
    request.infer([np.zeros((1, 3, 32, 32), np.float32)])
    found = openvino_profile(
        runtime_nodes(compiled),
        [Turn((1.0, 1.0), 1, before, counters(request))],
        model="m",
        quantized=True,
        batch_size=1,
        threads=1,
    )
    kinds = {each.name: (each.kind, each.kernel.rpartition("_")[2]) for each in found.nodes}
    assert kinds["plain"] == ("fp32", "f32")
    assert kinds["small"] == ("int8", "I8")
    reasons = {each.name: each.reason for each in found.nodes}
    assert len(found.of_kind("quantize")) == 1
    assert reasons["plain"] == "its input is the model's, in fp32; its weight is in fp32"
