"""Verbs in a child: what they say, write and exit with is what they do here."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostile_children import LIMITS, hostile, outcome

from quantlab.cli import main
from quantlab.runs.record import load_record
from quantlab.serve.child import PIECE, EventReporter, EventWriter, event_stream
from quantlab.serve.process import Child, ChildEvent, Ended
from quantlab.testing.images import image_folder
from quantlab.testing.models import taught, tiny_classifier

CLASSES = 4


def told(function: Callable[[EventWriter], object]) -> list[dict[str, Any]]:
    """What a function tells."""
    reading, writing = os.pipe()
    function(EventWriter(writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        return [json.loads(line) for line in file]


def verb(folder: Path, data: Path, *argv: str) -> tuple[list[ChildEvent], Ended]:
    """A command line in a child that may read ``data``."""
    cache = folder.parent / "child-cache"
    cache.mkdir(exist_ok=True)
    with Child(
        {"task": "verb", "argv": list(argv)},
        folder,
        LIMITS,
        read=[data],
        write=[cache],
        env={"QUANTLAB_CACHE": str(cache)},
        required=False,
    ) as child:
        return outcome(child)


def text(events: list[ChildEvent], kind: str) -> str:
    return "".join(event["text"] for event in events if event["kind"] == kind)


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Path]:
    """The job's folder with a model in it, and images."""
    folder = tmp_path / "job"
    folder.mkdir()
    images = image_folder(tmp_path / "data", CLASSES, 3)
    taught(tiny_classifier(folder / "m.onnx", classes=CLASSES), images, "torchvision")
    return folder, images


def test_a_verb_says_and_does_what_it_does_here(
    scene: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = scene
    (folder / "data").symlink_to(data)
    argv = ["evaluate", "m.onnx", "--data", "data", "--size", "32"]
    events, ended = verb(folder, data, *argv)
    monkeypatch.chdir(folder)
    here = CliRunner().invoke(main, argv)
    assert ended == Ended(0)

    def timeless(words: str) -> str:
        return re.sub(r"\d+Z-evaluate-\w+|[\d.,]+ images/s", "", words)

    assert timeless(text(events, "out")) == timeless(here.stdout)
    lines = [("Warning: " if e["kind"] == "warn" else "") + e["text"]
             for e in events if e["kind"] in ("say", "warn")]  # fmt: skip
    assert timeless("\n".join(lines)) == timeless(here.stderr.strip())
    first, second = (load_record(path) for path in sorted((folder / "runs").iterdir()))
    assert first.results.keys() == second.results.keys()
    assert first.results["accuracy"] == second.results["accuracy"]
    assert first.command == second.command
    assert first.warnings == second.warnings


def test_what_a_user_did_wrong_is_said_as_here(scene: tuple[Path, Path]) -> None:
    folder, data = scene
    for argv in (["evaluate", "--wrong"], ["evaluate", "absent.onnx", "--data", str(data)], []):
        events, ended = verb(folder, data, *argv)
        here = CliRunner().invoke(main, argv, prog_name="quantlab")
        assert ended == Ended(here.exit_code)
        assert text(events, "err") == here.stderr
        assert text(events, "out") == here.stdout


def test_files_out_of_reach_are_an_error_for_people(scene: tuple[Path, Path]) -> None:
    folder, data = scene
    outside = folder.parent / "other.onnx"
    tiny_classifier(outside, classes=CLASSES)
    events, ended = verb(folder, data, "inspect", str(outside))
    assert ended.code == 2
    assert "cannot be read: permission denied" in text(events, "err")


def test_benchmarks_start_processes(scene: tuple[Path, Path]) -> None:
    folder, data = scene
    argv = ["bench", "m.onnx", "--rounds", "2", "--quiet", "--threads", "1"]
    events, ended = verb(folder, data, *argv)
    assert ended == Ended(0), events
    kinds = [event["kind"] for event in events]
    assert [kind for kind in kinds if kind != "warn"] == ["out", "exit"], "it may warn of load"
    assert "m (A/A)" in text(events, "out")


def test_an_interrupted_tune_keeps_its_best(scene: tuple[Path, Path]) -> None:
    folder, data = scene
    cache = folder.parent / "child-cache"
    cache.mkdir()
    argv = ["tune", "--model", "m.onnx", "--data", str(data), "--size", "32", "--no-bench"]
    with Child(
        {"task": "verb", "argv": [*argv, "--strategy", "random", "--budget", "1h"]},
        folder, LIMITS, read=[data], write=[cache], env={"QUANTLAB_CACHE": str(cache)},
        required=False,
    ) as child:  # fmt: skip
        events: list[ChildEvent] = []
        while not any("written to" in event.get("text", "") for event in events):
            events += child.events(1.0)
            assert child.ended is None, events
        child.interrupt(grace=60.0)
        more, ended = outcome(child)
    assert ended == Ended(130), more
    assert (folder / "m.int8.onnx").is_file()
    (run,) = (folder / "runs").iterdir()
    assert load_record(run).status == "interrupted"


def test_an_unknown_task_is_an_error_of_the_service(scene: tuple[Path, Path]) -> None:
    folder, _ = scene
    with Child({"task": "unknown"}, folder, LIMITS, required=False) as child:
        events, ended = outcome(child)
    assert ended.reason == "error"
    assert events == [{"kind": "exit", "code": 1}]
    assert "KeyError" in ended.trace


def test_long_texts_come_in_pieces(tmp_path: Path) -> None:
    with hostile({"task": "print_much"}, tmp_path) as child:
        events, ended = outcome(child)
    assert text(events, "out") == "é" * 100_000
    assert text(events, "err") == "wrong\n"
    assert max(len(event.get("text", "")) for event in events) <= PIECE
    assert ended == Ended(0)


def test_progress_is_told_now_and_then_and_vanishes() -> None:
    def work(writer: EventWriter) -> None:
        reporter = EventReporter(writer, quiet=False)
        with reporter.progress("Reading", 1000) as advance:
            for done in range(1000):
                advance(done, "note")

    events = told(work)
    assert events[0] == {
        "kind": "progress", "label": "Reading", "total": 1000, "done": 0, "note": "note"
    }  # fmt: skip
    assert events[-1]["done"] is None
    assert len(events) < 20


def test_a_quiet_reporter_warns() -> None:
    def work(writer: EventWriter) -> None:
        reporter = EventReporter(writer, quiet=True)
        reporter.say("unheard")
        with reporter.progress("unseen", 3) as advance:
            advance(1, "")
        reporter.warn("heard")
        assert reporter.warnings == ["heard"]

    assert told(work) == [{"kind": "warn", "text": "heard"}]


def test_a_stream_keeps_every_character() -> None:
    def work(writer: EventWriter) -> None:
        stream = event_stream(writer, "out")
        stream.write("a line\nand é")
        stream.buffer.write("ü".encode()[:1])
        stream.flush()
        stream.buffer.write("ü".encode()[1:])
        stream.flush()
        assert not stream.isatty()
        with pytest.raises(io.UnsupportedOperation):
            stream.read()

    events = told(work)
    assert "".join(event["text"] for event in events) == "a line\nand éü"
