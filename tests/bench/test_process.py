"""Benchmark processes that go wrong, each played by a line of Python."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
from waiting import HANGS, gone, until

from quantlab.bench.process import BenchProcess, Deadline, workers
from quantlab.bench.task import BenchTask, TimedModel
from quantlab.errors import ModelError, QuantlabError

TASK = BenchTask(
    models=(TimedModel("absent.onnx", "input", "float32", (3, 8, 8)),),
    threads=1,
    cpus=(),
    seed=0,
    providers=("CPUExecutionProvider",),
)
READ = "import os, signal, sys, time; sys.stdin.readline(); sys.stdin.readline(); "
Played = AbstractContextManager[list[BenchProcess]]


def play(code: str, *, seconds: float = HANGS, count: int = 1) -> Played:
    command = (sys.executable, "-c", READ + code)
    return workers([TASK] * count, Deadline(seconds), command=command)


def ask(code: str, **options: Any) -> Any:
    with play(code, **options) as (worker,):
        return worker.ask("open")


def test_the_answer() -> None:
    assert ask("""print('{"answer": [42]}', flush=True); time.sleep(600)""") == [42]


def test_a_killed_process_is_named_with_its_signal() -> None:
    with pytest.raises(QuantlabError, match="killed \\(SIGKILL\\)") as caught:
        ask("os.kill(os.getpid(), signal.SIGKILL)")
    assert "memory" in caught.value.remedy


def test_a_process_killed_in_the_middle_of_a_word() -> None:
    with pytest.raises(QuantlabError, match="killed \\(SIGSEGV\\)"):
        ask("print('{\"resu', end='', flush=True); os.kill(os.getpid(), signal.SIGSEGV)")


def test_a_crash_gives_its_last_line() -> None:
    with pytest.raises(QuantlabError, match="exit code 1: ValueError: no luck"):
        ask("raise ValueError('no luck')")


def test_a_process_that_ends_without_a_word() -> None:
    command = (sys.executable, "-c", "")
    with (
        workers([TASK], Deadline(HANGS), command=command) as (worker,),
        pytest.raises(QuantlabError, match=r"exit code 0\.$"),
    ):
        worker.ask("open")


def test_a_process_that_never_answers_is_stopped() -> None:
    with pytest.raises(QuantlabError, match="did not finish in 0 s"):
        ask("time.sleep(600)", seconds=0.3)


def test_what_is_wrong_with_a_model_comes_back_as_a_model_error() -> None:
    with (
        workers([TASK], Deadline(HANGS)) as (worker,),
        pytest.raises(ModelError, match=r"absent\.onnx"),
    ):
        worker.ask("open")


def test_an_unknown_provider_is_named() -> None:
    task = replace(TASK, providers=("MoonProvider",))
    with (
        workers([task], Deadline(HANGS)) as (worker,),
        pytest.raises(ModelError, match="MoonProvider"),
    ):
        worker.ask("open")


@pytest.mark.parametrize("error", [KeyboardInterrupt, QuantlabError("wrong")])
def test_no_process_outlives_the_block(error: Any) -> None:
    code = """print('{"answer": %d}' % os.getpid(), flush=True); time.sleep(600)"""
    pids: list[int] = []

    def interrupted() -> None:
        with play(code, count=3) as started:
            pids.extend(worker.ask("open") for worker in started)
            raise error

    with pytest.raises(type(error) if isinstance(error, BaseException) else error):
        interrupted()
    assert len(set(pids)) == 3
    assert all(map(gone, pids))


def test_an_orphan_ends_by_itself() -> None:
    """When whoever asks is killed, standard input ends, and with it the process."""
    code = (
        "import os\n"
        "from quantlab.bench.process import Deadline, workers\n"
        "from quantlab.bench.task import BenchTask\n"
        "task = BenchTask((), 1, (), 0, ('CPUExecutionProvider',))\n"
        "with workers([task], Deadline(600)) as (worker,):\n"
        "    worker.ask('open')\n"
        "    print(worker._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False
    )
    until(lambda: gone(int(done.stdout)))
