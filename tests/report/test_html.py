from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
from pages import CONTEXT, made

from quantlab.data.dataset import ImageProblem
from quantlab.gate.notation import parse_decline
from quantlab.gate.verdict import judge
from quantlab.report.comparison_page import report_page, unjudged_page
from quantlab.report.context import TrialRow
from quantlab.report.document import (
    Bullets,
    Code,
    Gallery,
    Listing,
    Page,
    Plot,
    Section,
    Table,
    say,
)
from quantlab.report.html import html
from quantlab.report.markdown import markdown

HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror='alert(2)'>\"&lt;{{ 7*7 }}"
VOID = {"meta", "link", "img"}


class Read(HTMLParser):
    """Elements with their attributes, and the text of each kind of element."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> str:
        return "".join(text for name, text in self.texts if name == tag)

    @property
    def visible(self) -> str:
        hidden = ("style", "script", "title")
        return " ".join(" ".join(text for tag, text in self.texts if tag not in hidden).split())


def whole(labelled: bool = True) -> Page:
    comparison = made(labelled=labelled)
    context = replace(
        CONTEXT,
        trials=(
            TrialRow(
                "one",
                top1=0.79,
                decline=0.012,
                agreement=0.95,
                kl=0.016,
                speedup=2.0,
                size_bytes=3_700_000,
                chosen=True,
                front=True,
            ),
            TrialRow("two", error="out of memory"),
        ),
        shortfall="The best declines by 1.2%.",
        suggestions=("More images: `--images-per-class 2`.",),
        problems=(ImageProblem("0.jpg", "truncated"),),
    )
    return report_page(comparison, judge(comparison, parse_decline("1%")), context)


def hostile() -> Page:
    """Text from elsewhere in every place that a page has."""
    table = Table(["a", HOSTILE], [[HOSTILE, Code(HOSTILE)]], caption=HOSTILE)
    blocks = (
        say(HOSTILE, Code(HOSTILE)),
        Bullets(((HOSTILE,),)),
        Listing(HOSTILE, HOSTILE),
        table,
        replace(table, sheet=True),
        Gallery(table, (b"jpeg",)),
        Plot("plot", HOSTILE, HOSTILE),
    )
    return Page("PASS", HOSTILE, blocks, (Section(HOSTILE, blocks),))


def test_nothing_from_elsewhere_becomes_markup() -> None:
    text = html(hostile(), {"plot": b"<svg/>"})
    read = Read(text)
    assert len(read.of("script")) == len(read.of("style")) == len(read.of("title")) == 1
    assert "alert" not in read.text("script")
    assert read.text("title") == f"PASS: {HOSTILE}"
    for tag, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
    for image in read.of("img"):
        assert (image["src"] or "").startswith("data:image/")
    assert HOSTILE in [image["alt"] for image in read.of("img")]
    for tag in ("p", "li", "code", "td", "th", "caption", "dd", "figcaption", "h2", "a"):
        assert HOSTILE in read.text(tag), tag


def test_a_real_page_with_hostile_names() -> None:
    comparison = made(kind=f"{HOSTILE} {{}}")
    flips = tuple(flip.model_copy(update={"image": HOSTILE}) for flip in comparison.flips)
    fp32 = comparison.fp32.model_copy(update={"name": HOSTILE})
    comparison = comparison.model_copy(update={"flips": flips, "fp32": fp32, "notes": (HOSTILE,)})
    context = replace(
        CONTEXT,
        command=HOSTILE,
        environment={HOSTILE: HOSTILE},
        output=HOSTILE,
        warnings=(HOSTILE,),
        problems=(ImageProblem(HOSTILE, HOSTILE),),
        trials=(TrialRow(HOSTILE, error=HOSTILE),),
    )
    page = report_page(comparison, judge(comparison, parse_decline("1%")), context)
    read = Read(html(page, {}))
    assert len(read.of("script")) == 1
    assert not read.of("img")
    assert read.visible.count("<script>alert(1)</script>") >= 20


def test_it_needs_nothing_from_elsewhere() -> None:
    text = html(hostile(), {"plot": b"<svg/>"})
    read = Read(text)
    addresses = [
        attributes[name] or ""
        for _, attributes in read.elements
        for name in ("src", "href", "srcset", "action", "data")
        if name in attributes
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"https?://|url\(|@import", re.sub('base64,[^"]*', "", text))


def test_its_policy_admits_its_own_style_and_script_only() -> None:
    read = Read(html(whole(), {}))
    (policy,) = [x["content"] or "" for x in read.of("meta") if x.get("http-equiv")]

    def source(tag: str) -> str:
        digest = hashlib.sha256(read.text(tag).encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src {source('style')}",
        f"script-src {source('script')}",
    ]
    assert not [a for _, a in read.elements if "style" in a]


@pytest.mark.parametrize("labelled", [True, False])
def test_it_says_what_the_markdown_says(labelled: bool) -> None:
    page = whole(labelled)
    shown = "".join(Read(html(page, {})).visible.split())
    lines = MarkdownIt("gfm-like", {"linkify": False}).parse(markdown(page, {}))
    inlines = [line.children or [] for line in lines if line.type == "inline"]
    said = ["".join(child.content for child in children) for children in inlines]
    said += [line.content for line in lines if line.type == "fence"]
    assert len(said) > 100
    for words in said:
        for part in words.split("…"):  # a narrow table cuts its cells
            assert "".join(part.split()) in shown, words


def test_landmarks_titles_and_tables() -> None:
    read = Read(html(whole(), {}))
    for tag in ("header", "nav", "main", "h1"):
        assert len(read.of(tag)) == 1, tag
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for attributes in (*read.of("a"), *read.of("section")):
        target = attributes.get("aria-labelledby") or (attributes["href"] or "").lstrip("#")
        assert target in ids
    assert len(read.of("caption")) == len(read.of("table"))
    assert all(x.get("scope") in ("row", "col") for x in read.of("th"))
    assert read.of("html") == [{"lang": "en"}]


def test_rows_to_sort_and_sheets() -> None:
    rows = [["x", "1"]]
    page = Page("", "t", (Table(["a", "b"], rows, " r"), Table(["", "b"], rows, sheet=True)), ())
    read = Read(html(page, {}))
    assert [x.get("class") for x in read.of("table")] == ["sortable", None]
    heads = [(x["scope"], x.get("class")) for x in read.of("th")]
    assert heads == [("col", None), ("col", "right"), ("col", None), ("row", None)]


def test_galleries_need_all_their_images() -> None:
    table = Table(["image"], [["a"], ["b"]])
    for images, shown in (((b"1", b"2"), 2), ((b"1", None), 0), ((), 0)):
        read = Read(html(Page("", "t", (Gallery(table, images),), ()), {}))
        assert len(read.of("img")) == shown
        assert len(read.of("table")) == (shown == 0)


def test_without_a_verdict() -> None:
    read = Read(html(unjudged_page(replace(CONTEXT, trials=(TrialRow("one"),))), {}))
    assert read.text("h1").startswith("No verdict")
    assert "class" not in read.of("header")[0]
