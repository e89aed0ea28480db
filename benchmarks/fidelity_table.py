"""The figures of benchmarks/fidelity.py, and its report. Pure: arrays and facts in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from contenders import REFERENCE
from numpy.typing import NDArray

from quantlab.evaluate import metrics

HEADER = (
    "| engine · recipe | images | KL | SQNR dB | KL p99 | KL max | SQNR p1 dB | agree % | top-1 % "
    "| decline % | lost / gained | × fp32 | MB | CPU s | peak RSS MiB |",
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
)
FP32 = "fp32"


@dataclass(frozen=True)
class Row:
    """One contender on one model; ``problem`` when it made no model."""

    name: str
    images: int
    seconds: float = 0.0
    peak_rss_bytes: int | None = None
    bytes: int = 0
    score: Mapping[str, float] | None = None
    speed: float | None = None
    problem: str = ""
    cpu_seconds: float = 0.0


def score(
    reference: NDArray[np.float32], outputs: NDArray[np.float32], labels: NDArray[np.int64] | None
) -> dict[str, float]:
    """KL in nats, SQNR in dB, the rest in percent but ``lost`` and ``gained``, which are counts.

    Without labels there is no accuracy. Of the images' own figures ``kl_p99`` is the 99th
    percentile, ``kl_max`` the largest, ``sqnr_p1_db`` the 1st percentile.
    """
    first, second = (metrics.top_k(x, 1)[:, 0] for x in (reference, outputs))
    sqnr, kl = metrics.sqnr_db(reference, outputs), metrics.kl_divergence(reference, outputs)
    found = {
        "kl": float(kl.mean()),
        "kl_p99": float(np.quantile(kl, 0.99)),
        "kl_max": float(kl.max()),
        "sqnr_p1_db": float(np.quantile(metrics.image_sqnr_db(reference, outputs), 0.01)),
        "sqnr_db": float("inf") if sqnr is None else sqnr,
        "agree": 100 * float((first == second).mean()),
    }
    if labels is None:
        return found
    right, still = first == labels, second == labels
    return found | {
        "top1": 100 * float(still.mean()),
        "decline": 100 * float((right.sum() - still.sum()) / right.sum()),
        "lost": int((right & ~still).sum()),
        "gained": int((~right & still).sum()),
    }


def table(rows: Sequence[Row]) -> list[str]:
    """One Markdown table; the lowest KL but fp32's own is bold."""
    scores = [r.score["kl"] for r in rows if r.score is not None and r.name != FP32]
    best = min(scores, default=None)
    return [*HEADER, *(_line(row, best) for row in rows)]


def _line(row: Row, best: float | None) -> str:
    name = f"| {row.name} | {row.images or '–'} |"
    if row.score is None:
        return f"{name} {row.problem.replace('|', '/')} |" + " |" * 12
    s = row.score
    kl = f"{s['kl']:.4f}"
    rss = "–" if row.peak_rss_bytes is None else f"{row.peak_rss_bytes / 2**20:.0f}"
    cells = (
        f"**{kl}**" if s["kl"] == best else kl,
        _decibels(s, "sqnr_db"),
        f"{s['kl_p99']:.4f}",
        f"{s['kl_max']:.4f}",
        _decibels(s, "sqnr_p1_db"),
        f"{s['agree']:.1f}",
        *_accuracy(s),
        "–" if row.speed is None else f"{row.speed:.2f}",
        f"{row.bytes / 1e6:.2f}",
        f"{row.cpu_seconds:.0f}" if row.cpu_seconds else "–",
        rss,
    )
    return f"{name} {' | '.join(cells)} |"


def _decibels(s: Mapping[str, float], name: str) -> str:
    return f"{s[name]:.1f}" if np.isfinite(s["sqnr_db"]) else "–"


def _accuracy(s: Mapping[str, float]) -> tuple[str, str, str]:
    if "top1" not in s:
        return "–", "–", "–"
    return f"{s['top1']:.2f}", f"{s['decline']:.2f}", f"{s['lost']} / {s['gained']}"


def against_reference(rows: Sequence[Row]) -> str:
    """How fast quantlab's default is beside ONNX Runtime's own file of the same run, in words."""
    speeds = {r.name: r.speed for r in rows}
    ours, theirs = speeds.get("quantlab default"), speeds.get(REFERENCE)
    if ours is None or theirs is None:
        return ""
    return f"quantlab's default runs at {ours / theirs:.3f} of the speed of {REFERENCE}."


FIGURES = {"kl": "KL", "kl_p99": "KL p99", "kl_max": "KL max", "sqnr_p1_db": "SQNR p1"}
"""What is compared with the others' best, as it is called."""


def best_of_others(rows: Sequence[Row]) -> str:
    """quantlab's default and the best of anybody else, figure by figure, in words."""
    scores = {r.name: r.score for r in rows if r.score is not None and r.name != FP32}
    others = {name: s for name, s in scores.items() if not name.startswith("quantlab")}
    if "quantlab default" not in scores or not others:
        return ""
    found = []
    for figure, title in FIGURES.items():
        best, digits = (max, 1) if figure.startswith("sqnr") else (min, 4)
        values = {name: s[figure] for name, s in others.items()}
        name = best(values, key=values.__getitem__)
        ours = scores["quantlab default"][figure]
        found.append(
            f"{title} {ours:.{digits}f}; best of the others: {name}, {values[name]:.{digits}f}."
        )
    return " ".join(found)


def throughput_table(measured: Iterable[Mapping[str, Any]]) -> list[str]:
    """Calibration: images a second and peak memory."""
    lines = [
        "| engine · ranges | images | seconds | images/s | peak RSS MiB |",
        "|---|--:|--:|--:|--:|",
    ]
    for m in measured:
        if "problem" in m:
            lines.append(f"| {m['name']} | {m['images']} | {m['problem']} | | |")
            continue
        rate, rss = m["images"] / m["seconds"], m["peak_rss_bytes"] / 2**20
        lines.append(
            f"| {m['name']} | {m['images']} | {m['seconds']:.1f} | {rate:.1f} | {rss:.0f} |"
        )
    return lines
