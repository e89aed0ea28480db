"""This repository's own runs: every recipe and every model at hand, and the pages over them.

    QUANTLAB_DATA=DIR python benchmarks/own_runs.py [--only WORD ...] [--work DIR] [--out reports]

Runs ``quantlab`` as a user would, in a work folder that is kept: what has been run there before
with the same command is not run again (``--fresh`` does). Writes ``runs.md``, the history of these
runs, and by ``quantlab runs ledger`` the ledger.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from quantlab._util.files import write_whole
from quantlab._util.paths import cache_dir
from quantlab.errors import QuantlabError
from quantlab.report.formats import percent, table
from quantlab.report.history import outcome_words, when
from quantlab.runs.entry import Entry
from quantlab.runs.folders import read_entry, scan
from quantlab.runs.record import RunRecord, load_record
from quantlab.runtime.environment import environment

FP32 = "data/models/mobilenetv2-12.onnx"
INT8 = "data/models/mobilenetv2-12-int8.onnx"
RECIPES = {
    "mobilenetv2-12-qdq": "mobilenetv2-12-qdq.onnx",
    "npu-torchvision": "npu-torchvision-int8.onnx",
    "a16w16": "a16w16.onnx",
    "a16w8": "a16w8.onnx",
    "caffe2-mobilenetv2-int8": "caffe2.onnx",
}
"""Every recipe that starts from a model at hand, and the file that it makes."""
OTHERS = {
    "data/models/shufflenet-v2-12-int8.onnx": "torchvision",
    "data/models/mobilenetv1-tf.onnx": "tf",
    "data/models/squeezenet1.1-caffe.onnx": "caffe",
    "data/models/st-mobilenetv2-int8-nhwc-uint8.onnx": "torchvision",
}
"""Models without a recipe, and their preprocessing."""
VAL, CALIBRATION = "data/imagenet/val1300", "data/imagenet/calib1000"
MADE = "quantlab.int8.onnx"
_PAGE = """# Runs of this repository

Written by `benchmarks/own_runs.py`, on {cpu} ({isa}), {cores} CPUs, with quantlab {quantlab} and
ONNX Runtime {onnxruntime}. `data` is the folder that QUANTLAB_DATA names. What the runs measured of
each published recipe stands in [ledger.md](ledger.md).

{listing}

## Verdicts

{verdicts}
"""


def commands() -> Iterator[list[str]]:
    """Every run, as the words after ``quantlab``."""
    yield ["tune", "--model", FP32, "--data", CALIBRATION, "--eval-data", VAL, "--output", MADE]
    for recipe, output in RECIPES.items():
        made = ["--recipe", recipe, "--data", CALIBRATION, "--output", output]
        yield ["quantize", "--model", FP32, *made]
    for model in (FP32, INT8, MADE, *RECIPES.values(), "efficientnet-lite0"):
        yield ["evaluate", model, "--data", VAL]
        yield ["inspect", model]
    for model, pipeline in OTHERS.items():
        yield ["evaluate", model, "--data", VAL, "--pipeline", pipeline]
        yield ["inspect", model]
    for model in (INT8, MADE, *RECIPES.values()):
        yield ["compare", FP32, model, "--data", VAL, "--no-bench"]
    yield ["bench", FP32, INT8, MADE, *RECIPES.values(), "efficientnet-lite0", *OTHERS]
    yield ["bench", FP32, INT8, "--batch", "256", "--rounds", "2"]


def run_all(work: Path, every: Sequence[list[str]], fresh: bool) -> list[str]:
    """Run what has not been run; the commands that failed."""
    failed = []
    for words in every:
        command = shlex.join(["quantlab", *words])
        if not fresh and command in {record.command for record in finished(work / "runs")}:
            continue
        print(command, file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, "-m", "quantlab", *words, "--quiet"], cwd=work)
        if done.returncode not in (0, 1, 3):
            failed.append(command)
    return failed


def finished(runs: Path) -> list[RunRecord]:
    """The records of the runs that came to an end, without how much they talked."""
    found = []
    for name in scan(runs):
        try:
            record = load_record(runs / name)
        except QuantlabError:
            continue
        if record.status == "success":
            record.command = record.command.removesuffix(" --quiet")
            found.append(record)
    return found


def page(runs: Path) -> str:
    """The runs that made the pages, and what the comparisons concluded."""
    records = sorted(finished(runs), key=lambda record: record.started)
    latest = {record.command: record for record in records}
    entries = [(record, read_entry(runs / record.id)) for record in latest.values()]
    here = environment()
    return _PAGE.format(
        listing=table(
            ["when", "verb", "model", "verdict", "top-1", "decline"],
            [_cells(entry) for _, entry in entries],
            right="    rr",
        ),
        verdicts="\n\n".join(_verdict(record) for record, entry in entries if entry.verdict),
        cores=here["logical_cores"],
        **{name: here[name] for name in ("cpu", "isa", "quantlab", "onnxruntime")},
    )


def _cells(entry: Entry) -> list[str]:
    figures = [percent(entry.top1), percent(entry.decline)]
    return [when(entry.started), entry.verb, entry.model, outcome_words(entry), *figures]


def _verdict(record: RunRecord) -> str:
    verdict = record.results["verdict"]
    said = " ".join(text for text in (verdict["reason"], verdict["remedy"]) if text)
    return f"`{record.command}`\n\n> {verdict['status'].upper()}. {said}"


def main() -> int:
    """Exit code 1 when a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="only such runs")
    parser.add_argument("--fresh", action="store_true", help="run again what has been run")
    parser.add_argument("--work", type=Path, default=cache_dir() / "benchmarks" / "own-runs")
    parser.add_argument("--out", type=Path, default=Path("reports"))
    given = parser.parse_args()
    if "QUANTLAB_DATA" not in os.environ:
        parser.error("set QUANTLAB_DATA to the folder with models/ and imagenet/")
    given.work.mkdir(parents=True, exist_ok=True)
    data = given.work / "data"
    data.unlink(missing_ok=True)
    data.symlink_to(Path(os.environ["QUANTLAB_DATA"]).resolve())
    every = [w for w in commands() if not given.only or any(o in " ".join(w) for o in given.only)]
    failed = run_all(given.work, every, given.fresh)
    write_whole(given.out / "runs.md", page(given.work / "runs"))
    ledger = ["runs", "ledger", "--output", str(given.out.absolute())]
    subprocess.run([sys.executable, "-m", "quantlab", *ledger], cwd=given.work, check=True)
    for command in failed:
        print(f"failed: {command}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
