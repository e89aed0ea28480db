from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pages import CONTEXT, made

from quantlab.gate.notation import parse_decline
from quantlab.gate.verdict import judge
from quantlab.report.comparison_page import report_page
from quantlab.report.document import (
    Bullets,
    Code,
    Gallery,
    Listing,
    Page,
    Paragraph,
    Plot,
    Section,
    Strong,
    Table,
    say,
)
from quantlab.report.markdown import markdown, table_of

GITHUB = MarkdownIt("gfm-like", {"linkify": False})
HOSTILE = st.text("ab12 \\`*_[]()<>|~&;#!-+.=\n\"'", min_size=1, max_size=30).filter(str.strip)


def page(*blocks: object, title: str = "t") -> str:
    return markdown(Page("PASS", title, blocks, ()), {"plot": "plot.svg"})  # type: ignore[arg-type]


def inlines(text: str) -> list[Token]:
    """What stands in the lines of each block below the title."""
    return [token for token in GITHUB.parse(text) if token.type == "inline"][1:]


def plain(token: Token) -> str:
    """The text of a line that must hold no markup."""
    kinds = {child.type for child in token.children or ()}
    assert kinds <= {"text"}, (token.content, kinds)
    return "".join(child.content for child in token.children or ())


def one_line(text: str) -> str:
    return " ".join(text.split())


@given(HOSTILE)
def test_text_from_elsewhere_stays_text(text: str) -> None:
    written = page(say("Said: ", text), say(text), Bullets(((text,), ("x",))), title=text)
    found = GITHUB.parse(written)
    kinds = [token.type for token in found if token.nesting == 1]
    assert kinds == [
        "heading_open", "paragraph_open", "paragraph_open", "bullet_list_open", "list_item_open",
        "paragraph_open", "list_item_open", "paragraph_open",
    ]  # fmt: skip
    lines = [one_line(plain(token)) for token in found if token.type == "inline"]
    same = one_line(text)
    assert lines == [f"PASS: {same}", f"Said: {same}", same, same, "x"]


@given(HOSTILE, HOSTILE)
def test_cells_from_elsewhere_stay_cells(text: str, code: str) -> None:
    table = Table(["a", "b"], [[text, Code(code)], ["c", "d"]])
    found = GITHUB.parse(page(table))
    assert sum(token.type == "td_open" for token in found) == 4
    cells = [token for token in found if token.type == "inline"][3:]
    assert one_line(plain(cells[0])) == one_line(text)
    (child,) = cells[1].children or ()
    assert (child.type, one_line(child.content)) == ("code_inline", one_line(code))


@given(HOSTILE)
def test_code_and_listings_are_what_they_were(text: str) -> None:
    first, second = inlines(page(say(Code(text)), say(Strong("S"), " ", Code(text))))
    for line in (first, second):
        (code,) = [x.content for x in line.children or () if x.type == "code_inline"]
        assert one_line(code) == one_line(text)
    (fence,) = [x for x in GITHUB.parse(page(Listing(text, "yaml"))) if x.type == "fence"]
    assert fence.content == f"{text}\n"


@given(st.lists(st.text("a|<`*_", min_size=60, max_size=90), min_size=2, max_size=2))
def test_long_cells_keep_their_table(cells: list[str]) -> None:
    text = table_of(Table(["a", "b"], [cells, ["c", "d"]]))
    found = GITHUB.parse(text)
    assert sum(token.type == "td_open" for token in found) == 4
    assert "…" not in text


def test_every_block() -> None:
    table = Table(["a"], [["1"]], "r")
    text = page(
        Paragraph(("Quote",), quoted=True),
        Gallery(table),
        Plot("plot", "Caption", "What is [in] it"),
    )
    assert text == (
        "# PASS: t\n\n> Quote\n\n|   a |\n| --: |\n|   1 |\n\n![What is \\[in\\] it](plot.svg)\n"
    )


def test_sections_go_down() -> None:
    inner = Section("Inner", (say("x"),))
    text = markdown(Page("", "T", (), (Section("Outer", (), (inner,)),)), {})
    assert text == "# T\n\n## Outer\n\n### Inner\n\nx\n"


@pytest.mark.parametrize("labelled", [True, False])
def test_a_whole_report_is_githubs_markdown(labelled: bool) -> None:
    comparison = made(labelled=labelled, kind="<script>{}</script> | `x`\n*y*")
    content = report_page(comparison, judge(comparison, parse_decline("1%")), CONTEXT)
    text = markdown(content, {})
    found = GITHUB.parse(text)
    first = next(token for token in found if token.type == "inline")
    assert (found[0].tag, plain(first)) == ("h1", content.headline)
    assert not [t for t in found if t.type.startswith("html")]
    assert not [c for t in found for c in t.children or () if c.type.startswith(("html", "em"))]
    tables = _tables(content)
    assert sum(token.type == "table_open" for token in found) == len(tables)
    assert sum(token.type == "td_open" for token in found) == sum(
        len(table.head) * len(table.rows) for table in tables
    )
    titles = [token.tag for token in found if token.type == "heading_open"]
    assert titles.count("h1") == 1
    assert set(titles) == {"h1", "h2", "h3"}
    rows = re.findall(r"^\|.*script.*\|$", unescape(text), re.M)
    assert rows


def _tables(content: Page) -> list[Table]:
    def inside(section: Section) -> list[object]:
        return [*section.blocks, *(b for s in section.sections for b in inside(s))]

    blocks = [*content.blocks, *(b for s in content.sections for b in inside(s))]
    tables = [b.table if isinstance(b, Gallery) else b for b in blocks]
    return [t for t in tables if isinstance(t, Table) and t.rows]
