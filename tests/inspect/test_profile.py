from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantlab.errors import ModelError
from quantlab.inspect import profile as profiles
from quantlab.inspect.profile import (
    QUANTIZERS,
    NodeTime,
    Profile,
    answers,
    operator,
    profile_of,
    read_events,
)


def node(name: str, op: str, ts: int, dur: int, kind: str = "float") -> dict[str, Any]:
    arguments = {"op_name": op, "node_index": "7", "input_type_shape": [{kind: [1, 3]}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": arguments}


def run(ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur, "args": {}}


def events() -> list[dict[str, Any]]:
    """Four runs of 1 ms and more of a Conv, an Add that runs twice, and a QLinearConv."""
    found = [{"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 9, "args": {}}]
    for i, conv in enumerate((900, 300, 500, 400)):
        start = 10_000 * (i + 1)
        found += [
            node("a_nchwc", "Conv", start + 10, conv),
            node("sum", "Add", start + 2000, 20),
            node("sum", "Add", start + 2100, 30),
            node("b_token_3", "QLinearConv", start + 3000, 100, "uint8"),
            run(start, 1000 * (i + 1)),
        ]
    return found[::-1]


def profile(**options: Any) -> Profile:
    given = {"model": "net", "batch_size": 1, "threads": 1, "counted": (1, 2, 3), **options}
    return profile_of(events(), **given)


def test_medians_of_the_counted_runs_in_running_order() -> None:
    found = profile(reasons={"a": "its output is the model's"})
    assert (found.runs, found.run_ms) == (3, 3.0)
    assert [(n.name, n.op_type, n.kind, n.ms) for n in found.nodes] == [
        ("a", "Conv", "fp32", 0.4),
        ("sum", "Add", "fp32", 0.05),
        ("b", "QLinearConv", "int8", 0.1),
    ]
    assert [n.reason for n in found.nodes] == ["its output is the model's", "", ""]
    assert found.between_ms == pytest.approx(2.45)
    assert found.by_operator() == pytest.approx({"Conv": 0.5, "Add": 0.05})
    assert [n.name for n in found.slowest(2)] == ["a", "b"]
    assert Profile.model_validate_json(found.model_dump_json()) == found


def test_a_profile_cut_short_is_refused() -> None:
    with pytest.raises(ModelError, match="cut short: it holds 4 runs"):
        profile(counted=(3, 4))
    with pytest.raises(ModelError, match="cut short"):
        profile(counted=())


@pytest.mark.parametrize(
    "broken",
    [
        {"cat": "Node", "name": "a_kernel_time", "ts": 10_001, "dur": 3},
        {"cat": "Node", "name": "a_kernel_time", "ts": 10_001, "dur": 3, "args": {}},
        {"cat": "Node", "name": "a_kernel_time", "ts": "x", "dur": 3, "args": {"op_name": "Conv"}},
        {"cat": "Node", "name": 3},
        {"name": "model_run", "ts": 1},
    ],
)
def test_events_of_another_kind_are_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="not as expected"):
        profile_of([*events(), broken], model="n", batch_size=1, threads=1, counted=(1,))


@pytest.mark.parametrize("text", ["", "{}", "[1, 2", "[" * 100_000, "\x00"])
def test_a_file_that_is_no_profile(text: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(ModelError, match="ONNX Runtime's profile"):
        read_events(path)


def test_a_file_is_read_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps([{"name": "model_run"}, 3]))
    assert read_events(path) == [{"name": "model_run"}]
    monkeypatch.setattr(profiles, "MAX_BYTES", 10)
    with pytest.raises(ModelError, match="larger than"):
        read_events(path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_events(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("op_type", "expected"),
    [
        ("Conv", "Conv"),
        ("FusedConv", "Conv"),
        ("QLinearConv", "Conv"),
        ("ConvInteger", "Conv"),
        ("Gemm", "Gemm/MatMul"),
        ("QGemm", "Gemm/MatMul"),
        ("QLinearMatMul", "Gemm/MatMul"),
        ("MatMulIntegerToFloat", "Gemm/MatMul"),
        ("DynamicQuantizeMatMul", "Gemm/MatMul"),
        ("NhwcMaxPool", "MaxPool"),
        ("QLinearAdd", "Add"),
        ("DequantizeLinear", QUANTIZERS),
        ("DynamicQuantizeLinear", QUANTIZERS),
    ],
)
def test_operators_of_one_kind_are_one(op_type: str, expected: str) -> None:
    assert operator(op_type) == expected


def made(model: str, run_ms: float, *nodes: tuple[str, str, float, str]) -> Profile:
    """Nodes are operator, kind, milliseconds, reason."""
    rows = tuple(
        NodeTime(name=f"n{i}", op_type=op, kind=kind, ms=ms, reason=reason)  # type: ignore[arg-type]
        for i, (op, kind, ms, reason) in enumerate(nodes)
    )
    return Profile(model=model, batch_size=1, threads=1, runs=3, run_ms=run_ms, nodes=rows)


FP32 = made("net", 10, ("Conv", "fp32", 8, ""), ("Add", "fp32", 1, ""))


def test_the_answer_names_the_gain_of_each_operator_and_what_is_left() -> None:
    int8 = made(
        "net-int8",
        5,
        ("QuantizeLinear", "quantize", 0.3, ""),
        ("QLinearConv", "int8", 2, ""),
        ("Conv", "fp32", 1, "its weight is not quantized"),
        ("QLinearAdd", "int8", 0.95, ""),
        ("DequantizeLinear", "quantize", 0.3, ""),
        ("Transpose", "move", 0.4, ""),
    )
    assert answers([FP32, int8]) == (
        "net-int8 is 2.00x faster than net (10.00 to 5.00 ms); 2.67x faster in Conv (8.00 to 3.00 "
        "ms); as fast in Add (1.00 to 0.95 ms); 0.40 ms go into Transpose, which net does without.",
        "net-int8: 12.0% of its time goes into 2 QuantizeLinear and DequantizeLinear.",
        "net-int8: 1 node still runs in fp32, 20.0% of its time: 1 Conv. The slowest, n2: its "
        "weight is not quantized.",
        "net-int8: 8.0% of its time goes into 1 nodes that only move data (Transpose).",
    )


def test_a_slower_model_and_one_alone() -> None:
    slow = made("slow", 20, ("QLinearConv", "int8", 16, ""))
    assert answers([FP32, slow]) == (
        "slow is 2.00x slower than net (10.00 to 20.00 ms); 2.00x slower in Conv (8.00 to 16.00 "
        "ms).",
        "slow: every node that computes has an int8 kernel.",
    )
    assert answers([FP32, FP32])[0].startswith("net is as fast as net (10.00 to 10.00 ms); ")
    assert answers([FP32]) == ("net takes 10.00 ms a run: 80% Conv, 10% Add.",)


def test_many_kinds_left_in_fp32_are_not_all_named() -> None:
    ops = [(op, "fp32", float(i), "") for i, op in enumerate(("A", "B", "C", "D", "E", "E"))]
    found = answers([made("net", 20, ("QLinearConv", "int8", 1, ""), *ops)])
    assert found[-1] == (
        "net: 6 nodes still run in fp32, 75.0% of its time: 2 E, 1 D, 1 C, 1 B and others."
    )
