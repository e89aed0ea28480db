"""The harness against itself: does the interval keep its promise, and is a planted slowdown found?

    QUANTLAB_DATA=DIR python benchmarks/noise.py [--aa 40] [--planted 20] [--out reports/noise.md]

A/A: a file against a copy of itself, two models that ``bench`` does not know to be one. The 95%
interval of their ratio should leave 1 out once in twenty times. Planted: the same file with its
input negated twice, over and over, which changes no answer and which ONNX Runtime does not drop.
How often is chosen so that it costs 3%, and what it costs is then measured in a long run. Every
other comparison is one ``bench`` at its defaults. Run it while nothing else runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from math import log
from pathlib import Path
from statistics import median
from typing import Any

import onnx
from onnx import helper

from quantlab._util.files import write_whole
from quantlab.bench.harness import bench
from quantlab.bench.machine import machine_notes
from quantlab.bench.measurement import BenchResult
from quantlab.compare.speeds import Contrast, contrast_of
from quantlab.model.model import Model
from quantlab.report.formats import percent, table
from quantlab.runtime.environment import environment

PLANTED = 0.03
FIRST_PAIRS = 60
LONG: dict[str, Any] = {"rounds": 30, "seconds": 60.0}
MISSES, OF = 4, 40
FOUND = 0.9


def slowed(model: onnx.ModelProto, pairs: int) -> onnx.ModelProto:
    """The same answers, later: ``pairs`` times the input is negated and negated back."""
    slow = onnx.ModelProto()
    slow.CopyFrom(model)
    image = slow.graph.input[0].name
    names = [image, *(f"planted_{i}" for i in range(2 * pairs))]
    for node in slow.graph.node:
        node.input[:] = [names[-1] if name == image else name for name in node.input]
    chain = [helper.make_node("Neg", [a], [b], name=b) for a, b in pairwise(names)]
    nodes = [*chain, *slow.graph.node]
    del slow.graph.node[:]
    slow.graph.node.extend(nodes)
    return slow


def planted_file(model: Model, folder: Path, pairs: int) -> Model:
    """The slow file."""
    path = folder / f"slowed-{pairs}.onnx"
    onnx.save(slowed(model.proto(), pairs), path)
    return Model.load(path)


def compared(models: Sequence[Model], seed: int, **options: Any) -> tuple[Contrast, BenchResult]:
    """The second against the first, in one ``bench``."""
    result = bench(models, seed=seed, **options)
    (first,), (second,) = result.measurements
    return contrast_of(first, second, result.noise[0]), result


def pairs_for(model: Model, folder: Path, options: dict[str, Any]) -> int:
    """How many pairs cost 3% at most, from what sixty cost."""
    found, _ = compared([model, planted_file(model, folder, FIRST_PAIRS)], 0, **options)
    cost = max(log(1 / found.ratio), 1e-4) / FIRST_PAIRS
    return max(1, int(log(1 + PLANTED) / cost))


def verdict_words(c: Contrast) -> str:
    """What the harness would have told its user."""
    if c.conclusion == "slower":
        return "slower"
    if c.resolution > PLANTED:
        return f"needs {c.rounds_needed} rounds"
    return "missed" if c.conclusion == "same" else c.conclusion


def detail(number: int, c: Contrast, last: str) -> list[str]:
    """One comparison as a row."""
    spans = [f"{x.low:.4f} to {x.high:.4f}" if x else "–" for x in (c.interval, c.noise)]
    floor = percent(c.noise_floor, 1)
    return [str(number), f"{c.ratio:.4f}", *spans, floor, percent(c.resolution, 1), last]


HEAD = ["run", "ratio", "95% interval", "A/A′ of the run", "floor", "can show", "said"]


def page(
    aa: Sequence[Contrast], planted: Sequence[Contrast], truth: Contrast | None, facts: str
) -> str:
    """The report."""
    missed = sum(1 not in c.interval for c in aa)
    claimed = sum(c.conclusion != "same" for c in aa)
    said = [verdict_words(c) for c in planted]
    found, unable = said.count("slower"), sum(x.startswith("needs") for x in said)
    rows = [
        [f"A/A: intervals that miss 1 (at most {MISSES} of {OF})", f"{missed} of {len(aa)}"],
        ["A/A: a difference claimed where there is none", f"{claimed} of {len(aa)}"],
        ["A/A: half-width of the interval, median", _half_width(aa)],
        ["A/A: what a run could show, median", _could_show(aa)],
        ["what was planted, in a long run", _truth(truth)],
        [f"planted: found (at least {FOUND:.0%})", f"{found} of {len(planted)}"],
        ["planted: not found, and said that 3% cannot be seen", f"{unable} of {len(planted)}"],
        ["planted: not found, nothing said", f"{len(planted) - found - unable} of {len(planted)}"],
    ]
    aa_rows = [detail(i + 1, c, c.conclusion) for i, c in enumerate(aa)]
    planted_rows = [
        detail(i + 1, c, words) for i, (c, words) in enumerate(zip(planted, said, strict=True))
    ]
    return "\n\n".join(
        [
            "# What the harness can tell apart",
            "Written by `benchmarks/noise.py`; how it is done is said there.",
            facts,
            table(["", ""], rows, right=" r"),
            "## A file and its copy",
            table(HEAD, aa_rows, right="rrrrrr "),
            "## A planted slowdown",
            table(HEAD, planted_rows, right="rrrrrr ") or "Not run.",
        ]
    )


def _half_width(found: Sequence[Contrast]) -> str:
    widths = [c.interval.width / 2 for c in found]
    return percent(median(widths), 2) if widths else "–"


def _could_show(found: Sequence[Contrast]) -> str:
    return percent(median(c.resolution for c in found), 1) if found else "–"


def _truth(found: Contrast | None) -> str:
    if found is None:
        return "–"
    low, high = 1 / found.interval.high - 1, 1 / found.interval.low - 1
    return f"{percent(1 / found.ratio - 1)} slower ({percent(low)} to {percent(high)})"


def main() -> None:
    """Runs, says each comparison as it comes, writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--aa", type=int, default=40)
    parser.add_argument("--planted", type=int, default=20)
    parser.add_argument("--model", default="mobilenetv2-12.onnx")
    parser.add_argument("--out", type=Path, default=Path("reports/noise.md"))
    parser.add_argument("--quick", action="store_true", help="No long run, and short ones.")
    given = parser.parse_args()
    brief: dict[str, Any] = {"rounds": 2, "turns": 2} if given.quick else {}
    path = Path(given.model)
    if not path.is_file():
        path = Path(os.environ["QUANTLAB_DATA"]) / "models" / path
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        run(given, brief, path, Path(name), start)


def run(given: Any, brief: dict[str, Any], path: Path, folder: Path, start: float) -> None:
    """All comparisons."""
    model, steal, mhz = Model.load(path), list[float](), list[float]()
    copy = Model.load(Path(shutil.copy(path, folder / "copy.onnx")))

    def one(seed: int, other: Model) -> Contrast:
        found, result = compared([model, other], seed, **brief)
        steal.extend(result.noise[0].conditions.steal)
        mhz.extend(result.noise[0].conditions.mhz)
        span = f"{found.interval.low:.4f} to {found.interval.high:.4f}"
        say(f"{other.name} {seed}: {found.ratio:.4f} ({span}) {found.conclusion}")
        return found

    aa = [one(seed, copy) for seed in range(given.aa)]
    planted: list[Contrast] = []
    truth = None
    if given.planted:
        slow = planted_file(model, folder, pairs_for(model, folder, brief))
        truth, _ = compared([model, slow], 0, **(brief or LONG))
        say(f"{slow.name}: {1 / truth.ratio:.4f}")
        planted = [one(seed, slow) for seed in range(given.planted)]
    machine = environment()
    facts = (
        f"{model.name}, batch 1, 1 thread, {machine['cpu']} ({machine['isa']}), "
        f"{machine['logical_cores']} CPUs, ONNX Runtime {machine['onnxruntime']}; "
        f"{(aa + planted)[0].rounds} rounds a comparison; "
        f"{(time.monotonic() - start) / 60:.0f} minutes in all."
    )
    notes = machine_notes(steal, mhz)
    write_whole(given.out, page(aa, planted, truth, "\n\n".join([facts, *notes])) + "\n")
    say(f"Wrote {given.out}")


def say(text: str) -> None:
    """Progress on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
