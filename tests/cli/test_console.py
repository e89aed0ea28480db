"""Talk on a terminal and away from one."""

from __future__ import annotations

import io
import sys

import pytest

from quantlab._util.reporter import Silence, Talk
from quantlab.cli.console import ConsoleTalk

YELLOW = "\x1b[33m"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """stderr as a terminal with colours. No fixture: pytest's capture would take its place."""
    stream = Terminal()
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def working(talk: Talk) -> None:
    with talk.progress("Evaluating", 10) as advance:
        for done in range(10):
            advance(done + 1, f"top-1 {done}%")


def test_all_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    talk = ConsoleTalk()
    talk.say("Trial 1: [qdq] a/b.onnx 100%")
    talk.warn("watch [red]out[/red]")
    assert capsys.readouterr() == (
        "",
        "Trial 1: [qdq] a/b.onnx 100%\nWarning: watch [red]out[/red]\n",
    )
    assert talk.warnings == ["watch [red]out[/red]"]


def test_quiet_says_only_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    talk = ConsoleTalk(quiet=True)
    talk.say("nothing")
    talk.warn("something")
    working(talk)
    assert capsys.readouterr() == ("", "Warning: something\n")


def test_long_lines_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleTalk().say("word " * 100)
    assert capsys.readouterr().err.count("\n") == 1


def test_no_bar_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    working(ConsoleTalk())
    assert capsys.readouterr() == ("", "")


def test_a_bar_shows_the_estimate_and_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    working(ConsoleTalk())
    shown = terminal.getvalue()
    assert "Evaluating" in shown
    assert "10/10" in shown
    assert "top-1 9%" in shown
    assert shown.endswith("\x1b[2K")


def test_warnings_are_yellow_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    ConsoleTalk().warn("careful")
    assert YELLOW in terminal.getvalue()


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    talk = ConsoleTalk()
    talk.warn("careful")
    assert terminal.getvalue() == "Warning: careful\n"
    working(talk)
    assert "\x1b[3" not in terminal.getvalue()


def test_silence_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    talk = Silence()
    talk.say("a")
    talk.warn("b")
    working(talk)
    assert talk.warnings == ["b"]
    assert capsys.readouterr() == ("", "")
