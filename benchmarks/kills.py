"""A service under fire: server and workers are killed, and every job ends once, as if nothing was.

    python benchmarks/kills.py [--kills 50] [--jobs 20] [--workers 1] [--seed 0] [--db URL]
        [--out reports/kills.md]

A server and workers of their own (``quantlab serve``, ``quantlab worker``) are killed with SIGKILL
at random moments and started again at once, while a client submits jobs over HTTP with idempotency
keys, again and again until it has an answer. What must come out are the results of a service that
nobody disturbed. ``--db``: an empty PostgreSQL database instead of SQLite.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import yaml

from quantlab._util.cache import ABANDONED
from quantlab._util.files import write_whole
from quantlab.runs.index import Filter, Index
from quantlab.runtime.environment import environment
from quantlab.serve.datasets import add_dataset
from quantlab.serve.queue import OPEN, Job
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings, load_settings
from quantlab.serve.worker import PLACE
from quantlab.testing.images import image_folder
from quantlab.testing.models import tiny_classifier

CLASSES, PER_CLASS = 4, 4
LEASE, LOSSES = 2, 1000
DEADLINE = 1200.0
"""Seconds after which a storm is given up."""
TUNE = {
    "strategy": "random",
    "max_trials": 12,
    "calibration_size": 4,
    "criterion": "agreement >= 60%",
}
KINDS: tuple[dict[str, Any], ...] = (
    {"verb": "evaluate", "model": "net"},
    {"verb": "quantize", "model": "net", "seed": 1},
    {"verb": "tune", "model": "net", **TUNE, "no_bench": True},
    {"verb": "evaluate", "model": "other"},
    {"verb": "quantize", "model": "other"},
    {"verb": "tune", "model": "other", **TUNE, "no_bench": True, "seed": 1},
)
"""The requests, in turns; ``data`` and ``threads`` are the same for all."""
MOST_EARLY = 3
"""A tune's first attempts are killed after they have finished a trial, later ones at any time."""
ORT_OWN = ".ses"
"""ONNX Runtime writes this file into the temporary folder as soon as it is imported."""


@dataclass
class Scene:
    """A service's home, the images, and the processes' temporary folder."""

    root: Path
    jobs: int
    workers: int = 1
    seed: int = 0
    db: str | None = None

    @property
    def config(self) -> Path:
        """The service's settings."""
        return self.root / "settings.yaml"

    @property
    def temporary(self) -> Path:
        """TMPDIR's."""
        return self.root / "tmp"

    def settings(self) -> Settings:
        """As the processes read them."""
        return load_settings(self.config)

    def requests(self) -> list[dict[str, Any]]:
        """One a job."""
        same = {"data": "val", "threads": 1}
        return [{**KINDS[i % len(KINDS)], **same} for i in range(self.jobs)]


@dataclass
class Seen:
    """What was seen of the service from outside. ``ended`` are jobs as they were when first seen
    ended, ``trials`` the finished ones in the store by job and recipe."""

    ids: dict[int, set[str]] = field(default_factory=dict)
    ended: dict[str, Job] = field(default_factory=dict)
    trials: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    strays: list[int] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    codes: list[int] = field(default_factory=list)
    seconds: float = 0.0


def build(scene: Scene) -> None:
    """The settings, two models and images."""
    scene.temporary.mkdir(parents=True)
    values: dict[str, Any] = {"home": str(scene.root / "home"), "lease": LEASE, "losses": LOSSES}
    values |= {"machine": "here"} | ({"db": scene.db} if scene.db else {})
    scene.config.write_text(yaml.safe_dump(values))
    image_folder(scene.root / "images", CLASSES, PER_CLASS)
    with Service.open(scene.settings()) as service:
        for seed, name in enumerate(("net", "other")):
            file = tiny_classifier(scene.root / f"{name}.onnx", classes=CLASSES, seed=seed)
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            service.objects.put(f"models/{sha256}", file)
            service.catalog.add_model(sha256, name, file.stat().st_size, {})
        add_dataset(service.catalog, "val", scene.root / "images")


class Process:
    """A command of quantlab that is started again when it was killed."""

    def __init__(self, scene: Scene, *words: str) -> None:
        self.verb, self._words, self._scene = words[0], words, scene
        handle, name = tempfile.mkstemp(prefix=words[0], suffix=".log", dir=scene.root)
        self._log, self._path = os.fdopen(handle, "ab"), Path(name)
        self.start()

    def start(self) -> None:
        """Again."""
        self._before = self._path.stat().st_size
        self.running = subprocess.Popen(
            [sys.executable, "-m", "quantlab", *self._words, "--config", str(self._scene.config)],
            env={**os.environ, "TMPDIR": str(self._scene.temporary)},
            stdout=self._log,
            stderr=self._log,
        )

    def kill(self) -> list[int]:
        """With SIGKILL; what it had started that is there a minute later."""
        with suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.running.pid).children(recursive=True)
            self.running.kill()
            self.running.wait()
            return [process.pid for process in family if not _gone(process)]
        return []

    def stop(self) -> int:
        """With SIGTERM, once it works; the exit code."""
        try:
            while self.running.poll() is None and not self._ready():
                time.sleep(0.05)
            self.running.terminate()
            return self.running.wait(600)
        finally:
            self.running.kill()
            self.running.wait()
            self._log.close()

    def _ready(self) -> bool:
        said = self._path.read_bytes()[self._before :]
        return b"Serving http" in said or b"Working as" in said


def _gone(process: psutil.Process) -> bool:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@contextmanager
def processes(scene: Scene) -> Iterator[tuple[Process, list[Process], str, list[int]]]:
    """A server, workers, the server's URL, and in the end their exit codes after SIGTERM."""
    port = _free_port()
    codes: list[int] = []
    with ExitStack() as stack:

        def started(*words: str) -> Process:
            process = Process(scene, *words)
            stack.callback(lambda: codes.append(process.stop()))
            return process

        server = started("serve", "--port", str(port), "--no-worker")
        workers = [started("worker") for _ in range(scene.workers)]
        yield server, workers, f"http://127.0.0.1:{port}/api/v1", codes


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def submit_all(scene: Scene, url: str, seen: Seen, over: threading.Event) -> None:
    """Each request until there is an answer; then all of them again."""
    for _ in range(2):
        for number, request in enumerate(scene.requests()):
            while not over.is_set():
                answer = _post(f"{url}/jobs", request, f"key-{number}", seen)
                if answer is not None:
                    seen.ids.setdefault(number, set()).add(str(answer["id"]))
                    break
                time.sleep(0.1)


def _post(url: str, body: dict[str, Any], key: str, seen: Seen) -> dict[str, Any] | None:
    """The job, None where the server did not answer or could not."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(asked, timeout=600) as answer:
            seen.answers[str(answer.status)] += 1
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        seen.answers[str(error.code)] += 1
        if error.code in (429, 503):
            return None
        raise
    except (OSError, ValueError):  # there is no server, or it was killed as it answered
        seen.answers["none"] += 1
        return None


def look(service: Service, seen: Seen) -> list[Job]:
    """All jobs as they are now; what there is to remember of them is."""
    jobs = service.queue.recent(limit=1000)
    for job in jobs:
        if job.ended:
            seen.ended.setdefault(job.id, job)
        if job.verb == "tune":
            for digest, content in finished_trials(service, f"jobs/{job.id}").items():
                seen.trials.setdefault((job.id, digest), set()).update(content)
    return jobs


def finished_trials(service: Service, folder: str) -> dict[str, set[str]]:
    """By recipe, the hashes of the finished trials' records below a folder of the store."""
    found: dict[str, set[str]] = {}
    place = service.objects.local(folder)
    for path in sorted(place.rglob("trials/*.json")) if place and place.is_dir() else ():
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            if json.loads(content)["status"] != "scored":
                found.setdefault(path.stem, set()).add(hashlib.sha256(content).hexdigest())
    return found


def storm(scene: Scene, kills: int) -> Seen:
    """So many kills while jobs are submitted and done, then peace until all have ended."""
    rng, seen, over = random.Random(scene.seed), Seen(), threading.Event()
    start = time.monotonic()
    with Service.open(scene.settings()) as service:
        with processes(scene) as (server, workers, url, codes):
            client = threading.Thread(target=submit_all, args=(scene, url, seen, over))
            client.start()
            try:
                for number in range(kills):
                    victim = server if number % 2 else rng.choice(workers)
                    while not _works(victim, url, look(service, seen), scene):
                        assert time.monotonic() < start + DEADLINE, look(service, seen)
                        time.sleep(0.1)
                    most = 0.5 if victim is server else 5 / scene.workers
                    until = time.monotonic() + rng.uniform(0, most)
                    while time.monotonic() < until or _early(service, victim):
                        look(service, seen)
                        time.sleep(0.1)
                    seen.strays += victim.kill()
                    victim.start()
                    seen.kills[victim.verb] += 1
                while client.is_alive() or not _all_ended(look(service, seen), scene):
                    assert time.monotonic() < start + DEADLINE, look(service, seen)
                    time.sleep(0.2)
            finally:
                over.set()
                client.join()
        seen.codes = codes
    seen.seconds = time.monotonic() - start
    return seen


def _works(process: Process, url: str, jobs: Sequence[Job], scene: Scene) -> bool:
    """Whether the server answers, or the worker has a job or nothing to do any more: then there is
    something to disturb."""
    if process.verb == "serve":
        health = f"{url}/health"
        with suppress(OSError), urllib.request.urlopen(health, timeout=60) as answer:
            return bool(answer.status == 200)
        return False
    return _all_ended(jobs, scene) or _job_of(process, jobs) is not None


def _early(service: Service, process: Process) -> bool:
    """Whether a worker is at a tune of which it has finished nothing: to kill it would prove
    little."""
    job = _job_of(process, service.queue.recent(states=["running"]))
    if job is None or job.verb != "tune" or job.attempts > MOST_EARLY:
        return False
    before = finished_trials(service, f"jobs/{job.id}/{job.attempts - 1}")
    return finished_trials(service, f"jobs/{job.id}/{job.attempts}").keys() <= before.keys()


def _job_of(process: Process, jobs: Sequence[Job]) -> Job | None:
    mine = f"here-{process.running.pid}-"
    running = (job for job in jobs if job.state == "running")
    return next((job for job in running if str(job.worker).startswith(mine)), None)


def _all_ended(jobs: Sequence[Job], scene: Scene) -> bool:
    return len(jobs) >= scene.jobs and all(job.ended for job in jobs)


def undisturbed(root: Path, jobs: int) -> list[dict[str, Any]]:
    """The results of as many jobs, each request asked once, of a service that nobody disturbs."""
    scene = Scene(root, jobs)
    build(scene)
    with Service.open(scene.settings()) as service, processes(scene) as (_, _, url, _):
        calm = replace(scene, jobs=min(scene.jobs, len(KINDS)))
        submit_all(calm, url, Seen(), threading.Event())
        while not _all_ended(jobs := service.queue.recent(limit=1000), calm):
            time.sleep(0.2)
        found = [result(service, job) for job in sorted(jobs, key=lambda job: job.number)]
    return [found[i % len(found)] for i in range(scene.jobs)]


def result(service: Service, job: Job) -> dict[str, Any]:
    """What a job came to, without times and what chance decides."""
    record = json.loads(_content(service, job, f"runs/{job.run}/run.json"))["results"]
    trials = {
        digest: (trial["sha256"], trial["scores"])
        for name in job.files
        if "/trials/" in name and name.endswith(".json")
        for digest, trial in [(name, json.loads(_content(service, job, name)))]
    }
    return {
        "state": job.state,
        "exit_code": job.exit_code,
        "error": job.error,
        "accuracy": record.get("accuracy"),
        "int8": {
            name: hashlib.sha256(_content(service, job, name)).hexdigest()
            for name in job.files
            if name.endswith(".onnx") and "/" not in name
        },
        "trials": {name.rpartition("/")[2]: found for name, found in trials.items()},
        "files": sorted(name.replace(str(job.run), "RUN") for name in job.files),
    }


def _content(service: Service, job: Job, name: str) -> bytes:
    with service.objects.open(f"{job.folder}/{name}") as file:
        return file.read()


def checks(scene: Scene, seen: Seen, calm: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """What must hold in the end."""
    _age_parts(scene)
    seen.codes.append(Process(scene, "worker").stop())
    with Service.open(scene.settings()) as service:
        jobs = service.queue.recent(limit=1000)
        of_key = {number: service.queue.get(min(ids)) for number, ids in seen.ids.items()}
        store = Path(scene.settings().store_url)
        kept = {f"{job.id}/{job.attempts}" for job in jobs}
        there = {f"{p.parent.name}/{p.name}" for p in (store / "jobs").glob("*/*")}
        with Index(service.settings.db_url, PLACE) as index:
            runs = sorted(listed.entry.folder for listed in index.entries(Filter()))
        return {
            "every accepted job exists once, whatever was submitted again": (
                len(jobs) == scene.jobs == len(of_key)
                and all(len(ids) == 1 for ids in seen.ids.values())
                and {job.id for job in of_key.values()} == {job.id for job in jobs}
            ),
            "every job has ended": not any(job.state in OPEN for job in jobs),
            "what had ended did not change any more": all(
                seen.ended[job.id] == job for job in jobs
            ),
            "every job has the result of the undisturbed service": all(
                result(service, job) == calm[number] for number, job in of_key.items()
            ),
            "no finished trial of a tune was made twice": all(
                len(contents) == 1 for contents in seen.trials.values()
            ),
            "the history has every job's run once, and no other": (
                runs == sorted(str(job.run) for job in jobs)
            ),
            "no process outlived its worker": not (seen.strays or left_processes(scene)),
            "of every job the store has the attempt that counts, and nothing else": kept == there,
            "no temporary file or folder is left": not left_files(scene),
            "server and workers end by SIGTERM with exit code 0": set(seen.codes) == {0},
        }


def _age_parts(scene: Scene) -> None:
    """As if a day had gone by: then the next worker removes what nobody writes any more."""
    for path in Path(scene.settings().store_url).rglob(".*.part"):
        os.utime(path, (time.time() - 2 * ABANDONED,) * 2)


def left_processes(scene: Scene) -> list[int]:
    """Processes that still have the scene's temporary folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR", "").startswith(str(scene.root)):
                found.append(process.pid)
    return found


def left_files(scene: Scene) -> list[str]:
    """What lies in temporary and working folders, and unfinished files."""
    settings = scene.settings()
    parts = [*Path(settings.store_url).rglob(".*.part")]
    work = [path for path in settings.work.iterdir() if path.name != "starting"]
    there = [path for path in scene.temporary.iterdir() if path.name != ORT_OWN]
    return [str(path) for path in (*there, *work, *parts)]


def judged(
    scene: Scene, kills: int, calm: Sequence[dict[str, Any]]
) -> tuple[dict[str, bool], Seen, list[Job]]:
    """The storm, and what must hold of it."""
    build(scene)
    seen = storm(scene, kills)
    found = checks(scene, seen, calm)
    with Service.open(scene.settings()) as service:
        return found, seen, service.queue.recent(limit=1000)


def report(scene: Scene, found: dict[str, bool], seen: Seen, jobs: Sequence[Job]) -> str:
    """The page."""
    facts = environment()
    verbs = Counter(job.verb for job in jobs)
    unanswered = seen.answers["none"] + seen.answers["503"]
    rows = [
        ("jobs", f"{len(jobs)} ({', '.join(f'{n} {verb}' for verb, n in sorted(verbs.items()))})"),
        ("server killed (SIGKILL)", seen.kills["serve"]),
        ("workers killed (SIGKILL)", seen.kills["worker"]),
        ("submissions answered", seen.answers["202"] + seen.answers["200"]),
        ("submissions that got no answer and were repeated", unanswered),
        ("attempts at jobs", sum(job.attempts for job in jobs)),
        ("most attempts at one job", max(job.attempts for job in jobs)),
        ("finished trials seen", len(seen.trials)),
        ("seconds", round(seen.seconds)),
    ]
    kills, database = sum(seen.kills.values()), "PostgreSQL" if scene.db else "SQLite"
    return "\n".join(
        [
            f"## {database}, {scene.workers} worker{'s' if scene.workers > 1 else ''}",
            "",
            f"Written by `benchmarks/kills.py --kills {kills} --jobs {len(jobs)} "
            f"--workers {scene.workers} --seed {scene.seed}{' --db …' if scene.db else ''}`.",
            "",
            f"- Machine: {facts['cpu']} ({facts['isa']}), {facts['logical_cores']} logical cores, "
            "shared with other work.",
            f"- A lease is {LEASE} s; a killed process is started again at once.",
            f"- Models of a few thousand weights on {CLASSES * PER_CLASS} images.",
            "",
            "| what | figure |",
            "|---|--:|",
            *(f"| {name} | {value} |" for name, value in rows),
            "",
            "| what must hold | holds |",
            "|---|---|",
            *(f"| {name} | {'yes' if holds else '**no**'} |" for name, holds in found.items()),
            "",
        ]
    )


def main() -> int:
    """Exit code 1 when something that must hold does not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--db")
    parser.add_argument("--out", type=Path, default=Path("reports/kills.md"))
    parser.add_argument("--add", action="store_true", help="to the page, in place of a new one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quantlab-kills-") as place:
        calm = undisturbed(Path(place) / "calm", options.jobs)
        scene = Scene(
            Path(place) / "storm", options.jobs, options.workers, options.seed, options.db
        )
        found, seen, jobs = judged(scene, options.kills, calm)
    page = report(scene, found, seen, jobs)
    before = options.out.read_text() if options.add else "# Kills: a service under fire\n"
    write_whole(options.out, f"{before}\n{page}")
    print(page)
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
