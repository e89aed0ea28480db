"""Print results: as they are into files and pipes, folded and with the verdict in colour on a
terminal."""

from __future__ import annotations

import os
import re

import click

from quantlab._util.terminal import TABLE_WIDTH

_COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}
_VERDICT = re.compile(rf"({'|'.join(_COLOURS)}): ")
_AS_IT_IS = re.compile(r"[|{\s]|- ")
"""A line of a table, of JSON or of a list is not folded."""


def print_result(text: str) -> None:
    """Print a result. ``NO_COLOR`` is respected."""
    width = TABLE_WIDTH.get()
    lines = text.split("\n")
    if width is not None:
        lines = [part for line in lines for part in _folded(line, width)]
        lines = lines if os.environ.get("NO_COLOR") else _coloured(lines)
    click.echo("\n".join(lines))


def _folded(line: str, width: int) -> list[str]:
    from quantlab.report.formats import wrap

    return [line] if len(line) <= width or _AS_IT_IS.match(line) else wrap(line, width)


def _coloured(lines: list[str]) -> list[str]:
    """The first verdict in its colour, whatever lines it takes."""
    colour = None
    made = []
    for line in lines:
        verdict = _VERDICT.match(line)
        colour = _COLOURS[verdict[1]] if verdict else colour if line[:1].islower() else None
        made.append(click.style(line, fg=colour, bold=True) if colour else line)
    return made
