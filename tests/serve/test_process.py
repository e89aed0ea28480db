"""Hostile tasks in real children: each is ended, wholly, for the right reason."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile_children import LIMITS, OPEN, await_word, hostile, outcome
from waiting import HANGS, HEARD, IGNORED, gone, interrupts, until

from quantlab.errors import QuantlabError
from quantlab.serve.process import GRACE_SECONDS, Child, Ended, _family, run_task


@pytest.mark.parametrize(
    ("task", "limits", "reason"),
    [
        ({"task": "allocate"}, {"memory_bytes": 200 << 20}, "memory"),
        ({"task": "allocate_shared"}, {"memory_bytes": 200 << 20}, "memory"),
        (
            {"task": "allocate_in_children", "piece": 90 << 20, "count": 3},
            {"memory_bytes": 200 << 20},
            "memory",
        ),
        ({"task": "spin"}, {"cpu_seconds": 1}, "cpu"),
        ({"task": "spin_in_children"}, {"cpu_seconds": 2}, "cpu"),
        ({"task": "wait"}, {"seconds": 1.0}, "time"),
        ({"task": "fork"}, {"processes": 20}, "processes"),
        ({"task": "flood"}, {"lines": 1000}, "output"),
        ({"task": "flood_log"}, {}, "output"),
        ({"task": "write_large"}, {"file_bytes": 32 << 20}, "file"),
        ({"task": "write_many", "piece": 1 << 20}, {"file_bytes": 32 << 20}, "file"),
        ({"task": "write_many", "piece": 0}, {}, "file"),
        ({"task": "crash"}, {}, "crash"),
        ({"task": "leave"}, {}, "crash"),
        ({"task": "fail"}, {}, "error"),
    ],
    ids=lambda value: value["task"] if isinstance(value, dict) and "task" in value else "",
)
def test_a_task_is_ended_for_the_right_reason(
    task: dict[str, Any],
    limits: dict[str, Any],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("quantlab.serve.process.MAX_FILES", 2000)
    monkeypatch.setattr("quantlab.serve.process.LOOKS_A_WALK", 1)
    with hostile(task, tmp_path, replace(LIMITS, **limits)) as child:
        events, ended = outcome(child)
        assert ended.reason == reason, (ended, events[-3:])
        assert ended.words.endswith(".")
        until(lambda: all(gone(process.pid) for process in _family(child.pid)))


def test_nothing_of_an_error_but_a_word_reaches_the_client(tmp_path: Path) -> None:
    with hostile({"task": "fail"}, tmp_path) as child:
        events, ended = outcome(child)
    assert "secret" not in str(events)
    assert "secret" not in ended.words
    assert "ValueError: a secret place" in ended.trace
    assert (ended.code, events) == (1, [{"kind": "exit", "code": 1}])


def test_a_crash_names_its_signal_and_its_place(tmp_path: Path) -> None:
    with hostile({"task": "crash"}, tmp_path) as child:
        _, ended = outcome(child)
    assert ended.code is None
    assert "SIGSEGV" in ended.words
    assert "in crash" in ended.trace


@pytest.mark.parametrize("way", ["killed", "block", "ended"])
def test_what_a_task_has_started_ends_with_it(way: str, tmp_path: Path) -> None:
    task = {"task": "scatter", "seconds": 0.2 if way == "ended" else 600}
    with hostile(task, tmp_path) as child:
        pids = [int(pid) for pid in await_word(child).split()]
        if way == "killed":
            child.kill()
            assert outcome(child)[1].reason == "killed"
        if way == "ended":
            assert outcome(child)[1] == Ended(0)
    until(lambda: all(map(gone, [child.pid, *pids])))


@pytest.mark.parametrize("are", [HEARD, IGNORED], ids=["heard", "ignored"])
def test_an_interrupt_is_heard(are: Any, tmp_path: Path) -> None:
    """Also of the child of a server that a shell has started in the background."""
    with interrupts(are), hostile({"task": "wait"}, tmp_path) as child:
        await_word(child)
        child.interrupt(grace=HANGS)
        child.interrupt()
        assert outcome(child)[1] == Ended(130)


@pytest.mark.parametrize("are", [HEARD, IGNORED], ids=["heard", "ignored"])
def test_an_interrupt_that_comes_before_it_can_hear(are: Any, tmp_path: Path) -> None:
    for wait in (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1):
        with interrupts(are), hostile({"task": "wait"}, tmp_path) as child:
            time.sleep(wait)
            child.interrupt(grace=HANGS)
            assert outcome(child)[1] == Ended(130)


def test_an_interrupt_that_is_ignored_kills_after_a_grace(tmp_path: Path) -> None:
    with hostile({"task": "ignore"}, tmp_path) as child:
        await_word(child)
        start = time.monotonic()
        child.interrupt(grace=1.0)
        ended = outcome(child)[1]
        assert ended.reason == "cancelled"
        assert time.monotonic() - start >= 1.0
    assert GRACE_SECONDS >= 5


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from hostile_children import await_word, hostile\n"
        "child = hostile({'task': 'scatter'}, Path(sys.argv[1]))\n"
        "print(child.pid, await_word(child), flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert len(pids) == 3
    until(lambda: all(map(gone, pids)))


def test_limits_hold_while_nobody_listens(tmp_path: Path) -> None:
    with hostile({"task": "flood"}, tmp_path, replace(LIMITS, seconds=1.0)) as child:
        until(lambda: gone(child.pid))
        assert outcome(child)[1].reason in ("time", "output")


def test_what_is_no_event_is_dropped(tmp_path: Path) -> None:
    with hostile({"task": "flood_raw"}, tmp_path) as child:
        events, ended = outcome(child)
    assert events == [{"kind": "say", "text": "still here"}, {"kind": "exit", "code": 0}]
    assert ended == Ended(0)


def test_the_environment_is_small_and_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTLAB_DATA", "/somewhere")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with hostile({"task": "show_environment"}, tmp_path, env={"QUANTLAB_CACHE": "c"}) as child:
        events, _ = outcome(child)
    found = dict(e["text"].split("=", 1) for e in events if e["kind"] == "say")
    assert found["QUANTLAB_CACHE"] == "c"
    assert not {"QUANTLAB_DATA", "AWS_SECRET_ACCESS_KEY"} & found.keys()
    assert len({found[name] for name in ("HOME", "TMPDIR", "MPLCONFIGDIR")}) == 1


def test_its_temporary_folder_goes_with_it(tmp_path: Path) -> None:
    work, place = tmp_path / "work", tmp_path / "tmp"
    work.mkdir()
    place.mkdir()
    with hostile({"task": "wait"}, work, tmp=place) as child:
        await_word(child)
        (folder,) = place.iterdir()
        inner = folder / "a"
        inner.mkdir()
        (inner / "file").touch()
        inner.chmod(0)
    assert list(place.iterdir()) == []


def test_many_children_at_once_from_threads(tmp_path: Path) -> None:
    ends: list[Ended] = []

    def one(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        with hostile({"task": "print_much"}, folder) as child:
            ends.append(outcome(child)[1])

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [Ended(0)] * 8


def test_no_handle_is_left(tmp_path: Path) -> None:
    def handles() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = handles()
    for _ in range(3):
        with hostile({"task": "print_much"}, tmp_path) as child:
            outcome(child)
    with pytest.raises(OSError):
        Child({"task": "verb"}, tmp_path / "absent", LIMITS)
    assert handles() == before


def test_a_relative_folder(tmp_path: Path) -> None:
    Path("job").mkdir()
    with hostile({"task": "write", "path": "file"}, Path("job")) as child:
        assert outcome(child)[1] == Ended(0)
    assert (tmp_path / "job" / "file").is_file()


def test_run_task(tmp_path: Path) -> None:
    task = {"task": "check", "file": str(tmp_path / "absent"), "bounds": {}}
    with pytest.raises(QuantlabError, match="the check did not end well: an internal error"):
        run_task(task, tmp_path, LIMITS)


def test_where_it_cannot_be_confined_it_refuses_or_works(tmp_path: Path) -> None:
    with hostile({"task": "print_much"}, tmp_path, command=OPEN) as child:
        events, ended = outcome(child)
    assert [event["kind"] for event in events] == ["problem", "exit"]
    assert events[0]["problem"].startswith("this machine cannot confine jobs: network: OPEN")
    assert ended == Ended(2)
    with hostile({"task": "print_much"}, tmp_path, command=OPEN, required=False) as child:
        assert outcome(child)[1] == Ended(0)
