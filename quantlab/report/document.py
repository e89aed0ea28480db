"""Format-independent report content: titles, sentences, tables and plots.

A plain ``str`` is text of any origin, which a renderer escapes; markup is only what Code and Strong
say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Code:
    """Text in a monospaced font."""

    text: str


@dataclass(frozen=True)
class Strong:
    """Text in bold."""

    text: str


Inline = str | Code | Strong
Text = tuple[Inline, ...]


def prose(sentence: str) -> Text:
    """quantlab's own sentence, with code between backticks. Not for text from elsewhere."""
    parts = re.split(r"`([^`]+)`", sentence)
    return tuple(Code(x) if i % 2 else x for i, x in enumerate(parts) if x)


@dataclass(frozen=True)
class Paragraph:
    """``quoted``: what others may quote."""

    kind: ClassVar = "paragraph"
    text: Text
    quoted: bool = False


def say(*parts: Inline) -> Paragraph:
    """A paragraph of these parts."""
    return Paragraph(parts)


@dataclass(frozen=True)
class Bullets:
    """A list without order."""

    kind: ClassVar = "bullets"
    items: tuple[Text, ...]


@dataclass(frozen=True)
class Listing:
    """Lines as they are, in a language such as yaml."""

    kind: ClassVar = "listing"
    text: str
    language: str = ""


@dataclass(frozen=True)
class Table:
    """A table. ``right`` has one character per column: ``r`` for those aligned to the right, which
    hold numbers. In a ``sheet`` the first column names each row and the order of rows matters; rows
    of other tables may be sorted. ``caption`` describes the table where no title above it does."""

    kind: ClassVar = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[Inline]]
    right: str = ""
    caption: str = ""
    sheet: bool = False

    def is_right(self, column: int) -> bool:
        """Whether this column is aligned to the right."""
        return self.right[column : column + 1] == "r"


@dataclass(frozen=True)
class Gallery:
    """A table whose rows are about images; ``images`` holds JPEG files, one a row, or nothing."""

    kind: ClassVar = "gallery"
    table: Table
    images: tuple[bytes | None, ...] = ()


@dataclass(frozen=True)
class Plot:
    """A plot by name; ``alt`` describes it for readers who cannot see it."""

    kind: ClassVar = "plot"
    name: str
    caption: str
    alt: str


Block = Paragraph | Bullets | Listing | Table | Gallery | Plot


@dataclass(frozen=True)
class Section:
    """Blocks under a title, then smaller sections."""

    title: str
    blocks: tuple[Block, ...]
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Page:
    """A page. ``status`` is the verdict in one word, "" where there is none; ``title`` continues
    it. ``first`` stands before the title: sentences without which the verdict would mislead."""

    status: str
    title: str
    blocks: tuple[Block, ...]
    sections: tuple[Section, ...]
    first: tuple[Block, ...] = ()

    @property
    def headline(self) -> str:
        """Status and title in one line."""
        return f"{self.status}: {self.title}" if self.status else self.title


def section(title: str, blocks: Iterable[Block], *sections: Section | None) -> Section | None:
    """A section of what there is to tell, None when that is nothing."""
    kept = tuple(block for block in blocks if not is_empty(block))
    inner = tuple(x for x in sections if x is not None)
    return Section(title, kept, inner) if kept or inner else None


def is_empty(block: Block) -> bool:
    """Whether it is a table without rows."""
    table = block.table if isinstance(block, Gallery) else block
    return isinstance(table, Table) and not table.rows
