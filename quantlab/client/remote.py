"""Run a verb on a server, with the same options, messages, files and exit code as here."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from quantlab._util.reporter import Advance, Reporter
from quantlab.client.api import Api
from quantlab.errors import OutputError, QuantlabError

RUNS = "runs"
_ENDED_OUTSIDE = ("models/", "trials/", "study.db")
"""Of a run folder, what only a tune that goes on needs."""
_OWN_LINES = ("Run: ", "Repeat: ")


@dataclass(frozen=True)
class Remote:
    """The result of a verb that a server ran. ``out`` is what the verb prints."""

    state: str
    exit_code: int
    out: str
    run: Path | None
    files: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Targets:
    """Local destinations of results: the runs folder, and the verb's other files by their names
    there."""

    runs_dir: Path
    files: Mapping[str, Path]
    output: Path | None = None


def stored_model(api: Api, name: str, reporter: Reporter) -> str:
    """The sha256 of a model file that is here, uploaded where the server lacks it; else the name of
    one that is there."""
    path = Path(name)
    if not path.exists():
        if path.parent != Path():
            raise QuantlabError(f"{path}: no such file.")
        return name.removesuffix(".onnx")
    with reporter.progress(f"Uploading {path.name}", path.stat().st_size) as advance:
        model = api.upload(path, lambda done, total: advance(done, "bytes"))
    return str(model["sha256"])


def stored_recipe(api: Api, name: str) -> str:
    """The name of a recipe on the server; a file that is here is sent there."""
    path = Path(name)
    if not path.is_file():
        return name
    text = path.read_text(encoding="utf-8")
    kept = f"{path.stem[:80]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    api.put_recipe(kept, text)
    return kept


def run_there(api: Api, request: Mapping[str, Any], targets: Targets, reporter: Reporter) -> Remote:
    """Submit a job, show its messages, download its files. Ctrl-C cancels it on the server, and the
    files it has by then are downloaded.

    Raises QuantlabError with the words of a job that failed.
    """
    job = api.submit(request, secrets.token_hex(16))
    try:
        ended = _follow_events(api, job["id"], targets, reporter)
    except KeyboardInterrupt:
        reporter.say("Cancelling on the server; Ctrl-C again leaves it alone.")
        api.cancel(job["id"])
        ended = _follow_events(api, job["id"], targets, reporter)
    files = dict(_fetched(api, ended, targets))
    if ended["state"] == "failed":
        problem, _, remedy = str(ended["error"]).partition("\n")
        raise QuantlabError(problem, remedy)
    if ended["state"] == "cancelled" and not ended["run"]:
        raise KeyboardInterrupt
    return Remote(
        state=ended["state"],
        exit_code=130 if ended["state"] == "cancelled" else ended["exit_code"],
        out=_printed(ended, targets),
        run=targets.runs_dir / ended["run"] if ended["run"] else None,
        files=files,
    )


def _follow_events(api: Api, job: str, targets: Targets, reporter: Reporter) -> dict[str, Any]:
    """Follow the job's events to its end; returns the job."""
    with _bars(reporter) as show:
        for kind, facts in api.events(job):
            if kind == "end":
                return facts
            if kind == "progress":
                show(facts)
            elif kind == "warn":
                reporter.warn(facts["text"])
            elif not facts["text"].startswith(_OWN_LINES):
                reporter.say(_local(facts["text"], targets))
    raise QuantlabError(f"the server ended the events of the job {job} too early.", "Ask it again.")


@contextmanager
def _bars(reporter: Reporter) -> Iterator[Any]:
    """A function that shows progress events as bars, one at a time."""
    with ExitStack() as stack:
        open_bars: dict[tuple[str, int], Advance] = {}

        def show(facts: Mapping[str, Any]) -> None:
            mark = (facts["label"], facts["total"])
            if mark not in open_bars or facts["done"] is None:
                stack.close()
                open_bars.clear()
            if facts["done"] is not None:
                if mark not in open_bars:
                    open_bars[mark] = stack.enter_context(reporter.progress(*mark))
                open_bars[mark](facts["done"], facts["note"])

        yield show


def _fetched(api: Api, job: Mapping[str, Any], targets: Targets) -> Iterator[tuple[str, Path]]:
    """Download the wanted files of a job. Raises OutputError for a run that exists here already."""
    run = targets.runs_dir / str(job["run"])
    if job["run"] and run.exists():
        raise OutputError(f"{run} is there already.", "Give another --runs-dir.")
    for name in (file["path"] for file in job["files"]):
        target = _target(name, job["run"], targets)
        if target is not None:
            api.download(job["id"], name, target)
            yield name, target


def _target(name: str, run: str | None, targets: Targets) -> Path | None:
    """The local path for a file of the job; None for one that was not asked for."""
    parts = PurePosixPath(name).parts
    if ".." in parts or name.startswith("/"):
        return None
    if parts[0] == RUNS:
        inside = "/".join(parts[2:])
        if parts[1:2] != (run,):
            return None
        return None if inside.startswith(_ENDED_OUTSIDE) else targets.runs_dir.joinpath(*parts[1:])
    if name.endswith(".onnx") and len(parts) == 1:
        return targets.output
    return targets.files.get(name)


def _local(text: str, targets: Targets) -> str:
    """The job's messages, with the local path of its int8 file."""
    output = targets.output
    if output is None or output.parent == Path():
        return text
    return text.replace(output.name, str(output))


def _printed(job: Mapping[str, Any], targets: Targets) -> str:
    """The job's output, with the local paths of its files."""
    text = _local(str(job["out"] or ""), targets)
    if targets.runs_dir == Path(RUNS) or not job["run"]:
        return text
    return text.replace(f"{RUNS}/{job['run']}", str(targets.runs_dir / job["run"]))
