"""Benchmark processes that go wrong, each played by a line of Python."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from quantlab.bench.process import run_task
from quantlab.bench.task import Subject, Task
from quantlab.errors import ModelError, QuantlabError

TASK = Task(
    kind="cost",
    subjects=(Subject("absent.onnx", "input", "float32", (3, 8, 8)),),
    batch_sizes=(1,),
    rounds=1,
    runs=1,
    seconds=1,
    warmup=1,
    threads=1,
    cpus=(),
    seed=0,
    providers=("CPUExecutionProvider",),
    optimization="all",
)
READ = "import os, signal, sys, time; sys.stdin.read(); "


def play(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", READ + code)


def test_the_result_and_what_is_said_on_the_way() -> None:
    code = """print('{"done": 1, "note": "so far"}\\n{"result": {"answer": 42}}')"""
    said: list[tuple[int, str]] = []
    result = run_task(TASK, timeout=60, heard=lambda *a: said.append(a), command=play(code))
    assert result == {"answer": 42}
    assert said == [(1, "so far")]


def test_a_killed_process_is_named_with_its_signal() -> None:
    command = play("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(QuantlabError, match="killed \\(SIGKILL\\)") as caught:
        run_task(TASK, timeout=60, command=command)
    assert "memory" in caught.value.remedy


def test_a_process_killed_in_the_middle_of_a_word() -> None:
    command = play("print('{\"resu', end='', flush=True); os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(QuantlabError, match="killed \\(SIGSEGV\\)"):
        run_task(TASK, timeout=60, command=command)


def test_a_crash_gives_its_last_line() -> None:
    with pytest.raises(QuantlabError, match="exit code 1: ValueError: no luck"):
        run_task(TASK, timeout=60, command=play("raise ValueError('no luck')"))


def test_a_process_that_ends_without_a_word() -> None:
    with pytest.raises(QuantlabError, match=r"exit code 0\.$"):
        run_task(TASK, timeout=60, command=(sys.executable, "-c", ""))


def test_a_process_that_never_ends_is_stopped() -> None:
    with pytest.raises(QuantlabError, match="did not finish in 0 s"):
        run_task(TASK, timeout=0.3, command=play("time.sleep(600)"))


def test_what_is_wrong_with_a_model_comes_back_as_a_model_error() -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        run_task(TASK, timeout=60)


def test_an_unknown_provider_is_named() -> None:
    with pytest.raises(ModelError, match="MoonProvider"):
        run_task(replace(TASK, providers=("MoonProvider",)), timeout=60)
