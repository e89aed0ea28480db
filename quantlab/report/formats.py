"""Numbers and tables as markdown text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from quantlab.stats.paired import Interval

Cell = TypeVar("Cell")

MAX_WIDTH = 98
LONGEST = 1000
"""No cell is wider, before the widest column is narrowed."""
NOTHING = "–"


def percent(fraction: float | None, decimals: int = 2) -> str:
    """``79.69%``."""
    return NOTHING if fraction is None else f"{_plain(100 * fraction, decimals)}%"


def percents(interval: Interval | None, decimals: int = 2) -> str:
    """``77.42% to 81.79%``."""
    if interval is None:
        return NOTHING
    return f"{percent(interval.low, decimals)} to {percent(interval.high, decimals)}"


def points(fraction: float) -> str:
    """``0.15 points``."""
    return f"{_plain(100 * fraction, 2)} points"


def points_span(interval: Interval) -> str:
    """``-0.92 to 1.23 points``."""
    return f"{_plain(100 * interval.low, 2)} to {_plain(100 * interval.high, 2)} points"


def number(value: float | None, form: str) -> str:
    """``value`` in this format, or a dash."""
    return NOTHING if value is None else format(value, form)


def times(ratio: float | None) -> str:
    """``2.05x``."""
    return NOTHING if ratio is None else f"{ratio:.2f}x"


def times_span(interval: Interval) -> str:
    """``2.01x to 2.09x``."""
    return f"{times(interval.low)} to {times(interval.high)}"


def megabytes(size: int | None) -> str:
    """``13.96 MB``, a megabyte being a million bytes."""
    if size is None:
        return NOTHING
    return f"{size / 1e6:.2f} MB" if size >= 1e4 else f"{size:,} bytes"


def gigabytes(size: int) -> str:
    """``1.60 GB``; less than one as ``megabytes`` has it."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else megabytes(size)


def p_value(p: float) -> str:
    """``0.44``, ``0.0031`` or ``below 0.0001``."""
    return "below 0.0001" if p < 0.0001 else f"{p:.2g}"


def _plain(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "") -> str:
    """A markdown table with aligned columns, at most MAX_WIDTH wide, or ``""`` without rows.

    ``right`` has one character per column: ``r`` for those aligned to the right. Cells too long
    lose their middle.
    """
    return aligned(head, rows, right, lambda cell, width: fitted(cell, width, _escaped))


def aligned(
    head: Sequence[Cell],
    rows: Sequence[Sequence[Cell]],
    right: str,
    write: Callable[[Cell, int], str],
) -> str:
    """``table`` of cells that ``write(cell, width)`` writes, at most so many characters wide."""
    if not rows:
        return ""
    lines = [head, *rows]
    columns = [[write(cell, LONGEST) for cell in column] for column in zip(*lines, strict=True)]
    widths = _narrowed([max(3, *map(len, column)) for column in columns])
    to_right = [mark == "r" for mark in right.ljust(len(head))]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, to_right, strict=True)]
    texts = [
        [
            write(cell, w).rjust(w) if r else write(cell, w).ljust(w)
            for cell, w, r in zip(line, widths, to_right, strict=True)
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [texts[0], rule, *texts[1:]])


def fitted(text: str, width: int, escape: Callable[[str], str]) -> str:
    """The text in one line, shortened until what ``escape`` makes of it fits."""
    line = " ".join(text.split())
    room = width
    while len(found := escape(shortened(line, room))) > width and room > 1:
        room -= 1
    return found


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;")


def _narrowed(widths: list[int]) -> list[int]:
    """The widths with the widest column narrowed until the table fits."""
    room = MAX_WIDTH - 3 * len(widths) - 1
    while sum(widths) > room:
        widest = widths.index(max(widths))
        widths[widest] -= 1
    return widths


def shortened(text: str, width: int) -> str:
    """The text, or its two ends around an ellipsis."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
