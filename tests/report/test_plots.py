from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from pages import CONTEXT, made

from quantlab.compare.compare import compare
from quantlab.report import drawings
from quantlab.report.context import TrialRow
from quantlab.report.plots import draw
from quantlab.testing import fake_predictions

TRIALS = tuple(
    TrialRow(
        f"r{i}",
        top1=0.7,
        decline=0.01 * i,
        agreement=0.9,
        kl=0.01,
        speedup=1.0 + i,
        size_bytes=100,
        chosen=i == 1,
        front=i < 2,
    )
    for i in range(3)
)


@pytest.mark.parametrize("name", ["latency", "classes", "scatter", "confidence", "tradeoff"])
def test_plots_are_svg_of_text_in_two_colours(name: str) -> None:
    content = draw(made(), replace(CONTEXT, trials=TRIALS))[name]
    root = ElementTree.fromstring(content)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}text"))) > 5
    text = content.decode()
    assert "prefers-color-scheme: dark" in text
    shapes = re.sub(r"var\([^)]*\)", "", text[text.index("</style>") :])
    assert not re.findall(r"#[0-9a-f]{6}\b(?=[;\"])", shapes)
    assert "<!DOCTYPE" not in text
    assert len(content) < 60_000


def test_plots_are_the_same_bytes_again() -> None:
    assert draw(made(), CONTEXT) == draw(made(), CONTEXT)


def test_names_in_plots_are_text() -> None:
    content = draw(made(kind="</text><script>{}</script>"), CONTEXT)["classes"]
    root = ElementTree.fromstring(content)
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def test_the_scatter_counts_every_class_once() -> None:
    comparison = made()
    figure = drawings.scatter(comparison)
    assert figure is not None
    (ax,) = figure.axes
    worse = sum(c.int8_right < c.fp32_right for c in comparison.classes)
    better = sum(c.int8_right > c.fp32_right for c in comparison.classes)
    same = len(comparison.classes) - worse - better
    assert [c.get_label() for c in ax.collections] == [
        f"worse: {worse} classes",
        f"better: {better} classes",
        f"same: {same} classes",
    ]
    places = Counter((c.fp32_right / c.n, c.int8_right / c.n) for c in comparison.classes)
    drawn = [tuple(place) for part in ax.collections for place in part.get_offsets() / 100]
    assert np.allclose(sorted(drawn), sorted(places))


def test_what_did_not_change_is_not_drawn() -> None:
    same = fake_predictions(50, 5, 0, 1)
    assert drawings.scatter(compare(same, same)) is None
    assert set(draw(compare(same, same), CONTEXT)) == {"confidence"}


def test_known_plots_are_not_drawn_again() -> None:
    asked: list[str] = []

    def kept(name: str, facts: object, paint: object) -> bytes | None:
        asked.append(name)
        return b"known"

    found = draw(made(), CONTEXT, kept)
    assert asked == ["classes", "scatter", "confidence"]
    assert {found[name] for name in asked} == {b"known"}
    assert found["latency"] != b"known"
