"""How near evaluation comes to what the machine can do.

    QUANTLAB_DATA=DIR python benchmarks/throughput.py [--rounds 5] [--out FILE]

All that is compared takes turns in one run; a ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from images import crops_of
from numpy.typing import NDArray

from quantlab import quantize
from quantlab._util.files import write_whole
from quantlab._util.reporter import NullReporter
from quantlab.cluster.execution import ShardedExecution
from quantlab.data.crops import Crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.data.threads import default_workers, ordered_map
from quantlab.evaluate.evaluator import drive, predictions_of
from quantlab.evaluate.execution import Execution
from quantlab.evaluate.outputs import new_outputs
from quantlab.evaluate.parallel import ParallelRunner
from quantlab.model.kinds import ONNX_RUNTIME, OPENVINO
from quantlab.model.model import Model
from quantlab.runtime.environment import default_threads, environment
from quantlab.runtime.runner import Runner, Session
from quantlab.verbs.evaluate import crops_and_answers
from quantlab.verbs.inputs import DataOptions, LocatedDataset

PIPELINE = get_pipeline("torchvision")
BATCHES = (1, 2, 4, 8, 16, 32)
MODELS = ("mobilenetv2-12", "mobilenetv2-12-int8")
Timed = Callable[[], object]
RSS = """\
import sys
from quantlab.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
lines = open("/proc/self/status").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
"""
SESSIONS = """\
import sys
import quantlab.runtime.session as session
from quantlab.cli import main

def none(*_, **__):
    raise AssertionError("a session was created")

session.ort.InferenceSession = none
main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Place:
    """The data."""

    data: Path

    def model(self, name: str) -> Model:
        """One of the models."""
        return Model.load(self.data / "models" / f"{name}.onnx")

    def images(self, name: str) -> Path:
        """A folder of images."""
        return self.data / "imagenet" / name


def rate(count: int, run: Timed) -> float:
    """Images/s."""
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


class Bare:
    """The model's runtime alone over tensors that are ready, at its best batch size and threads."""

    def __init__(self, model: Model, tensors: NDArray[Any]) -> None:
        cores = default_threads()
        self._model, self._tensors = model, tensors
        few = min(256, len(tensors))
        found = {}
        for trial in product(sorted({(cores, 1), (1, cores)}), BATCHES):
            self.split, self.batch = trial
            self._session = self._load()
            found[trial] = max(rate(few, lambda: self._run(few)) for _ in range(2))
        self.split, self.batch = max(found, key=lambda trial: found[trial])
        self._session = self._load()

    def __call__(self) -> None:
        self._run(len(self._tensors))

    def _load(self) -> Session:
        """Loaded anew for each trial, and run once: OpenVINO compiles for each batch size."""
        workers, threads = self.split
        session = Runner(self._model, threads=threads, streams=workers).session
        session.run(self._tensors[: self.batch])
        return session

    def _run(self, count: int) -> None:
        def piece(start: int) -> None:
            self._session.run(self._tensors[start : min(count, start + self.batch)])

        with ThreadPoolExecutor(self.split[0]) as pool:
            list(pool.map(piece, range(0, count, self.batch)))

    @property
    def words(self) -> str:
        """The plan."""
        return f"{self.split[0]} x {self.split[1]} threads, batch {self.batch}"


def ours(model: Model, crops: Crops) -> None:
    """quantlab's evaluation of cached crops, its session and its trials of plans included."""
    outputs = new_outputs(len(crops), model.num_classes)
    with ParallelRunner(model, Execution(), pipeline=crops.pipeline) as run:
        drive([lambda rows: run.answers(rows, crops.pixels)], np.arange(len(crops)), [outputs])
    predictions_of(model, crops, outputs)


def as_inc(model: Model, tensors: NDArray[Any]) -> None:
    """Neural Compressor's way: one image a call, ONNX Runtime's own number of threads."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    for start in range(len(tensors)):
        session.run(None, {model.input.name: tensors[start : start + 1]})


def warm(place: Place, rounds: int) -> list[str]:
    """Cached crops of val1300, in both runtimes."""
    crops = crops_of(place.images("val1300"), PIPELINE)
    fp32, int8 = (place.model(name) for name in MODELS)
    qdq = quantize(fp32, open_dataset(place.images("calib1000")))
    cases = dict(zip(MODELS, (fp32, int8), strict=True))
    for name, model in {MODELS[0]: fp32, f"{MODELS[0]} quantized by quantlab": qdq}.items():
        cases[f"{name}, OpenVINO"] = model.with_overrides(runtime=OPENVINO)
    rows = []
    for name, model in cases.items():
        tensors = crops.inputs(slice(None), model.input)
        bare = Bare(model, tensors)
        runs: dict[str, Timed] = {"bare": bare, "quantlab": partial(ours, model, crops)}
        if model.runtime == ONNX_RUNTIME:
            runs["inc"] = partial(as_inc, model, tensors)
        rates = in_turns(len(crops), runs, rounds)
        say(f"{name}: {rates}")
        base = np.array(rates["bare"])
        cells = [
            f"{np.median(rates['quantlab']):.0f}",
            f"{np.median(base):.0f} ({bare.words})",
            f"**{np.median(rates['quantlab'] / base):.3f}**",
            f"{np.median(rates['inc'] / base):.3f}" if "inc" in rates else "",
        ]
        rows.append(f"| {' | '.join([name, *cells])} |")
    return [
        "## Cached crops, val1300",
        "",
        "quantlab's time holds its session, its trials of plans and the normalization of every "
        "image; the bare loop gets float tensors that are ready and a session that is warm. "
        "OpenVINO compiles the model for each batch size, which is in quantlab's time as well.",
        "",
        "| model | quantlab images/s | bare runtime, its best plan | quantlab ÷ bare "
        "| one image a call, default threads (Neural Compressor's way) ÷ bare |",
        "|---|--:|--:|--:|--:|",
        *rows,
    ]


def in_turns(count: int, runs: dict[str, Timed], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Images/s of each, round by round, every other round the other way about."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        names = list(runs) if number % 2 == 0 else list(reversed(runs))
        for name in names:
            found[name].append(rate(count, runs[name]))
    return {name: np.array(values) for name, values in found.items()}


def cold(place: Place, rounds: int) -> list[str]:
    """Full-size JPEGs of calib1000, nothing cached."""
    folder = place.images("calib1000")
    crops = crops_of(folder, PIPELINE)
    dataset = open_dataset(folder)
    rows = []
    for name in MODELS:
        model = place.model(name)
        tensors = crops.inputs(slice(None), model.input)

        def whole(model: Model = model) -> None:
            with fresh_cache():
                found = LocatedDataset(open_dataset(folder), "")
                crops_and_answers(
                    model, found, PIPELINE, DataOptions(), NullReporter(), ShardedExecution()
                )

        def crop(index: int) -> bool:
            return PIPELINE.crop_image(dataset[index].image).size > 0

        def decode() -> None:
            assert all(ordered_map(crop, len(dataset), default_workers()))

        runs: dict[str, Timed] = {"decode": decode, "infer": Bare(model, tensors), "whole": whole}
        rates = in_turns(len(dataset), runs, rounds)
        say(f"{name}, cold: {rates}")
        together = 1 / (1 / rates["decode"] + 1 / rates["infer"])
        least = np.minimum(rates["decode"], rates["infer"])
        cells = [f"{np.median(rates[n]):.0f}" for n in ("whole", "decode", "infer")]
        ratios = [np.median(rates["whole"] / limit) for limit in (least, together)]
        rows.append(f"| {' | '.join([name, *cells])} | {ratios[0]:.2f} | **{ratios[1]:.2f}** |")
    return [
        "## Nothing cached, calib1000",
        "",
        "Digests, decoding, inference and writing the cache. Decoding and inference use the same "
        f"{default_threads()} cores: together they cannot be faster than 1 / (1/decode + 1/infer), "
        "whatever overlaps.",
        "",
        "| model | images/s | decode + resize alone, Pillow | inference alone | ÷ the lesser "
        "| ÷ both on the same cores |",
        "|---|--:|--:|--:|--:|--:|",
        *rows,
        "",
        *decoders(place),
    ]


def decoders(place: Place) -> list[str]:
    """One thread: Pillow, and what else could decode with equal pixels."""
    from io import BytesIO

    from PIL import Image

    contents = [p.read_bytes() for p in sorted(place.images("calib1000").rglob("*.JPEG"))[:200]]

    def pillow(content: bytes) -> NDArray[np.uint8]:
        return np.asarray(Image.open(BytesIO(content)).convert("RGB"))

    readers: dict[str, Callable[[bytes], NDArray[np.uint8]]] = {"Pillow": pillow}
    try:
        simplejpeg: Any = importlib.import_module("simplejpeg")
        readers["simplejpeg"] = lambda c: np.asarray(simplejpeg.decode_jpeg(c))
    except ImportError:
        say("simplejpeg is not installed: left out")
    try:
        cv2: Any = importlib.import_module("cv2")
        cv2.setNumThreads(1)
        readers["OpenCV"] = lambda c: np.asarray(cv2.imdecode(np.frombuffer(c, np.uint8), 1))[
            ..., ::-1
        ]
    except ImportError:
        say("OpenCV is not installed: left out")
    rows = []
    for name, read in readers.items():
        equal = sum(_same(read, pillow, c) for c in contents)
        speed = max(rate(len(contents), partial(_read_all, read, contents)) for _ in range(3))
        rows.append(f"| {name} | {speed:.0f} | {equal} of {len(contents)} |")
    return [
        "| decoder, one thread, no resizing | images/s | pixels equal Pillow's |",
        "|---|--:|--:|",
        *rows,
    ]


def _read_all(read: Callable[[bytes], NDArray[np.uint8]], contents: list[bytes]) -> None:
    for content in contents:
        read(content)


def _same(
    read: Callable[[bytes], NDArray[np.uint8]],
    pillow: Callable[[bytes], NDArray[np.uint8]],
    content: bytes,
) -> bool:
    try:
        return np.array_equal(read(content), pillow(content))
    except ValueError:
        return False


@contextmanager
def fresh_cache() -> Iterator[Path]:
    """An empty cache folder, for this process and those it starts."""
    before = os.environ.get("QUANTLAB_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["QUANTLAB_CACHE"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("QUANTLAB_CACHE")
            if before is not None:
                os.environ["QUANTLAB_CACHE"] = before


def memory(place: Place, times: int) -> list[str]:
    """Peak memory of ``quantlab evaluate`` on val1300 and on the same images many times over."""
    source = place.images("val1300")
    lines = (source / "val.txt").read_text().split()
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    with tempfile.TemporaryDirectory() as work:
        many = Path(work) / "many"
        (many / "val").mkdir(parents=True)
        listed = []
        for copy, (name, label) in product(range(times), pairs):
            original = next(p for p in (source / name, source / "val" / name) if p.is_file())
            (many / "val" / f"{copy}-{original.name}").symlink_to(original)
            listed.append(f"{copy}-{original.name} {label}\n")
        (many / "val.txt").write_text("".join(listed))
        model = place.model(MODELS[1]).path
        found = [[_peak(model, folder, work) for folder in (source, many)] for _ in range(3)]
        peaks = np.median(found, axis=0)
    ratio = peaks[1] / peaks[0]
    say(f"peak RSS: {peaks}")
    return [
        "## Memory",
        "",
        f"Peak RSS of `quantlab evaluate` ({MODELS[1]}, nothing cached), medians of 3: "
        f"{peaks[0] / 1024:.0f} MiB on {len(pairs):,} images, {peaks[1] / 1024:.0f} MiB on "
        f"{times * len(pairs):,} (the same images {times} times, by links): {ratio:.3f}.",
    ]


def _peak(model: Path, folder: Path, work: str) -> int:
    line = ["evaluate", model, "--data", folder, "--pipeline", "torchvision", "-q"]
    command = [sys.executable, "-c", RSS, *map(str, line)]
    with fresh_cache():
        done = subprocess.run(command, cwd=work, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1])


def again(place: Place, rounds: int) -> list[str]:
    """``compare`` of known models, a second time."""
    models = [place.model(name).path for name in MODELS]
    line = ["compare", *models, "--data", place.images("val1300"), "--no-bench", "-q"]
    words = [str(word) for word in line]
    seconds = []
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "quantlab", *words]
        first = subprocess.run(command, cwd=work, stdout=subprocess.PIPE, text=True)
        for _ in range(rounds):
            start = time.perf_counter()
            found = subprocess.run(command, cwd=work, stdout=subprocess.PIPE, text=True)
            seconds.append(time.perf_counter() - start)
            assert found.stdout == first.stdout
        closed = subprocess.run([sys.executable, "-c", SESSIONS, *words], cwd=work)
    if closed.returncode != first.returncode:
        raise SystemExit("the repeated compare created a session")
    say(f"compare again: {seconds}")
    return [
        "## A repeated `compare`",
        "",
        f"`quantlab compare --no-bench` of both on val1300, everything known: "
        f"{np.median(seconds):.2f} s for the whole command (median of {rounds}; least "
        f"{min(seconds):.2f} s); no session is created (the same command succeeds where creating "
        "one is an error).",
    ]


def report(place: Place, rounds: int, times: int) -> str:
    """All parts in Markdown."""
    facts = environment()
    return (
        "\n".join(
            [
                "# Throughput of evaluation",
                "",
                "Written by `benchmarks/throughput.py`.",
                "",
                f"- Machine: {facts['cpu']} ({facts['isa']}), {facts['logical_cores']} logical "
                "cores, shared with other work.",
                f"- Software: quantlab {facts['quantlab']}, onnxruntime {facts['onnxruntime']}, "
                f"numpy {facts['numpy']}, Pillow {facts['pillow']}.",
                f"- What is compared takes turns; medians over {rounds} rounds.",
                "",
                *warm(place, rounds),
                "",
                *cold(place, rounds),
                "",
                *memory(place, times),
                "",
                *again(place, rounds),
            ]
        )
        + "\n"
    )


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Runs everything and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=10, help="val1300 so many times over")
    parser.add_argument("--out", type=Path, default=Path("reports/throughput.md"))
    given = parser.parse_args()
    if "QUANTLAB_DATA" not in os.environ:
        parser.error("set QUANTLAB_DATA to the folder with models/ and imagenet/")
    place = Place(Path(os.environ["QUANTLAB_DATA"]).resolve())
    write_whole(given.out, report(place, given.rounds, given.times))
    say(f"{given.out} written")


if __name__ == "__main__":
    main()
