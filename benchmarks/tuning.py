"""Accuracy-aware tuning on real data: the same goal for quantlab and Neural Compressor, a model
that plain int8 breaks, and a bad start mended by reverting groups.

    QUANTLAB_DATA=DIR python benchmarks/tuning.py [--inc PYTHON] [--rounds 2] [--out FILE]

Every time is that of a whole command; for Neural Compressor also that of its ``quantization.fit``
alone, from images decoded beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from broken import break_int8
from fidelity_table import score
from images import answers_of, crops_of, labels_of

from quantlab._util.files import write_whole
from quantlab.bench.harness import bench
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.model.model import Model
from quantlab.quantize.peers.inc import IncEngine, IncTuning
from quantlab.recipe import Recipe
from quantlab.runtime.environment import default_threads, environment
from quantlab.runtime.runner import Runner

GOALS = ("1%", "0.1%")
IMAGES = 100
PER_TENSOR = """\
name: per-tensor
engine: ort
ranges: minmax
per_channel: false
"""


@dataclass(frozen=True)
class Place:
    """The data, and a folder for what is made."""

    data: Path
    work: Path

    @property
    def model(self) -> Model:
        """The fp32 model of all parts."""
        return Model.load(self.data / "models" / "mobilenetv2-12.onnx")

    def images(self, name: str) -> Path:
        """A folder of images."""
        return self.data / "imagenet" / name

    def crops(self, name: str, size: int | None = None) -> Crops:
        """Its crops, or those of a balanced sample."""
        return crops_of(self.images(name), get_pipeline("torchvision"), size)


def tune(place: Place, model: Path, output: Path, *more: object, cache: Path | None = None) -> Any:
    """``quantlab tune``: its record, and the seconds of the whole command."""
    data = ["--data", place.images("calib1000"), "--eval-data", place.images("val1300")]
    line = ["tune", "--model", model, *data, "--output", output, "--pipeline", "torchvision"]
    env = dict(os.environ) | ({"QUANTLAB_CACHE": str(cache)} if cache else {})
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "quantlab", *map(str, [*line, *more]), "--json", "-q"],
        cwd=place.work,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)["results"], time.perf_counter() - start


def race(place: Place, goal: str, python: str | None, rounds: int) -> list[list[str]]:
    """One goal by both in turns, quantlab with cold and then with warm caches: median seconds."""
    files = [place.work / f"{goal}-{name}.onnx" for name in ("own", "inc", "cold", "warm")]
    flags = ("--strategy", "basic", "--calibration-size", IMAGES, "--no-bench")
    seconds: list[list[float]] = []
    evaluations = ["–", "–"]
    for number in range(rounds):
        taken = [own_way(place, goal, files[0], python), inc(place, goal, files[1], python)]
        with tempfile.TemporaryDirectory() as cache:
            for output in files[2:]:
                limit = ("--max-decline", goal)
                found, whole = tune(
                    place, place.model.path, output, *flags, *limit, cache=Path(cache)
                )
                taken.append(whole)
                evaluated = sum(t["status"] in ("done", "stopped") for t in found["trials"])
                evaluations.append(str(evaluated))
        say(f"{goal}, round {number + 1}: " + ", ".join(f"{x:.1f} s" for x in taken))
        seconds.append(taken)
    names = (
        "Neural Compressor, its own way",
        "Neural Compressor, `fit` alone",
        "quantlab, cold caches",
        "quantlab, warm caches",
    )
    facts = zip(names, np.median(seconds, axis=0), evaluations[:4], strict=True)
    rows = [[f"{name}, {goal}", f"{taken:.1f}", count] for name, taken, count in facts]
    return [[*row, *more] for row, more in zip(rows, judged(place, files), strict=True)]


def own_way(place: Place, goal: str, output: Path, python: str | None) -> float:
    """Neural Compressor as its own example runs it: the seconds of the whole command."""
    script = Path(__file__).with_name("inc_own_way.py")
    folders = [place.images("calib1000"), place.images("val1300")]
    decline = str(float(goal.rstrip("%")) / 100)
    line = [python or sys.executable, script, place.model.path, *folders, decline, output]
    start = time.perf_counter()
    subprocess.run(
        [*map(str, line)], cwd=place.work, check=True, capture_output=True, env=os.environ
    )
    return time.perf_counter() - start


def inc(place: Place, goal: str, output: Path, python: str | None) -> float:
    """Neural Compressor's own search; the seconds of it."""
    model, crops = place.model, place.crops("val1300")
    tuning = IncTuning(
        strategy="basic",
        images=crops.inputs(slice(len(crops)), model.input),
        labels=crops.labels,
        max_decline=float(goal.rstrip("%")) / 100,
    )
    calibration = CalibrationImages(place.crops("calib1000", IMAGES), model.input)
    engine = IncEngine(tuning=tuning, quant_level="auto", python=python)
    outcome = engine.run(model, Recipe(engine="inc"), calibration)
    onnx.save(outcome.proto, output)
    return outcome.seconds


def judged(place: Place, files: list[Path]) -> list[list[str]]:
    """Decline, lost and gained, KL, SQNR and speed of each file on 1,800 images."""
    crops = [place.crops(name) for name in ("val1300", "imagenette500")]
    labels, model = labels_of(crops), place.model
    reference = answers_of(model, model, crops)
    timing = bench(
        [model, *map(Model.load, files)], rounds=20, seconds=20, threads=1, isolation="shared"
    )
    p50 = [m[0].p50 for m in timing.measurements]
    rows = []
    for path, latency in zip(files, p50[1:], strict=True):
        s = score(reference, answers_of(Model.load(path), model, crops), labels)
        lost = f"{s['lost']} / {s['gained']}"
        figures = [f"{s['decline']:.2f}", lost, f"{s['kl']:.4f}", f"{s['sqnr_db']:.1f}"]
        rows.append([*figures, f"{p50[0] / latency:.2f}"])
    return rows


def bare(place: Place, int8: Path) -> float:
    """Seconds of the least that a tune must do: decode all images once, run fp32 and int8 over the
    evaluation images, a call of one image in each core."""
    pipeline, cores, fp32 = get_pipeline("torchvision"), default_threads(), place.model
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        for name in ("calib1000", "val1300"):
            crops = load_crops(open_dataset(place.images(name)), pipeline, cache_dir=Path(cache))
        for model in (fp32, Model.load(int8)):
            with Runner(model, threads=1) as run, ThreadPoolExecutor(cores) as pool:
                rows = [slice(i, i + 1) for i in range(len(crops))]
                list(pool.map(lambda row: run(crops.inputs(row, fp32.input)), rows))
    return time.perf_counter() - start


def default(place: Place, rounds: int) -> list[str]:
    """The default search, with cold and with warm caches, beside what it must do at least."""
    output, taken = place.work / "default.onnx", []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            found, cold = tune(place, place.model.path, output, cache=Path(cache))
            _, warm = tune(place, place.model.path, output, cache=Path(cache))
        taken.append((cold, warm, bare(place, output)))
        say(f"default, round {number + 1}: " + ", ".join(f"{x:.1f} s" for x in taken[-1]))
    cold, warm, least = np.median(taken, axis=0)
    steps = [f"| {s['name']} | {s['start']:.1f} | {s['end']:.1f} |" for s in found["timeline"]]
    return [
        "## The default search",
        "",
        "All 1,000 calibration images, all of val1300. Bare: decoding all images, and fp32 and "
        "int8 over the evaluation images, one call of one image in each core.",
        "",
        f"- Bare: {least:.1f} s. `quantlab tune`, cold: {cold:.1f} s, {cold / least:.1f} times "
        f"that; warm: {warm:.1f} s.",
        f"- {words(found)[0].upper()}{words(found)[1:]}.",
        "",
        "| step of the last cold run | from s | to s |",
        "|---|--:|--:|",
        *steps,
        "",
    ]


def broken(place: Place) -> list[str]:
    """The default search on a model that plain per-tensor int8 breaks."""
    say("a model that int8 breaks")
    model, output = place.work / "broken.onnx", place.work / "broken.int8.onnx"
    changed = break_int8(place.model, model)
    found, seconds = tune(place, model, output)
    plain = place.work / "per-tensor.yaml"
    plain.write_text(PER_TENSOR)
    flags = ("--recipe", plain, "--calibration-size", IMAGES, "--max-trials", 1, "--no-bench")
    before, _ = tune(place, model, place.work / "broken.plain.onnx", *flags)
    return [
        "## A model that plain int8 breaks",
        "",
        f"Channels of {changed} tensors multiplied by 2^-6 to 2^6 where they are made and divided "
        "where they are read: the fp32 answers are the same to the last bit.",
        "",
        f"- ONNX Runtime's own quantizer, per tensor: {words(before)}.",
        f"- `quantlab tune`, {seconds:.0f} s: {words(found)}.",
    ]


def mended(place: Place) -> list[str]:
    """A per-tensor start, and groups reverted until the goal is met."""
    say("sensitivity from a per-tensor start")
    start = place.work / "per-tensor.yaml"
    start.write_text(PER_TENSOR)
    output = place.work / "mended.onnx"
    flags = ("--recipe", start, "--strategy", "sensitivity", "--calibration-size", IMAGES)
    found, seconds = tune(place, place.model.path, output, *flags)
    first = found["trials"][0]["scores"]
    return [
        "## `--strategy sensitivity` from a per-tensor start",
        "",
        f"- The start (ONNX Runtime's quantizer, minmax, u8s8 per tensor): decline "
        f"{100 * first['decline']:.2f}%, {first['speedup']:.2f}x.",
        f"- After {seconds:.0f} s and {len(found['trials'])} trials: {words(found)}.",
        f"- Left in fp32: nodes {len(found['recipe']['exclude'])}, "
        f"groups {len(found['reverted'])}.",
    ]


def words(found: Any) -> str:
    """What came of a tune."""
    best = found["comparison"]
    speeds = best["speeds"] or [{}]
    top1 = best["top1"]
    parts = [
        f"recipe {found['recipe']['name']}",
        f"decline {100 * top1['ratio']:.2f}% on {best['n']:,} images",
        f"KL {best['fidelity']['kl']:.4f}",
    ]
    if "speedup" in speeds[0]:
        parts.append(f"{speeds[0]['speedup']:.2f}x")
    return ", ".join(parts)


def report(place: Place, python: str | None, rounds: int) -> str:
    """All parts in Markdown."""
    facts = environment()
    lines = [
        "# Tuning: seconds, evaluations, result",
        "",
        "Written by `benchmarks/tuning.py`.",
        "",
        f"- Machine: {facts['cpu']} ({facts['isa']}), {facts['logical_cores']} logical cores; "
        "shared with other work, which seconds show and ratios of speed hardly do.",
        f"- Software: quantlab {facts['quantlab']}, onnxruntime {facts['onnxruntime']}, "
        f"numpy {facts['numpy']}, neural-compressor 2.4.1.",
        f"- mobilenetv2-12; {IMAGES} calibration images; criterion: top-1 decline on val1300. "
        "Both with their strategy `basic`, Neural Compressor with its default `quant_level: auto`. "
        "Seconds of whole commands, decoding included; `benchmarks/inc_own_way.py` is Neural "
        "Compressor's own MobileNet example (images decoded one at a time in every pass, batches "
        "of one) on quantlab's images and preprocessing. `fit` alone: its `quantization.fit` on "
        f"images decoded beforehand, imports not counted. Medians of rounds in turns: {rounds}.",
        "- Decline, KL and speed as measured afterwards: 1,800 images, all files in turns.",
        "",
        "| who, goal | seconds | evaluations | decline % | lost / gained | KL | SQNR dB | × fp32 |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for goal in GOALS:
        lines += [f"| {' | '.join(row)} |" for row in race(place, goal, python, rounds)]
    searched = default(place, rounds)
    return "\n".join([*lines, "", *searched, *broken(place), "", *mended(place)]) + "\n"


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Runs everything and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--inc", metavar="PYTHON", help="a Python with neural-compressor")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("reports/tuning.md"))
    given = parser.parse_args()
    if "QUANTLAB_DATA" not in os.environ:
        parser.error("set QUANTLAB_DATA to the folder with models/ and imagenet/")
    with tempfile.TemporaryDirectory() as work:
        place = Place(Path(os.environ["QUANTLAB_DATA"]).resolve(), Path(work))
        write_whole(given.out, report(place, given.inc, given.rounds))
    say(f"{given.out} written")


if __name__ == "__main__":
    main()
