"""Numbers and tables as markdown text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import TypeVar

from quantlab._util.terminal import TABLE_WIDTH
from quantlab.stats.paired import Interval

Cell = TypeVar("Cell")

LONGEST = 1000
"""No cell is longer."""
LONGEST_WORD = 24
"""A longer word is broken where a table has to be folded."""
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
    """A markdown table with aligned columns, or ``""`` without rows.

    ``right`` has one character per column: ``r`` for those aligned to the right. It is as wide as
    its cells are; within ``table_width`` it is folded.
    """
    return aligned(head, rows, right, lambda cell: _escaped(one_line(cell)))


def aligned(
    head: Sequence[Cell], rows: Sequence[Sequence[Cell]], right: str, write: Callable[[Cell], str]
) -> str:
    """``table`` of cells that ``write`` writes."""
    if not rows:
        return ""
    lines = [[write(cell) for cell in line] for line in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    limit = TABLE_WIDTH.get()
    room = None if limit is None else limit - 3 * len(widths) - 1
    marks = [mark == "r" for mark in right.ljust(len(head))]
    if limit is None or room is None or sum(widths) <= room:
        rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, marks, strict=True)]
        return "\n".join(_row(line, widths, marks) for line in [lines[0], rule, *lines[1:]])
    least = [max(3, *map(_longest_word, column)) for column in zip(*lines, strict=True)]
    if sum(least) > room:
        return _listed(lines, limit)
    while sum(widths) > room:
        spare = [w - low for w, low in zip(widths, least, strict=True)]
        widths[max(range(len(widths)), key=lambda i: (spare[i] > 0, widths[i]))] -= 1
    rule = ["-" * w for w in widths]
    return "\n".join(_folded(line, widths, marks) for line in [lines[0], rule, *lines[1:]])


def _row(cells: Sequence[str], widths: Sequence[int], to_right: Sequence[bool]) -> str:
    texts = [
        cell.rjust(w) if r else cell.ljust(w)
        for cell, w, r in zip(cells, widths, to_right, strict=True)
    ]
    return f"| {' | '.join(texts)} |"


def _folded(cells: Sequence[str], widths: Sequence[int], to_right: Sequence[bool]) -> str:
    """One row over as many lines as its longest cell takes."""
    parts = [wrap(cell, w) for cell, w in zip(cells, widths, strict=True)]
    return "\n".join(_row(each, widths, to_right) for each in zip_longest(*parts, fillvalue=""))


def _listed(lines: Sequence[Sequence[str]], width: int) -> str:
    """Where no folding helps: a line a cell, after the name of its column."""
    head, *rows = lines
    name = min(max(map(len, head)), width // 3)
    return "\n\n".join("\n".join(_cells(head, row, name, width - name - 2)) for row in rows)


def _cells(head: Sequence[str], row: Sequence[str], name: int, width: int) -> Iterator[str]:
    for title, cell in zip(head, row, strict=True):
        first, *more = wrap(cell, width)
        if first:
            yield f"{title[:name]:{name}}  {first}"
        yield from (f"{'':{name}}  {part}" for part in more)


def _longest_word(cell: str) -> int:
    """What a column needs: its words whole, but for those that no narrow one would hold."""
    return min(max(map(len, cell.split()), default=0), LONGEST_WORD)


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of this width, words whole where they fit."""
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def one_line(text: str) -> str:
    """Spaces in the place of line ends; at most LONGEST characters."""
    return shortened(" ".join(text.split()), LONGEST)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<", "&lt;")


def shortened(text: str, width: int) -> str:
    """The text, or its two ends around an ellipsis."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
