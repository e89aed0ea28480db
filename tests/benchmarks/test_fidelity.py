"""The pure parts of benchmarks/fidelity.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The benchmark's own modules, which lie in no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import contenders
    import fidelity_table

    yield SimpleNamespace(contenders=contenders, table=fidelity_table)
    for name in ("contenders", "fidelity_table"):
        sys.modules.pop(name)


def test_peers_are_names_of_pythons(parts: SimpleNamespace) -> None:
    assert parts.contenders.parse_peers(["inc=/a/python"]) == {"inc": "/a/python"}
    for text in ("inc", "inc=", "quantlab=/a/python", "tf=/a/python"):
        with pytest.raises(ValueError, match="--peer"):
            parts.contenders.parse_peers([text])


def test_who_keeps_activations_gets_the_images_that_fit(parts: SimpleNamespace) -> None:
    by_name = {c.name: c for c in parts.contenders.CONTENDERS}
    size = 62_000_000
    assert parts.contenders.images_for(by_name["ort entropy"], 300, size) == 103
    assert parts.contenders.images_for(by_name["ort minmax"], 300, size) == 300
    assert parts.contenders.images_for(by_name["quantlab default"], 300, size) == 300


def test_only_those_given_take_part(parts: SimpleNamespace) -> None:
    found = parts.contenders.chosen("mobilenetv1-tf", ["quantlab", "inc"])
    assert {c.peer for c in found} == {"quantlab", "inc"}
    assert "quantlab a16w8" not in {c.name for c in found}


def _divergence(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    p, q = (softmax(x.astype(np.float64)) for x in (first, second))
    return float((p * np.log(p / q)).sum())


def test_a_row_a_contender_with_the_best_kl_in_bold(parts: SimpleNamespace) -> None:
    t = parts.table
    rng = np.random.default_rng(0)
    fp32 = rng.standard_normal((50, 10)).astype(np.float32)
    near, far = (fp32 + s * rng.standard_normal((50, 10)).astype(np.float32) for s in (0.01, 0.5))
    labels = fp32.argmax(axis=1)
    scores = [t.score(fp32, x, labels) for x in (near, far)]
    assert scores[0]["kl"] < scores[1]["kl"]
    assert scores[1]["lost"] == round(scores[1]["decline"] / 2)
    rows = [
        t.Row("fp32", 0, score=t.score(fp32, fp32, labels)),
        t.Row("quantlab default", 9, 3.0, 2**20, 10**6, scores[0], 2.0),
        t.Row("ort minmax", 9, 1.0, None, 10**6, scores[1], 1.6),
        t.Row("inc kl", 9, problem="crashed"),
    ]
    lines = t.table(rows)
    assert lines[3].startswith(f"| quantlab default | 9 | **{scores[0]['kl']:.4f}** |")
    assert lines[5].startswith("| inc kl | 9 | crashed |")
    assert lines[2].startswith("| fp32 | – | 0.0000 | – |")
    assert {line.count("|") for line in lines} == {16}
    worst = max(_divergence(a, b) for a, b in zip(fp32, far, strict=True))
    power, noise = (np.square(x.astype(np.float64)).sum(1) for x in (fp32, fp32 - far))
    decibels = np.percentile(10 * np.log10(power / noise), 1)
    assert f"| {worst:.4f} | {decibels:.1f} |" in lines[4]
    assert "1.250 of the speed of ort minmax" in t.against_reference(rows)
    words = t.best_of_others(rows)
    assert f"SQNR p1 {scores[0]['sqnr_p1_db']:.1f}; best of the others: ort minmax, " in words
    assert f"KL max {scores[0]['kl_max']:.4f}; best of the others: ort minmax, " in words
