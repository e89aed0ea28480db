"""Option types, and the command that repeats a run."""

from __future__ import annotations

import click
import pytest

from quantlab.cli.compare import command as compare
from quantlab.cli.fetch import command as fetch
from quantlab.cli.params import Measure
from quantlab.cli.recorded_run import repeat_command
from quantlab.cli.tune import command as tune
from quantlab.verbs.options.option import SECONDS, SHARE


@pytest.mark.parametrize(
    ("text", "share"),
    [("1%", 0.01), ("0.01", 0.01), (" 5 % ", 0.05), ("1e-05", 1e-5), ("100%", 1.0), ("0", 0.0)],
)
def test_shares(text: str, share: float) -> None:
    assert Measure(SHARE).convert(text, None, None) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "abc", "-1%", "101%", "1.2", "1..2", "nan", "1%%"])
def test_wrong_shares(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a share such as 1%"):
        Measure(SHARE).convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h", 3600), ("1.5 m", 90), ("7", 7), ("0", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert Measure(SECONDS).convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "5 days", "m"])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a duration such as 90s"):
        Measure(SECONDS).convert(text, None, None)


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        (compare, "a.onnx b.onnx", "quantlab compare a.onnx b.onnx"),
        (
            compare,
            "a.onnx b.onnx --batch 1 --batch 8 --no-bench",
            "quantlab compare a.onnx b.onnx --batch 1 --batch 8 --no-bench",
        ),
        (
            compare,
            "a.onnx b.onnx --max-bad 0.001% --max-decline 0.5pp -q",
            "quantlab compare a.onnx b.onnx --max-bad 1e-05 --max-decline 0.5pp --quiet",
        ),
        (tune, "--model m.onnx --budget 2m", "quantlab tune m.onnx --budget 120.0"),
        (tune, "m.onnx --gate --json", "quantlab tune m.onnx --gate --json"),
        (fetch, "photos --from wheels", "quantlab fetch photos --from wheels"),
    ],
)
def test_the_repeat_command(command: click.Command, words: str, expected: str) -> None:
    context = command.make_context(command.name, words.split())
    assert repeat_command(context) == expected
    again = command.make_context(command.name, expected.split()[2:])
    assert again.params == context.params


def test_names_with_spaces_are_quoted() -> None:
    context = compare.make_context("compare", ["my model.onnx", "b.onnx", "--data", "a b"])
    assert repeat_command(context) == "quantlab compare 'my model.onnx' b.onnx --data 'a b'"


def test_a_name_that_looks_like_an_option() -> None:
    context = compare.make_context("compare", ["--no-bench", "--", "-a.onnx", "b.onnx"])
    assert repeat_command(context) == "quantlab compare --no-bench -- -a.onnx b.onnx"
