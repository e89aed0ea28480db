"""Quantizers side by side: the same models, the same calibration images, the same judge.

    python benchmarks/fidelity.py [--peer ort=PYTHON] [--peer inc=PYTHON] [--peer nncf=PYTHON]
        [--models NAME ...] [--images 300] [--out reports/fidelity.md] [--work DIR] [--fresh PEER]

Installs nothing: each PYTHON has the peer already (that of ort needs quantlab's dependencies too).
Models, calibration and evaluation images are those of the folder QUANTLAB_DATA; EfficientNet-lite0
is fetched. What is done is kept in the work folder and not done again, except what quantlab's own
engine makes after its source has changed, and the peers named by --fresh.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from contenders import (
    ABLATION,
    CONTENDERS,
    HISTOGRAM_BYTES,
    PEERS,
    REFERENCE,
    SUBJECTS,
    Contender,
    Subject,
    chosen,
    images_for,
    parse_peers,
)
from fidelity_table import (
    FP32,
    Row,
    against_reference,
    best_of_others,
    score,
    table,
    throughput_table,
)
from images import answers_of, crops_of, labels_of
from numpy.typing import NDArray

import quantlab
from quantlab._util.files import write_whole
from quantlab._util.paths import cache_dir
from quantlab._util.source import source_digest
from quantlab.bench.harness import bench
from quantlab.data.crops import Crops
from quantlab.data.preprocess import Pipeline, get_pipeline
from quantlab.evaluate.metrics import logits_of
from quantlab.fetch import fetch
from quantlab.model.model import Model
from quantlab.quantize.checks import activation_bytes
from quantlab.quantize.prepare import prepare
from quantlab.recipe import Recipe
from quantlab.runtime.environment import environment

HERE = Path(__file__).resolve().parent
TIMEOUT = 3600
PACKAGES = {"ort": "onnxruntime", "inc": "neural-compressor", "nncf": "nncf"}


@dataclass(frozen=True)
class Place:
    """Where data are read and results kept, and who takes part."""

    data: Path
    work: Path
    peers: Mapping[str, str]
    fresh: Sequence[str]
    images: int
    ablation: bool = False

    def crops(self, folder: str, pipeline: Pipeline, size: int | None = None) -> Crops:
        """The crops of QUANTLAB_DATA/<folder>, or a balanced sample of ``size``."""
        return crops_of(self.data / folder, pipeline, size)


@dataclass(frozen=True)
class Case:
    """One model of the benchmark with everything it needs."""

    place: Place
    subject: Subject

    @cached_property
    def model(self) -> Model:
        """The fp32 model."""
        path = self.place.data / "models" / f"{self.subject.name}.onnx"
        return self.loaded(path if path.exists() else fetch(self.subject.name))

    def loaded(self, path: Path) -> Model:
        """A file of this model, at the size of its images."""
        return Model.load(path).with_overrides(size=self.pipeline.shape)

    @cached_property
    def pipeline(self) -> Pipeline:
        """Its preprocessing."""
        return get_pipeline(self.subject.pipeline, size=self.subject.size)

    @cached_property
    def activation_bytes(self) -> int:
        """Of one image."""
        return activation_bytes(prepare(self.model.proto()))

    @cached_property
    def evaluation(self) -> tuple[Crops, ...]:
        """The images that judge."""
        return tuple(self.place.crops(f, self.pipeline) for f in self.subject.evaluation)

    @cached_property
    def labels(self) -> NDArray[np.int64] | None:
        """Their labels, if these are the model's classes."""
        return labels_of(self.evaluation) if self.subject.labelled else None

    @cached_property
    def answers(self) -> NDArray[np.float32]:
        """The fp32 model's logits of the evaluation images [n, classes]."""
        return self.outputs(self.model.path)

    def outputs(self, path: Path) -> NDArray[np.float32]:
        """A model file's logits of the evaluation images [n, classes], kept by its content."""
        model = self.loaded(path)
        name = f"{model.sha256[:24]}-{Path(self.subject.name).name}.npy"
        kept = self.place.work / "outputs" / name
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, answers_of(model, self.model, self.evaluation))
        found = np.asarray(np.load(kept), np.float32)
        return logits_of(found) if self.model.output_kind == "probabilities" else found

    def made(self, contender: Contender, images: int) -> tuple[Path, dict[str, Any]]:
        """The contender's file and how it went, from the work folder where it is there already."""
        task = {
            "peer": contender.peer,
            "model": str(self.model.path),
            "pipeline": self.pipeline.model_dump(mode="json"),
            "recipe": contender.recipe.model_dump(mode="json"),
            "options": self._options(contender),
        }
        facts = [task, self.model.sha256, images, engine_digest(contender.peer)]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
        folder = self.place.work / "made" / key
        answer = folder / "answer.json"
        if contender.peer in self.place.fresh:
            answer.unlink(missing_ok=True)
        died = None if answer.exists() else self._make(folder, task, images, contender)
        # A process that died is not remembered: somebody may have stopped it.
        return folder / "quantized.onnx", died or json.loads(answer.read_text())

    def _options(self, contender: Contender) -> dict[str, Any]:
        if contender.peer not in ("inc", "nncf"):
            return {}
        return {**contender.options, "python": self.place.peers[contender.peer]}

    def _make(
        self, folder: Path, task: dict[str, Any], images: int, contender: Contender
    ) -> dict[str, Any] | None:
        """Quantizes in a process of its own; an answer where that left none itself."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "quantized.onnx").unlink(missing_ok=True)
        crops = self.place.crops(self.subject.calibration, self.pipeline, images)
        np.save(folder / "images.npy", crops.planes)
        (folder / "task.json").write_text(json.dumps(task, indent=1))
        python = self.place.peers["ort"] if contender.peer == "ort" else sys.executable
        before = cpu_seconds()
        died = run_one(python, folder)
        (folder / "images.npy").unlink()
        if died is None:
            answer = json.loads((folder / "answer.json").read_text())
            answer["cpu_seconds"] = cpu_seconds() - before
            (folder / "answer.json").write_text(json.dumps(answer))
        return died


def cpu_seconds() -> float:
    """Of all processes that this one has started and that have ended, user and system."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_one(python: str, folder: Path) -> dict[str, Any] | None:
    """Runs one_file.py; an answer only where it left none itself."""
    home = str(Path(quantlab.__file__).resolve().parent.parent)
    with (folder / "log.txt").open("w") as log:
        try:
            done = subprocess.run(
                [python, str(HERE / "one_file.py"), str(folder)],
                env={**os.environ, "PYTHONPATH": home},
                stdout=log,
                stderr=log,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"problem": f"not done in {TIMEOUT} s"}
    if (folder / "answer.json").exists():
        return None
    return {"problem": f"ended with exit code {done.returncode}"}


def engine_digest(peer: str) -> str:
    """Of quantlab's source: the files that it makes change with it. Empty for the others."""
    return source_digest() if peer == "quantlab" else ""


def contenders(case: Case) -> Sequence[Contender]:
    """Who takes part on this model."""
    if not case.place.ablation:
        return chosen(case.subject.name, ("quantlab", *case.place.peers))
    reference = [c for c in CONTENDERS if c.name == REFERENCE and c.peer in case.place.peers]
    return [*ABLATION, *reference]


def rows_of(case: Case) -> list[Row]:
    """Everybody's row on one model, without the speeds, and with the files' paths beside them."""
    reference = case.answers
    own = score(reference, reference, case.labels)
    rows = [Row(FP32, 0, bytes=case.model.size_bytes, score=own, speed=1.0)]
    paths = [case.model.path]
    for contender in contenders(case):
        images = images_for(contender, case.place.images, case.activation_bytes)
        say(f"{case.subject.name}: {contender.name}, {images} images")
        path, answer = case.made(contender, images)
        row = Row(contender.name, images)
        if "problem" in answer:
            rows.append(replace(row, problem=answer["problem"]))
            say(f"  {answer['problem']}")
            continue
        found = score(reference, case.outputs(path), case.labels)
        say(f"  KL {found['kl']:.4f}, {found['sqnr_db']:.1f} dB, {answer['seconds']:.0f} s")
        rows.append(replace(row, score=found, bytes=path.stat().st_size, **answer))
        paths.append(path)
    return with_speeds(case, rows, paths)


def with_speeds(case: Case, rows: list[Row], paths: list[Path]) -> list[Row]:
    """All files of one model timed in one interleaved run (kept for the same files)."""
    models = [case.loaded(path) for path in paths]
    key = hashlib.sha256("".join(m.sha256 for m in models).encode()).hexdigest()[:24]
    kept = case.place.work / "speeds" / f"{key}.json"
    if not kept.exists():
        say(f"{case.subject.name}: timing {len(models)} files")
        result = bench(models, rounds=30, seconds=5.0 * len(models), threads=1)
        p50 = [m[0].p50 for m in result.measurements]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([p50[0] / x for x in p50]))
    speeds = iter(json.loads(kept.read_text()))
    return [row if row.score is None else replace(row, speed=next(speeds)) for row in rows]


def throughput(case: Case) -> list[dict[str, Any]]:
    """Calibration alone: quantlab's histograms on many images, ONNX Runtime's on a hundred."""
    off = {
        "equalize": False,
        "bias_correction": False,
        "rounding": "nearest",
        "range_search": False,
    }
    wanted = [("quantlab", r, n) for r in ("percentile", "entropy", "mse") for n in (200, 1000)]
    if "ort" in case.place.peers:
        wanted += [("ort", ranges, 100) for ranges in ("percentile", "entropy")]
    measured = []
    for peer, ranges, images in wanted:
        recipe = Recipe(engine=peer, ranges=ranges, **off)
        contender = Contender(peer, ranges, recipe)
        say(f"calibration: {contender.name}, {images} images")
        _, answer = case.made(contender, images)
        measured.append({"name": contender.name, "images": images, **answer})
    return measured


def report(place: Place, cases: Sequence[Case], out: Path) -> None:
    """The report in Markdown, written anew after each part."""
    title = "quantlab's parts, one by one" if place.ablation else "quantlab beside its peers"
    parts = [[f"# Fidelity of int8 files: {title}", "", *conditions(place)]]
    for case in cases:
        rows = rows_of(case)
        words = " ".join(filter(None, (best_of_others(rows), against_reference(rows))))
        judged = f"{' + '.join(case.subject.evaluation)}: {len(case.answers):,} images."
        parts.append([f"## {case.subject.name}", "", judged, "", *table(rows), "", words])
        _write(out, parts)
    if place.ablation:
        return
    lines = [f"## Calibration of {cases[0].subject.name}", ""]
    lines += ["Ranges alone, end to end; no correction, nearest rounding.", ""]
    parts.append(lines + throughput_table(throughput(cases[0])))
    _write(out, parts)


def _write(out: Path, parts: Sequence[Sequence[str]]) -> None:
    write_whole(out, "\n\n".join("\n".join(lines).rstrip() for lines in parts) + "\n")


def conditions(place: Place) -> list[str]:
    """Under what circumstances the figures were taken."""
    facts = environment()
    versions = ", ".join(
        f"{PACKAGES[peer]} {peer_version(python, PACKAGES[peer])}"
        for peer, python in place.peers.items()
    )
    return [
        "Written by `benchmarks/fidelity.py`.",
        "",
        f"- Machine: {facts['cpu']} ({facts['isa']}), {facts['logical_cores']} logical cores, "
        f"{facts['memory']}, {facts['os']}.",
        f"- Software: quantlab {facts['quantlab']}, Python {facts['python']}, numpy "
        f"{facts['numpy']}, onnx {facts['onnx']}; {versions or 'no peers'}. Every file runs in "
        f"onnxruntime {facts['onnxruntime']}, all graph optimizations on.",
        f"- Calibration: {place.images} images of ImageNet's training set, one a class, or those "
        "beside the model where there are fewer, the same for all but one row; quantizers that "
        f"keep every activation get as many as fit into {HISTOGRAM_BYTES >> 30} GiB.",
        "- Evaluation: the images that each model's heading names, through its own preprocessing. "
        "KL and SQNR are to the fp32 logits. Models whose classes are not the images' have no "
        "accuracy.",
        "- Every quantizer gets the same tidied fp32 graph: opset 13 at least, batch norm folded. "
        "The classifier's output stays in fp32, but in the row that says otherwise.",
        "- Speed: batch 1, one thread, all files of a model in one interleaved run of 30 rounds, "
        "ratio of median latencies, higher is faster.",
        "- CPU seconds are those of the process that quantized and of its children, imports too; "
        "peak RSS is that of the process.",
    ]


def peer_version(python: str, package: str) -> str:
    """Of the package in that Python."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "(not installed)"


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is not done yet and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    names = [s.name for s in SUBJECTS]
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--models", nargs="+", choices=names, default=names)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--ablation", action="store_true", help="quantlab's parts, off and on")
    parser.add_argument("--out", type=Path, help="default: reports/fidelity.md or ablation.md")
    parser.add_argument("--work", type=Path, default=cache_dir() / "benchmarks" / "fidelity")
    parser.add_argument("--fresh", action="append", default=[], choices=PEERS)
    given = parser.parse_args(arguments)
    try:
        peers = parse_peers(given.peer)
    except ValueError as error:
        parser.error(str(error))
    if "QUANTLAB_DATA" not in os.environ:
        parser.error("set QUANTLAB_DATA to the folder with models/ and imagenet/")
    data = Path(os.environ["QUANTLAB_DATA"])
    place = Place(data, given.work.absolute(), peers, given.fresh, given.images, given.ablation)
    out = given.out or Path("reports", "ablation.md" if given.ablation else "fidelity.md")
    cases = [Case(place, s) for s in SUBJECTS if s.name in given.models]
    report(place, cases, out)
    say(f"{out} written")


if __name__ == "__main__":
    main()
