"""Reporter on a terminal and away from one."""

from __future__ import annotations

import io
import sys

import pytest

from quantlab._util.reporter import NullReporter, Reporter
from quantlab.cli.console import ConsoleReporter

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


def working(reporter: Reporter) -> None:
    with reporter.progress("Evaluating", 10) as advance:
        for done in range(10):
            advance(done + 1, f"top-1 {done}%")


def test_all_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = ConsoleReporter()
    reporter.say("Trial 1: [qdq] a/b.onnx 100%")
    reporter.warn("watch [red]out[/red]")
    assert capsys.readouterr() == (
        "",
        "Trial 1: [qdq] a/b.onnx 100%\nWarning: watch [red]out[/red]\n",
    )
    assert reporter.warnings == ["watch [red]out[/red]"]


def test_quiet_says_only_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = ConsoleReporter(quiet=True)
    reporter.say("nothing")
    reporter.warn("something")
    working(reporter)
    assert capsys.readouterr() == ("", "Warning: something\n")


def test_long_lines_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    ConsoleReporter().say("word " * 100)
    assert capsys.readouterr().err.count("\n") == 1


def test_no_bar_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    working(ConsoleReporter())
    assert capsys.readouterr() == ("", "")


def test_a_bar_shows_the_estimate_and_vanishes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    working(ConsoleReporter())
    shown = terminal.getvalue()
    assert "Evaluating" in shown
    assert "10/10" in shown
    assert "top-1 9%" in shown
    assert shown.endswith("\x1b[2K")


def test_warnings_are_yellow_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    ConsoleReporter().warn("careful")
    assert YELLOW in terminal.getvalue()


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    reporter = ConsoleReporter()
    reporter.warn("careful")
    assert terminal.getvalue() == "Warning: careful\n"
    working(reporter)
    assert "\x1b[3" not in terminal.getvalue()


def test_silence_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = NullReporter()
    reporter.say("a")
    reporter.warn("b")
    working(reporter)
    assert reporter.warnings == ["b"]
    assert capsys.readouterr() == ("", "")
