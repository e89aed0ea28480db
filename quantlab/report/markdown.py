"""A page as markdown, GitHub's flavour. Nothing from elsewhere becomes markup."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from quantlab.report import formats
from quantlab.report.document import (
    Block,
    Bullets,
    Code,
    Gallery,
    Inline,
    Listing,
    Page,
    Paragraph,
    Plot,
    Section,
    Strong,
    Table,
    Text,
)

_MARKS = re.compile(
    r"[\\`*\[\]<|~]"
    r"|&(?=#?\w+;)"
    r"|(?<![^\W_])_|_(?![^\W_])"  # within a word it means nothing
)
_ENTITIES = {"<": "&lt;", "&": "&amp;"}
_STARTS = re.compile(r"^(#{1,6}(?= |$)|[+-](?= |$)|>|[-=]+$|\d{1,9}[.)](?= |$))")


def markdown(page: Page, files: Mapping[str, str]) -> str:
    """The page; ``files`` maps its plots' names to files beside it."""
    parts = [_block(block, files) for block in page.first]
    parts += [f"# {_title(page.headline)}"]
    parts += [_block(block, files) for block in page.blocks]
    for section in page.sections:
        parts += _section(section, files, "##")
    return "\n\n".join(parts) + "\n"


def table_of(t: Table) -> str:
    """An aligned table, or "" without rows."""
    return formats.aligned(t.head, t.rows, t.right, _cell)


def _section(section: Section, files: Mapping[str, str], marks: str) -> Iterator[str]:
    yield f"{marks} {_title(section.title)}"
    yield from (_block(block, files) for block in section.blocks)
    for inner in section.sections:
        yield from _section(inner, files, f"{marks}#")


def _block(block: Block, files: Mapping[str, str]) -> str:
    match block:
        case Paragraph(text, quoted):
            return f"{'> ' if quoted else ''}{_line(text)}"
        case Bullets(items):
            return "\n".join(f"- {_line(item)}" for item in items)
        case Listing(text, language):
            fence = _fence(text, 3)
            return f"{fence}{language}\n{text}\n{fence}"
        case Table():
            return table_of(block)
        case Gallery(rows):
            return table_of(rows)
        case Plot(name, _, alt):
            return f"![{_escaped(alt)}]({files[name]})"


def _line(text: Text) -> str:
    return _STARTS.sub(_broken, "".join(map(_inline, text)).strip(), count=1)


def _title(text: str) -> str:
    """A heading would swallow hashes at its end."""
    return re.sub("#$", r"\\#", _line((text,)))


def _broken(start: re.Match[str]) -> str:
    """What would begin a heading, a list, a quote or a rule, begins nothing."""
    return f"{start[0][:-1]}\\{start[0][-1]}"


def _inline(part: Inline) -> str:
    match part:
        case Code(text):
            return _code(" ".join(text.split()))
        case Strong(text):
            return f"**{_escaped(text)}**"
        case str():
            return _escaped(part)


def _cell(cell: Inline) -> str:
    """In a table even code must not hold a bare bar."""
    text = formats.one_line(cell if isinstance(cell, str) else cell.text)
    return _code(text).replace("|", "\\|") if isinstance(cell, Code) else _escaped(text)


def _escaped(text: str) -> str:
    one_line = re.sub(r"\s+", " ", text)
    return _MARKS.sub(lambda mark: _ENTITIES.get(mark[0], f"\\{mark[0]}"), one_line)


def _code(text: str) -> str:
    if not text:
        return ""
    fence = _fence(text, 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def _fence(text: str, least: int) -> str:
    """More backticks than the text has in a row."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)
