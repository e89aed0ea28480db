"""More than one machine, shown on this one: a Dask scheduler and workers of one thread each.

    QUANTLAB_DATA=DIR python benchmarks/scale.py [--rounds 3] [--out FILE]

What is compared takes turns; a ratio is the median over the rounds. Every evaluation begins with
empty caches: workers decode, keep crops and compute. Ends within about six minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import psutil
from numpy.typing import NDArray

from quantlab._util.files import write_whole
from quantlab.cluster.executor import in_order, open_executor
from quantlab.cluster.shards import SHARD, Sharded
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import load_crops
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.evaluate.execution import Execution
from quantlab.evaluate.parallel import ParallelRunner
from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.recipe import Recipe
from quantlab.runtime.environment import available_cpus, environment
from quantlab.testing.cluster import DaskCluster, dask_cluster

PIPELINE = get_pipeline("torchvision")
MODELS = ("mobilenetv2-12", "mobilenetv2-12-int8")
ONE = Execution(threads=1)
IMAGES, MANY_MODELS, RECIPES = 50_000, 1_000, 20
PRICE = 0.04
"""Assumed: US dollars for a core-hour."""
SPACE = """\
search:
  ranges: [mean, mse]
  equalize: [true, false]
  rounding: [nearest]
"""
ALONE = """
import sys, time
from pathlib import Path
import numpy as np
from quantlab.runtime.session import create_session

model, count = Path(sys.argv[1]), int(sys.argv[2])
session = create_session(model, threads=1)
images = np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32)
name = session.get_inputs()[0].name
session.run(None, {name: images})
print("ready", flush=True)
sys.stdin.readline()
for _ in range(count // 2):
    session.run(None, {name: images})
print("done", flush=True)
"""


@dataclass(frozen=True)
class Place:
    """The data, and a folder to work in."""

    data: Path
    work: Path

    def model(self, name: str) -> Model:
        """One of the models."""
        return Model.load(self.data / "models" / f"{name}.onnx")

    def images(self, *names: str, most: int | None = None) -> Dataset:
        """The validation sets of these names, or the first images of each, as one, by links."""
        folder = self.work / "-".join([*names, str(most)])
        lines = []
        for name in names:
            source = self.data / "imagenet" / name
            (folder / name).mkdir(parents=True, exist_ok=True)
            for line in (source / "val.txt").read_text().splitlines()[:most]:
                image = line.split()[0]
                link = folder / name / image
                if not link.is_symlink():
                    link.symlink_to((source / "val" / image).resolve())
                lines.append(f"{name}/{line}\n")
        (folder / "val.txt").write_text("".join(lines))
        return open_dataset(folder, num_classes=1000)


@dataclass(frozen=True)
class Evaluation:
    """Seconds until the crops were decoded and until all was done; the sha256 of the outputs; CPU
    seconds of the scheduler and of this process."""

    decoded: float
    seconds: float
    sha256: str
    scheduler: float = 0.0
    caller: float = 0.0


def cpu(process: int) -> float:
    """CPU seconds of a process so far."""
    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


def evaluation(
    executor: str, model: Model, dataset: Dataset, cluster: DaskCluster | None = None,
    kill_after: int | None = None,
) -> Evaluation:  # fmt: skip
    """All images through the model; after ``kill_after`` shards the first worker is killed."""
    scheduler = cluster.scheduler.pid if cluster else os.getpid()
    before = cpu(scheduler), cpu(os.getpid())
    with open_executor(executor) as opened:
        assert opened is not None
        sharded = Sharded(opened)
        start = time.perf_counter()
        crops = sharded.read(dataset, PIPELINE, 0.01, lambda done, total: None)
        decoded = time.perf_counter() - start
        outputs = np.empty((len(crops), model.num_classes), np.float32)
        answers = sharded.answers(model, crops, ONE, np.arange(len(crops)))
        for number, (rows, made) in enumerate(answers):
            outputs[rows] = made
            if number == kill_after and cluster is not None:
                cluster.workers[0].kill()
        seconds = time.perf_counter() - start
    used = cpu(scheduler) - before[0], cpu(os.getpid()) - before[1]
    return Evaluation(decoded, seconds, digest(outputs), *used)


def digest(outputs: NDArray[np.float32]) -> str:
    """The sha256 of the bits."""
    return hashlib.sha256(np.ascontiguousarray(outputs).tobytes()).hexdigest()


def empty(folder: Path) -> None:
    """The caches of a cluster's workers."""
    for cache in folder.glob("worker-*/cache"):
        shutil.rmtree(cache, ignore_errors=True)


def inline(model: Model, dataset: Dataset, cache: Path) -> str:
    """The sha256 of what this process computes by itself."""
    crops = load_crops(dataset, PIPELINE, cache_dir=cache)
    with ParallelRunner(model, Execution(), pipeline=PIPELINE) as run:
        found = run.answers(np.arange(len(crops)), crops.pixels)
        return digest(np.concatenate([outputs for _, outputs in found]))


def evaluations(place: Place, rounds: int) -> list[str]:
    """One worker against two."""
    dataset = place.images("val1300", "imagenette500")
    rows, same = [], True
    folders = [place.work / f"cluster-{n}" for n in (1, 2)]
    with dask_cluster(folders[0], 1) as one, dask_cluster(folders[1], 2) as two:
        for name in MODELS:
            model = place.model(name)
            expected = inline(model, dataset, place.work / "crops")
            found: list[list[Evaluation]] = [[], []]
            limit: list[float] = []
            for number in range(rounds):
                order = (0, 1) if number % 2 == 0 else (1, 0)
                for i in order:
                    cluster = (one, two)[i]
                    empty(folders[i])
                    made = evaluation(f"dask://{cluster.address}", model, dataset, cluster)
                    found[i].append(made)
                    same &= made.sha256 == expected
                limit.append(scaling(model))
            say(f"{name}: {found}")
            times = np.array([[e.seconds for e in each] for each in found])
            ratio = float(np.median(times[0] / times[1]))
            cells = [
                f"{np.median(times[0]):.1f}",
                f"{np.median(times[1]):.1f}",
                f"**{ratio:.2f}**",
                f"{np.median(limit):.2f}",
                f"{np.median([e.decoded for e in found[1]]):.1f}",
                f"{np.median([e.scheduler for e in found[1]]):.2f}",
                f"{np.median([e.caller for e in found[1]]):.2f}",
            ]
            rows.append(f"| {' | '.join([name, *cells])} |")
        model = place.model(MODELS[1])
        with_processes = evaluation("process:2", model, dataset).sha256 == expected
    assert same, "a worker's outputs are not this process's"
    assert with_processes, "a process's outputs are not this process's"
    return [
        f"## {len(dataset):,} images",
        "",
        "Seconds from empty caches to the last answer. The machine's own limit: the throughput of "
        "two processes that share nothing, ONNX Runtime alone, against one's.",
        "",
        "| model | one worker, s | two workers, s | one ÷ two | two bare processes ÷ one "
        "| of which decoding, s | scheduler's CPU, s | caller's CPU, s |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        *rows,
        "",
        f"All {2 * rounds * len(MODELS) + 1} evaluations, by one worker, by two, and by "
        "`process:2`, gave the very bits that this process gives by itself.",
    ]


def scaling(model: Model, count: int = 240) -> float:
    """The throughput of two bare processes over that of one."""
    rates = []
    for processes in (1, 2):
        command = [sys.executable, "-c", ALONE, str(model.path), str(count)]
        pipe = subprocess.PIPE
        running = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(processes)
        ]
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        start = time.perf_counter()
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        rates.append(processes * count / (time.perf_counter() - start))
        for process in running:
            process.communicate()
    return rates[1] / rates[0]


def killed(place: Place) -> list[str]:
    """A worker killed in the middle."""
    dataset, model = place.images("val1300", "imagenette500"), place.model(MODELS[1])
    expected = inline(model, dataset, place.work / "crops")
    found = []
    for kill_after in (None, 5):
        folder = place.work / f"killed-{kill_after}"
        with dask_cluster(folder, 2) as cluster:
            found.append(
                evaluation(f"dask://{cluster.address}", model, dataset, cluster, kill_after)
            )
    say(f"killed: {found}")
    assert {e.sha256 for e in found} == {expected}
    return [
        "## A worker killed in the middle",
        "",
        f"{MODELS[1]}, the same images, two workers, one of them killed (SIGKILL) after the sixth "
        f"shard was merged: {found[1].seconds:.1f} s instead of {found[0].seconds:.1f} s, and the "
        "same bits.",
    ]


def studies(place: Place) -> list[str]:
    """One tune, and two tunes on one study."""
    few, rows = Path(place.images("imagenette500", most=100).root), []
    for names in ("a", "ab"):
        work = place.work / f"tunes-{names}"
        work.mkdir()
        (work / "quantlab.yaml").write_text(SPACE)
        imagenet = place.data / "imagenet"
        url = f"sqlite:///{work / 'study.db'}"
        words = ["tune", "--model", place.data / "models" / f"{MODELS[0]}.onnx"]
        words += ["--data", imagenet / "calib1000", "--eval-data", few]
        words += ["--calibration-size", 64, "--strategy", "grid", "--threads", 1, "--no-bench"]
        words += ["--no-audit", "--criterion", "agreement >= 50%", "--storage", url, "--quiet"]
        start = time.perf_counter()
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "quantlab", *map(str, words), "--output", f"{name}.onnx"],
                cwd=work,
                env={**os.environ, "QUANTLAB_CACHE": str(work / f"cache-{name}")},
                stdout=subprocess.DEVNULL,
            )
            for name in names
        ]
        for core, process in zip(available_cpus(), running, strict=False):
            psutil.Process(process.pid).cpu_affinity([core])
        assert [process.wait() for process in running] == [0] * len(names)
        seconds = time.perf_counter() - start
        files = {hashlib.sha256((work / f"{name}.onnx").read_bytes()).hexdigest() for name in names}
        (summary,) = optuna.get_all_study_summaries(url)
        rows.append((len(names), seconds, summary.n_trials, files))
    say(f"studies: {rows}")
    assert rows[0][3] == rows[1][3], "two tunes on one study chose another file"
    lines = [f"| {count} | {seconds:.0f} | {trials} |" for count, seconds, trials, _ in rows]
    return [
        "## Two tunes on one Optuna study",
        "",
        f"{MODELS[0]}, `--strategy grid` over four recipes, 64 calibration and 100 "
        "evaluation images, one core a tune, caches of their own, SQLite. Both end with the "
        "same file.",
        "",
        "| tunes at once | s | trials made by all together |",
        "|--:|--:|--:|",
        *lines,
        "",
        f"{rows[0][1] / rows[1][1]:.2f} times as fast; both tunes also start, decode and evaluate "
        "fp32 by themselves.",
    ]


@dataclass(frozen=True)
class Constants:
    """Of one core: images/s decoded (full-size files), through fp32 and through int8; seconds for
    a quantized file; bytes of a file; the scheduler's seconds for a task."""

    decode: float
    fp32: float
    int8: float
    quantize: float
    bytes: float
    task: float


def constants(place: Place) -> Constants:
    """Measured one after the other."""
    whole = open_dataset(place.data / "imagenet" / "calib1000", num_classes=1000)
    some = whole.subset(np.arange(0, 1000, 5))
    start = time.perf_counter()
    crops = load_crops(some, PIPELINE, cache_dir=place.work / "constants", workers=1)
    decode = len(some) / (time.perf_counter() - start)
    rates = []
    for name in MODELS:
        with ParallelRunner(place.model(name), ONE, pipeline=PIPELINE) as run:
            list(run.answers(np.arange(16), crops.pixels))
            start = time.perf_counter()
            list(run.answers(np.arange(len(crops)), crops.pixels))
            rates.append(len(crops) / (time.perf_counter() - start))
    fp32 = place.model(MODELS[0])
    fewer = load_crops(
        some.subset(np.arange(0, 200, 2)), PIPELINE, cache_dir=place.work / "constants"
    )
    start = time.process_time()
    get_engine("quantlab").quantize(fp32, Recipe(), CalibrationImages(fewer, fp32.input))
    quantize = time.process_time() - start
    size = float(np.mean([len(bytes(whole.source.read(i))) for i in range(0, 1000, 5)]))
    return Constants(decode, *rates, quantize, size, task_seconds(place))


def task_seconds(place: Place, count: int = 1000) -> float:
    """The scheduler's CPU seconds for a task of nothing."""
    with (
        dask_cluster(place.work / "tasks", 1) as cluster,
        open_executor(f"dask://{cluster.address}") as executor,
    ):
        assert executor is not None
        list(in_order(executor, abs, [(1,)] * 50))
        before = cpu(cluster.scheduler.pid)
        list(in_order(executor, abs, [(1,)] * count))
        return (cpu(cluster.scheduler.pid) - before) / count


def plan(c: Constants) -> list[str]:
    """Hours, cost and limits of IMAGES × MANY_MODELS × RECIPES, by arithmetic."""
    passes = MANY_MODELS * IMAGES
    hours = {
        f"fp32: {MANY_MODELS:,} models, every image once": passes / c.fp32 / 3600,
        f"int8: {MANY_MODELS * RECIPES:,} files, every image once": passes
        * RECIPES
        / c.int8
        / 3600,
        f"quantizing {MANY_MODELS * RECIPES:,} files": MANY_MODELS * RECIPES * c.quantize / 3600,
        "decoding, kept by 100 nodes that each see all images": 100 * IMAGES / c.decode / 3600,
        "decoding, nothing kept: once for every model": passes / c.decode / 3600,
    }
    rows = [f"| {name} | {value:,.0f} | {value * PRICE:,.0f} |" for name, value in hours.items()]
    whole = sum(list(hours.values())[:4])
    tasks = 1 / c.task
    images = tasks * SHARD
    return [
        f"## A paper plan: {IMAGES:,} images × {MANY_MODELS:,} models × {RECIPES} recipes",
        "",
        f"Arithmetic on figures of one core of this machine, for models of MobileNetV2's size: "
        f"{c.decode:.0f} full-size images/s decoded and resized ({c.bytes / 1000:.0f} kB each on "
        f"average), {c.fp32:.0f} images/s in fp32, {c.int8:.0f} in int8, {c.quantize:.0f} CPU "
        f"seconds for a quantized file (100 calibration images), {1000 * c.task:.2f} ms of the "
        f"scheduler's CPU for a task. Assumed: US$ {PRICE} for a core-hour.",
        "",
        "| work | core-hours | US$ |",
        "|---|--:|--:|",
        *rows,
        f"| **all but the last line** | **{whole:,.0f}** | **{whole * PRICE:,.0f}** |",
        "",
        f"On 100 nodes of 16 cores: {whole / 1600:.1f} hours.",
        "",
        "| what saturates | at | which is |",
        "|---|--:|--:|",
        f"| one scheduler, shards of {SHARD} images | {tasks:,.0f} tasks/s "
        f"| {images:,.0f} images/s, {images / c.int8:,.0f} cores in int8 |",
        f"| storage of 1 GB/s while crops are decoded | {1e9 / c.bytes:,.0f} images/s | "
        f"{1e9 / c.bytes / c.decode:,.0f} cores |",
        f"| a caller's network of 1 Gbit/s, 4 kB of logits an image "
        f"| {1.25e8 / 4000:,.0f} images/s | {1.25e8 / 4000 / c.int8:,.0f} cores in int8 |",
        f"| one core decoding beside one in int8 | {c.decode:.0f} images/s "
        f"| {c.decode / c.int8:.2f} of it: without kept crops, decoding is what is waited for |",
    ]


def report(place: Place, rounds: int) -> str:
    """All parts in Markdown."""
    facts, load = environment(), os.getloadavg()[0]
    parts = [
        evaluations(place, rounds),
        killed(place),
        studies(place),
        plan(constants(place)),
    ]
    head = [
        "# More than one worker",
        "",
        "Written by `benchmarks/scale.py`.",
        "",
        f"- Machine: {facts['cpu']} ({facts['isa']}), {facts['logical_cores']} logical cores. "
        "The scheduler, the workers (processes of one thread) and the caller share them.",
        f"- Software: quantlab {facts['quantlab']}, onnxruntime {facts['onnxruntime']}, "
        f"distributed {distributed_version()}, numpy {facts['numpy']}, Pillow {facts['pillow']}.",
        f"- What is compared takes turns; medians over {rounds} rounds. The machine's load "
        f"average was {load:.1f} before: of 2 or more, others were using it, and a ratio tells "
        "something only beside the machine's own limit.",
    ]
    return "\n".join([*head, *(line for part in parts for line in ("", *part))]) + "\n"


def distributed_version() -> str:
    """Dask's."""
    import distributed

    return str(distributed.__version__)


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """An empty cache folder, for this process and those it starts."""
    before = os.environ.get("QUANTLAB_CACHE")
    os.environ["QUANTLAB_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("QUANTLAB_CACHE")
        if before is not None:
            os.environ["QUANTLAB_CACHE"] = before


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs everything and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("reports/scale.md"))
    given = parser.parse_args(arguments)
    if "QUANTLAB_DATA" not in os.environ:
        parser.error("set QUANTLAB_DATA to the folder with models/ and imagenet/")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="quantlab-scale-") as name:
        work = Path(name)
        with own_cache(work / "cache"):
            text = report(Place(Path(os.environ["QUANTLAB_DATA"]).resolve(), work), given.rounds)
    write_whole(given.out, text)
    say(f"{given.out} written after {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
