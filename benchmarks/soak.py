"""A tune under fire: nothing that was finished is lost, nothing is left behind.

    python benchmarks/soak.py [--trials 200] [--seed 0] [--kills 12] [--full 8]
        [--out reports/soak.md]

``quantlab tune`` tries recipes of an engine that crashes, exits or hangs for a quarter of them. The
tune itself is killed at random moments and finds its disks full at others; each time it goes on
with ``--resume``. What must come out is an undisturbed tune with the same seed, its engine in the
process and without faults. Disks are small tmpfs in a mount namespace of their own (``unshare``);
where the system grants none, they are folders and never full.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
import yaml
from soak_engine import CALLS, FAULTS, SEED, SHARE, fault_of

from quantlab._util.files import write_whole
from quantlab.runs.record import load_record
from quantlab.runtime.environment import environment
from quantlab.testing.images import image_folder
from quantlab.testing.models import tiny_classifier
from quantlab.tune.trial_store import TrialStore
from quantlab.tune.trials import Trial, best

HERE = Path(__file__).resolve().parent
MARK = "QUANTLAB_SOAK"
FAULTY = 0.25
"""The share of recipes for which the engine fails."""
ORT_OWN = ".ses"
"""ONNX Runtime writes this file into the temporary folder as soon as it is imported."""
DISK, BLOCK = 64 << 20, 4096
PIPELINE = (
    "resizer: pillow-bilinear\nresize: 36\ncrop: 32\nmean: [127, 127, 127]\nstd: [64, 64, 64]\n"
)
IN_PROCESS = (
    "import soak_engine, quantlab.verbs.quantize as w, quantlab.cli as c;"
    "w.get_engine = lambda name: soak_engine.SoakEngine(); c.main()"
)
Mishap = Literal["none", "kill", "full run disk", "full temporary disk"]


@dataclass
class Session:
    """One process of the tune: what befell it, how it ended, and the RSS (bytes) by trials done."""

    mishap: Mishap
    code: int = 0
    said: str = ""
    calls: list[str] = field(default_factory=list)
    rss: list[tuple[int, int]] = field(default_factory=list)

    @property
    def expected(self) -> bool:
        """Whether it ended as it should: killed, done, or in two lines about the disk."""
        if self.mishap == "none" or self.code == 0:
            return self.code == 0
        if self.mishap == "kill":
            return self.code == -9
        lines = self.said.strip().splitlines()
        return self.code == 2 and len(lines) <= 2 and "full" in lines[0]


@dataclass(frozen=True)
class Scene:
    """Where it all lies; ``runs`` and ``temporary`` are the disks that get full. An engine that
    takes longer than ``deadline`` seconds hangs."""

    root: Path
    trials: int
    seed: int
    deadline: int

    @property
    def runs(self) -> Path:
        """The disk of the run folder and of the output."""
        return self.root / "runs"

    @property
    def temporary(self) -> Path:
        """TMPDIR's."""
        return self.root / "tmp"

    @property
    def run(self) -> Path | None:
        """The run folder, once it is there."""
        return next((path.parent for path in self.runs.glob("*/run.json")), None)

    def finished(self) -> dict[str, Trial]:
        """The run's trials that need nothing more, by recipe."""
        found = TrialStore(self.run).trials() if self.run else []
        return {t.digest: t for t in found if t.status != "scored"}

    def environment(self, share: float) -> dict[str, str]:
        """Of the tune's process and its children."""
        return {
            **os.environ,
            MARK: str(self.root),
            SEED: str(self.seed),
            SHARE: str(share),
            CALLS: str(self.root / "calls"),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": os.pathsep.join([str(self.root / "site"), str(HERE)]),
            "QUANTLAB_ENGINE_TIMEOUT": f"{self.deadline}s",
            "QUANTLAB_CACHE": str(self.root / f"cache-{share}"),
        }

    def fresh(self, runs: Path) -> list[str]:
        """The tune's options when it starts."""
        return [
            *("--config", str(self.root / "soak.yaml"), "--model", str(self.root / "m.onnx")),
            *("--data", str(self.root / "images"), "--pipeline", str(self.root / "p.yaml")),
            *("--strategy", "random", "--engine", "soak", "--seed", str(self.seed), "--no-bench"),
            *("--criterion", "agreement >= 60%", "--threads", "1", "--budget", "3h"),
            *("--output", str(runs / "out.onnx"), "--runs-dir", str(runs)),
        ]


def build(scene: Scene) -> None:
    """The model, the images, a search space of that many recipes, and the engine's package."""
    root = scene.root
    for name in ("runs", "tmp", "whole", "site/soak-1.0.dist-info"):
        (root / name).mkdir(parents=True)
    tiny_classifier(root / "m.onnx", classes=4)
    image_folder(root / "images", 4, 12)
    (root / "p.yaml").write_text(PIPELINE)
    half = -(-scene.trials // 2)
    percentiles = [round(80 + 20 * (i + 1) / half, 3) for i in range(half)]
    fixed = {"format": ["qdq"], "ranges": ["percentile"], "equalize": [False]}
    fixed |= {"rounding": ["nearest"], "bias_correction": [False]}
    space = {**fixed, "percentile": percentiles, "per_channel": [True, False]}
    (root / "soak.yaml").write_text(yaml.safe_dump({"search": space}))
    info = root / "site" / "soak-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: soak\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[quantlab.engines]\nsoak = soak_engine:SoakEngine\n")


def undisturbed(scene: Scene) -> tuple[dict[str, Trial], Session]:
    """All trials, when nothing goes wrong."""
    runs, session = scene.root / "whole", Session("none")
    command = [sys.executable, "-c", IN_PROCESS, "tune", "--quiet", *scene.fresh(runs)]
    process = subprocess.Popen(command, env=scene.environment(0), stdout=subprocess.DEVNULL)
    while process.poll() is None:
        _sample(session, process.pid, len(list(runs.glob("*/trials/*.json"))))
        time.sleep(0.05)
    (folder,) = (path.parent for path in runs.glob("*/run.json"))
    return {t.digest: t for t in TrialStore(folder).trials()}, session


def soak(scene: Scene, mishaps: Sequence[Mishap]) -> Iterator[Session]:
    """Sessions of the tune, one mishap each, and a last one without."""
    rng = random.Random(scene.seed)
    for mishap in (*mishaps, "none"):
        progress = rng.randrange(1 + 17 * scene.trials // (10 * len(mishaps) + 10))
        yield _session(scene, mishap, progress, rng)


def _session(scene: Scene, mishap: Mishap, progress: int, rng: random.Random) -> Session:
    """The mishap comes after that many new trials and up to two seconds."""
    session, calls = Session(mishap), scene.root / "calls"
    full = {"full run disk": scene.runs, "full temporary disk": scene.temporary}
    calls.write_text("")
    options = ["--resume", str(scene.run)] if scene.run else scene.fresh(scene.runs)
    before, pause = _count(scene), rng.uniform(0, 2)
    with (scene.root / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "quantlab", "tune", "--quiet", *options],
            env=scene.environment(FAULTY),
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        while process.poll() is None:
            _sample(session, process.pid, _count(scene) - before)
            if mishap != "none" and scene.run and _count(scene) - before >= progress:
                time.sleep(pause)
                break
            time.sleep(0.05)
        if mishap == "kill":
            process.kill()
        elif mishap in full:
            _keep_full(process, full[mishap], rng.randrange(8) * BLOCK)
        session.code = process.wait()
        log.seek(0)
        session.said = log.read()
    session.calls = calls.read_text().split()
    return session


def _count(scene: Scene) -> int:
    return len(list(scene.run.glob("trials/*.json"))) if scene.run else 0


def _sample(session: Session, pid: int, trials: int) -> None:
    with suppress(psutil.Error):
        session.rss.append((trials, psutil.Process(pid).memory_info().rss))


def _keep_full(process: subprocess.Popen[bytes], disk: Path, spare: int) -> None:
    """Leaves the process that many bytes, until it ends; what it frees is taken at once."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while process.poll() is None:
            blocks = (shutil.disk_usage(disk).free - spare) // BLOCK
            with suppress(OSError):
                for _ in range(blocks):
                    file.write(bytes(BLOCK))
            time.sleep(0.02)
    ballast.unlink()


def checks(
    scene: Scene, sessions: Sequence[Session], whole: dict[str, Trial], known: Sequence[set[str]]
) -> dict[str, bool]:
    """What must hold in the end; ``known`` are the trials finished before each session."""
    ended, run = scene.finished(), scene.run
    assert run is not None
    failed = {d for d, t in ended.items() if t.status == "failed"}
    sound = {d: t for d, t in whole.items() if d not in failed}
    store, leader = TrialStore(run), best(list(ended.values()))
    expected = best(list(sound.values()))
    assert leader is not None
    assert expected is not None
    output = hashlib.sha256((scene.runs / "out.onnx").read_bytes()).hexdigest()
    return {
        "every recipe of the space has one finished trial": ended.keys() == whole.keys(),
        "what failed is what the engine was told to fail, with its reason in two lines at most": (
            all(_as_told(scene, trial) for trial in ended.values())
        ),
        "no finished trial ran or changed again": not any(
            done & set(session.calls) for done, session in zip(known, sessions, strict=True)
        ),
        "every other trial has the file and the scores of the undisturbed run": all(
            (ended[d].sha256, ended[d].scores) == (t.sha256, t.scores) for d, t in sound.items()
        ),
        "the best is that of the undisturbed run without what failed": (
            leader.digest == expected.digest and output == expected.sha256
        ),
        "every file is on disk under its own hash": all(
            t.sha256 and _hash(store.model_path(t.sha256)) == t.sha256
            for t in ended.values()
            if t.status != "failed"
        ),
        "every session ended as it should, without a traceback": all(
            session.expected and "Traceback" not in session.said for session in sessions
        ),
        "the run's record says success": load_record(run).status == "success",
        "no process is left": not left_processes(scene),
        "no temporary file is left": not left_files(scene),
    }


def _as_told(scene: Scene, trial: Trial) -> bool:
    fault, error = fault_of(trial.digest, scene.seed, FAULTY), trial.error or ""
    if fault is None or trial.status != "failed":
        return fault is None and trial.status != "failed"
    return FAULTS[fault] in error and len(error.splitlines()) <= 2


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left_processes(scene: Scene) -> list[int]:
    """Processes of the soak that run two seconds after its end, besides this one."""
    end = time.monotonic() + 2
    while found := [p.pid for p in psutil.process_iter() if _is_ours(p, scene)]:
        if time.monotonic() > end:
            return found
        time.sleep(0.1)
    return []


def _is_ours(process: psutil.Process, scene: Scene) -> bool:
    with suppress(psutil.Error):
        return process.environ().get(MARK) == str(scene.root)
    return False


def left_files(scene: Scene) -> list[str]:
    """What lies in the temporary folder, and unfinished files beside finished ones."""
    parts = [path for path in scene.runs.rglob("*") if path.suffix == ".part"]
    there = [path for path in scene.temporary.iterdir() if path.name != ORT_OWN]
    return [str(path) for path in (*there, *parts)]


def growth(session: Session) -> str:
    """The RSS after the first trial, in the middle and at the end (MiB)."""
    working = [rss for trials, rss in session.rss if trials > 0 and rss > 0]
    return ", ".join(str(working[i] >> 20) for i in (0, len(working) // 2, -1))


def report(
    scene: Scene,
    calm: Session,
    sessions: Sequence[Session],
    found: dict[str, bool],
    seconds: float,
) -> str:
    """The page."""
    ended = scene.finished().values()
    faults = Counter(fault_of(t.digest, scene.seed, FAULTY) for t in ended if t.status == "failed")
    mishaps = Counter(s.mishap for s in sessions if s.code != 0)
    peak = max(rss for session in sessions for _, rss in session.rss)
    facts = environment()
    rows = [
        ("trials", len(ended)),
        ("evaluated to the end", sum(t.status == "done" for t in ended)),
        (
            "stopped early, proven not to meet the criterion",
            sum(t.status == "stopped" for t in ended),
        ),
        *(
            (f"failed: the engine's {fault}", count)
            for fault, count in sorted(faults.items(), key=str)
        ),
        ("tune killed (SIGKILL) and resumed", mishaps["kill"]),
        ("run folder's disk full, resumed", mishaps["full run disk"]),
        ("temporary disk full, resumed", mishaps["full temporary disk"]),
        ("engine calls, those cut short included", sum(len(s.calls) for s in sessions)),
        ("seconds", round(seconds)),
        ("RSS of the undisturbed run after 1 trial, midway, at its end (MiB)", growth(calm)),
        ("highest RSS of all sessions (MiB)", peak >> 20),
        ("processes left", len(left_processes(scene))),
        ("temporary files left", len(left_files(scene))),
    ]
    return "\n".join(
        [
            "# Soak: a tune under fire",
            "",
            f"Written by `benchmarks/soak.py --trials {scene.trials} --seed {scene.seed}`.",
            "",
            f"- Machine: {facts['cpu']} ({facts['isa']}), {facts['logical_cores']} logical cores, "
            "shared with other work.",
            f"- The engine, of another package, fails for {FAULTY:.0%} of the recipes.",
            f"- Its deadline is {scene.deadline} s.",
            "- The undisturbed run has the same seed, its engine in the process and no faults.",
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


@contextmanager
def disks(scene: Scene) -> Iterator[bool]:
    """The scene's disks, mounted where that is possible: says whether they can get full."""
    mounted: list[Path] = []
    try:
        if os.environ.get(MARK):
            for disk in (scene.runs, scene.temporary):
                kind = ["-t", "tmpfs", "-o", f"size={DISK}", "soak"]
                subprocess.run(["mount", *kind, str(disk)], check=True)
                mounted.append(disk)
        yield bool(mounted)
    finally:
        for disk in mounted:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


def enter_namespace() -> None:
    """Start again in a mount namespace, where there is one to be had."""
    unshare = shutil.which("unshare")
    if os.environ.get(MARK) or not unshare:
        return
    if subprocess.run([unshare, "-Urm", "true"], capture_output=True).returncode == 0:
        os.environ[MARK] = "inside"
        os.execv(unshare, [unshare, "-Urm", sys.executable, *sys.argv])


def planned(kills: int, full: int, seed: int) -> list[Mishap]:
    """So many mishaps in random order."""
    counts: dict[Mishap, int] = {
        "kill": kills,
        "full run disk": -(-full // 2),
        "full temporary disk": full // 2,
    }
    mishaps = [mishap for mishap, count in counts.items() for _ in range(count)]
    random.Random(seed).shuffle(mishaps)
    return mishaps


def judged(scene: Scene, mishaps: Sequence[Mishap]) -> tuple[dict[str, bool], str]:
    """The soak, what must hold of it, and the page."""
    (whole, calm), start = undisturbed(scene), time.monotonic()
    sessions: list[Session] = []
    known: list[set[str]] = [set()]
    for session in soak(scene, mishaps):
        sessions.append(session)
        known.append(set(scene.finished()))
        print(f"{session.mishap}: exit code {session.code}, {len(known[-1])} trials", flush=True)
        if not session.expected:
            print(session.said, flush=True)
    found = checks(scene, sessions, whole, known[:-1])
    return found, report(scene, calm, sessions, found, time.monotonic() - start)


def main() -> int:
    """Exit code 1 when something that must hold does not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--full", type=int, default=8)
    parser.add_argument("--deadline", type=int, default=8, help="seconds (default: 8)")
    parser.add_argument("--out", type=Path, default=Path("reports/soak.md"))
    options = parser.parse_args()
    enter_namespace()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        scene = Scene(Path(folder), options.trials, options.seed, options.deadline)
        build(scene)
        with disks(scene) as bounded:
            mishaps = planned(options.kills, options.full if bounded else 0, options.seed)
            found, text = judged(scene, mishaps)
    write_whole(options.out, text)
    print(text)
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
