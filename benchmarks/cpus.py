"""The same int8 files on other CPUs, emulated: whether they give the answers of this one.

    python benchmarks/cpus.py [--models NAME ...] [--images 8] [--target NAME ...]
        [--arm64 ROOT:SITE] [--openvino PYTHON] [--openvino-arm64 SITE] [--out reports/cpus.md]
        [--work DIR]

Needs Debian's qemu-user-static and QUANTLAB_DATA. ROOT is a folder with Debian's arm64 packages,
SITE one with arm64 wheels (docs/cpus.md says how to make them); PYTHON has the package openvino.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from contenders import SUBJECTS, Contender
from fidelity import Case, Place, say
from numpy.typing import NDArray

from quantlab._util.files import write_whole
from quantlab._util.paths import cache_dir
from quantlab.data.calibration import CalibrationImages
from quantlab.evaluate.metrics import logits_of, sqnr_db
from quantlab.recipe import Recipe
from quantlab.runtime.environment import environment

Floats = NDArray[np.float32]
ANSWERS = Path(__file__).resolve().with_name("answers_on.py")
HASWELL = ("qemu-x86_64-static", "-cpu", "Haswell")
ARM64 = ("qemu-aarch64-static", "-cpu", "max")
CONTENDERS = (
    Contender("quantlab", "default", Recipe()),
    Contender("quantlab", "not portable", Recipe(portable=False)),
    Contender("ort", "minmax", Recipe(engine="ort", ranges="minmax")),
)
ON_CPUS = ("x86", "x86-vnni", "arm64", "openvino")
"""Targets that are CPUs."""
NAMES = (
    "mobilenetv2-12",
    "modern/efficientnet-b0",
    "modern/pplcnet-x1_0",
    "modern/shufflenetv2-1.0",
)


@dataclass(frozen=True)
class Host:
    """A CPU, real or emulated, with a runtime: the command that starts its Python."""

    cpu: str
    runtime: str
    command: Sequence[str]
    variables: dict[str, str] = field(default_factory=dict)

    def answers(self, files: Sequence[Path], images: Floats) -> list[Floats]:
        """Of each file to images as the model takes them [n, …]. Raises CalledProcessError."""
        with tempfile.TemporaryDirectory() as folder:
            outs = [Path(folder, f"{i}.npy") for i in range(len(files))]
            np.save(Path(folder, "images.npy"), images)
            pairs = [str(x) for pair in zip(files, outs, strict=True) for x in pair]
            subprocess.run(
                [*self.command, str(ANSWERS), self.runtime, f"{folder}/images.npy", *pairs],
                env={**os.environ, **self.variables},
                stderr=subprocess.PIPE,
                check=True,
            )
            return [np.asarray(np.load(out), np.float32).reshape(len(images), -1) for out in outs]


def hosts(python: str, openvino: str, arm64: str, openvino_arm64: str) -> Iterator[Host]:
    """This CPU first; of the others those that are given."""
    for runtime, each in (("onnxruntime", python), ("openvino", openvino)):
        if each:
            yield Host("this one", runtime, [each])
            yield Host("Haswell", runtime, [*HASWELL, each])
    root, _, site = arm64.partition(":")
    for runtime, wheels in (("onnxruntime", site), ("openvino", openvino_arm64)):
        if wheels:
            command = [
                "qemu-aarch64-static",
                "-cpu",
                "max",
                "-L",
                root,
                f"{root}/usr/bin/python3.11",
            ]
            yield Host("arm64", runtime, command, {"PYTHONPATH": wheels})


@dataclass(frozen=True)
class Row:
    """One file on one host. ``apart`` is the largest difference of a logit to the first host's."""

    file: str
    host: Host
    sqnr_db: float
    apart: float
    agree: float


def compared(
    names: Sequence[str], host: Host, fp32: Floats, first: Sequence[Floats], found: Sequence[Floats]
) -> list[Row]:
    """The rows of one host: to fp32 here, and to the same file on the first host."""
    return [
        Row(
            name,
            host,
            float("inf") if (db := sqnr_db(fp32, answers)) is None else db,
            float(np.abs(answers - native).max()),
            100 * float((answers.argmax(1) == native.argmax(1)).mean()),
        )
        for name, native, answers in zip(names, first, found, strict=True)
    ]


def table(rows: Sequence[Row]) -> list[str]:
    """One Markdown table, a file's hosts side by side."""
    ordered = sorted(rows, key=lambda row: [r.file for r in rows].index(row.file))
    lines = [
        f"| {r.file} | {r.host.cpu} | {r.host.runtime} | {r.sqnr_db:.1f} | {r.apart:.2g} "
        f"| {r.agree:.1f} |"
        for r in ordered
    ]
    return [
        "| file | CPU | runtime | SQNR dB to fp32 | largest difference of a logit | agree % |",
        "|---|---|---|--:|--:|--:|",
        *lines,
    ]


def contenders(targets: Sequence[str]) -> Sequence[Contender]:
    """A file for each target, or the usual ones where none is named."""
    made = [Contender("quantlab", f"target {name}", Recipe(target=name)) for name in targets]
    return made or CONTENDERS


def section(
    case: Case, images: int, every: Sequence[Host], asked: Sequence[Contender]
) -> list[str]:
    """One model on all hosts."""
    names, files = [], []
    for contender in asked:
        path, answer = case.made(contender, 300)
        if "problem" in answer:
            say(f"  {contender.name}: {answer['problem']}")
            continue
        names.append(contender.name)
        files.append(path)
    given = _images(case, images)

    def answers(host: Host, paths: Sequence[Path]) -> list[Floats]:
        found = host.answers(paths, given)
        return [logits_of(x) for x in found] if case.model.output_kind == "probabilities" else found

    fp32 = answers(every[0], [case.model.path])[0]
    first, rows = answers(every[0], files), []
    for host in every:
        say(f"{case.subject.name}: {host.cpu}, {host.runtime}")
        rows += compared(names, host, fp32, first, answers(host, files))
    return [f"## {case.subject.name}", "", *table(rows)]


def _images(case: Case, count: int) -> Floats:
    crops = case.evaluation[0].some(np.linspace(0, len(case.evaluation[0]) - 1, count).astype(int))
    return np.concatenate(list(CalibrationImages(crops, case.model.input))).astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    known = [s.name for s in SUBJECTS]
    parser.add_argument("--models", nargs="+", choices=known, default=NAMES)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--target", nargs="+", choices=ON_CPUS, default=())
    parser.add_argument("--openvino", default="", metavar="PYTHON")
    parser.add_argument("--arm64", default="", metavar="ROOT:SITE")
    parser.add_argument("--openvino-arm64", default="", metavar="SITE")
    parser.add_argument("--out", type=Path, default=Path("reports", "cpus.md"))
    parser.add_argument("--work", type=Path, default=cache_dir() / "benchmarks" / "fidelity")
    given = parser.parse_args(arguments)
    if "QUANTLAB_DATA" not in os.environ:
        parser.error("set QUANTLAB_DATA to the folder with models/ and imagenet/")
    place = Place(
        Path(os.environ["QUANTLAB_DATA"]), given.work.absolute(), {"ort": sys.executable}, (), 300
    )
    asked = contenders(given.target)
    every = list(hosts(sys.executable, given.openvino, given.arm64, given.openvino_arm64))
    facts = environment()
    lines = [
        "# int8 files on other CPUs",
        "",
        "Written by `benchmarks/cpus.py`.",
        "",
        f"- This CPU: {facts['cpu']} ({facts['isa']}). Haswell (AVX2, no VNNI) and arm64 are "
        "emulated by qemu ([docs/cpus.md](../docs/cpus.md)).",
        f"- {given.images} evaluation images; files calibrated on 300 or all there are. "
        "Differences are to the same file on this CPU in onnxruntime.",
    ]
    for subject in SUBJECTS:
        if subject.name in given.models:
            case = Case(place, subject)
            lines += ["", *section(case, given.images, every, asked)]
            write_whole(given.out, "\n".join(lines) + "\n")
    say(f"{given.out} written")


if __name__ == "__main__":
    main()
