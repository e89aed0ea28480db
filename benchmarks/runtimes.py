"""Files beside files in ONNX Runtime and in OpenVINO: speed and fidelity of each pair.

    python benchmarks/runtimes.py [--peer ort=PYTHON] [--peer inc=PYTHON] [--peer nncf=PYTHON]
        [--models NAME ...] [--images 300] [--threads 1 2] [--out reports/runtimes.md] [--work DIR]

The peers, models, images and the work folder are those of fidelity.py. All pairs of a model are
timed in one interleaved run for each number of threads.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from contenders import CONTENDERS, SUBJECTS, Contender, images_for, parse_peers
from fidelity import Case, Place, peer_version, say
from images import answers_of

from quantlab._util.files import write_whole
from quantlab._util.paths import cache_dir
from quantlab.bench.harness import bench
from quantlab.errors import ModelError
from quantlab.evaluate import metrics
from quantlab.model.kinds import RuntimeName
from quantlab.recipe import Recipe
from quantlab.runtime.environment import environment

RUNTIMES: tuple[RuntimeName, ...] = get_args(RuntimeName)
OWN = (
    Contender("quantlab", "default", Recipe()),
    Contender("quantlab", "target openvino", Recipe(target="openvino")),
)
OTHERS = ("ort minmax", "inc minmax", "nncf fast bias correction", "nncf accurate bias correction")
USUAL = (
    "mobilenetv2-12", "efficientnet-lite0", "mobilenetv1-tf", "modern/pplcnet-x1_0",
    "modern/efficientnet-b0",
)  # fmt: skip


@dataclass
class Pair:
    """A file in a runtime: KL and SQNR to fp32's logits in ONNX Runtime, and how many times as fast
    as fp32 there it is, by the number of threads; ``problem`` where it does not run."""

    name: str
    runtime: RuntimeName
    path: Path
    kl: float = 0.0
    sqnr_db: float | None = None
    problem: str = ""


def pairs_of(case: Case) -> list[Pair]:
    """Every file in every runtime, fp32 first, with its fidelity."""
    files = [("fp32", case.model.path)]
    others = [c for c in CONTENDERS if c.name in OTHERS and c.peer in case.place.peers]
    for contender in (*OWN, *others):
        images = images_for(contender, case.place.images, case.activation_bytes)
        say(f"{case.subject.name}: {contender.name}")
        path, answer = case.made(contender, images)
        if "problem" not in answer:
            files.append((contender.name, path))
    return [judged(case, Pair(name, r, path)) for name, path in files for r in RUNTIMES]


def judged(case: Case, pair: Pair) -> Pair:
    """The pair with its fidelity."""
    model = case.loaded(pair.path).with_overrides(runtime=pair.runtime)
    kept = case.place.work / "outputs" / f"{model.sha256[:24]}-{pair.runtime}.npy"
    try:
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, answers_of(model, case.model, case.evaluation))
        answers = np.load(kept)
    except ModelError as error:
        pair.problem = error.problem
        return pair
    found = metrics.logits_of(answers) if case.model.output_kind == "probabilities" else answers
    pair.kl = float(metrics.kl_divergence(case.answers, found).mean())
    pair.sqnr_db = metrics.sqnr_db(case.answers, found)
    say(f"  {pair.name}, {pair.runtime}: KL {pair.kl:.4f}")
    return pair


def speeds(case: Case, pairs: Sequence[Pair], threads: int) -> list[float]:
    """How many times as fast as the first pair each one is."""
    models = [case.loaded(p.path).with_overrides(runtime=p.runtime) for p in pairs]
    say(f"{case.subject.name}: timing {len(models)} pairs, {threads} threads")
    result = bench(
        models, rounds=20, seconds=3.0 * len(models), threads=threads, isolation="shared"
    )
    p50 = [m[0].p50 for m in result.measurements]
    return [p50[0] / x for x in p50]


def section(case: Case, threads: Sequence[int]) -> list[str]:
    """One model's table, and in words the best of quantlab's beside the best of the others."""
    every = pairs_of(case)
    pairs = [p for p in every if not p.problem]
    timed = {n: speeds(case, pairs, n) for n in threads}
    lines = [f"## {case.subject.name}", ""]
    heads = " | ".join(f"× fp32, {n} thread{'s' * (n > 1)}" for n in threads)
    lines += [
        f"| file | runtime | KL | SQNR dB | {heads} |",
        "|---|---|--:|--:|" + "--:|" * len(timed),
    ]
    for i, pair in enumerate(pairs):
        sqnr = "–" if pair.sqnr_db is None else f"{pair.sqnr_db:.1f}"
        own = " | ".join(f"{of[i]:.2f}" for of in timed.values())
        lines.append(f"| {pair.name} | {pair.runtime} | {pair.kl:.4f} | {sqnr} | {own} |")
    lines += [f"| {p.name} | {p.runtime} | {p.problem[:80]} |" for p in every if p.problem]
    return [*lines, "", *(best_words(pairs, of, n) for n, of in timed.items())]


def best_words(pairs: Sequence[Pair], speed: Sequence[float], threads: int) -> str:
    """The fastest pair of quantlab's, and of the others', with their fidelity."""
    mine = [i for i, p in enumerate(pairs) if p.name.startswith("quantlab")]
    theirs = [i for i, p in enumerate(pairs) if i not in mine and p.name != "fp32"]
    best, other = (max(of, key=lambda i: speed[i], default=None) for of in (mine, theirs))
    if best is None or other is None:
        return ""
    told = (
        f"{pairs[i].name} in {pairs[i].runtime} ({speed[i]:.2f}x, KL {pairs[i].kl:.4f})"
        for i in (best, other)
    )
    first, second = told
    ratio = speed[best] / speed[other]
    plural = "s" * (threads > 1)
    return f"{threads} thread{plural}: {first} beside {second}: {ratio:.2f} of its speed.\n"


def conditions(place: Place) -> list[str]:
    """Under what circumstances the figures were taken."""
    facts = environment()
    packages = {"ort": "onnxruntime", "inc": "neural-compressor", "nncf": "nncf"}
    peers = ", ".join(
        f"{packages[p]} {peer_version(x, packages[p])}" for p, x in place.peers.items()
    )
    return [
        "# int8 files in ONNX Runtime and in OpenVINO",
        "",
        "Written by `benchmarks/runtimes.py`.",
        "",
        f"- Machine: {facts['cpu']} ({facts['isa']}), {facts['logical_cores']} logical cores.",
        f"- onnxruntime {facts['onnxruntime']}, openvino {facts.get('openvino', '–')}; peers: "
        f"{peers or 'none'}; calibrated on {place.images} images, or all there are.",
        "- KL and SQNR are to fp32's logits in onnxruntime; speeds are to fp32 in onnxruntime, "
        "batch 1, medians of one interleaved run of 20 rounds in one process.",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make, judge and time all pairs, and write the report after each model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--models", nargs="+", choices=[s.name for s in SUBJECTS], default=USUAL)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--out", type=Path, default=Path("reports", "runtimes.md"))
    parser.add_argument("--work", type=Path, default=cache_dir() / "benchmarks" / "fidelity")
    given = parser.parse_args(arguments)
    if "QUANTLAB_DATA" not in os.environ:
        parser.error("set QUANTLAB_DATA to the folder with models/ and imagenet/")
    data = Path(os.environ["QUANTLAB_DATA"])
    place = Place(data, given.work.absolute(), parse_peers(given.peer), (), given.images)
    parts = [conditions(place)]
    for subject in (s for s in SUBJECTS if s.name in given.models):
        parts.append(section(Case(place, subject), given.threads))
        text = "\n\n".join("\n".join(lines).rstrip() for lines in parts)
        write_whole(given.out, text + "\n")


if __name__ == "__main__":
    main()
