"""pick: choose another trial of an earlier tune, in a run of its own.

The new run folder has all that the old one had of its search (the same files, linked where the
file system can), so it may be picked from, or gone on with, as well.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from quantlab.errors import ResumeError
from quantlab.runs.record import RunRecord
from quantlab.runs.run import held
from quantlab.tune.trial_store import TrialStore

OF_A_PICK = {
    *("resume", "pick", "output", "force", "runs_dir", "as_json", "quiet", "gate", "no_bench"),
    *("no_audit", "threads", "batch_size", "split", "provider", "fold_preprocess", "executor"),
}
"""Options of ``tune --resume`` that ask for no more search."""
_KEPT = (
    *("identity.json", "fp32-predictions.npz", "sensitivity-*.json", "front-*.json"),
    *("trials/*", "models/*.onnx"),
)
"""What a search leaves in its folder. Files are written whole, never changed: links are safe."""


def only_picks(record: RunRecord, given: Collection[str]) -> bool:
    """Whether ``tune --resume`` with these options asks for a trial of what is there already: a
    trial is named, or the search has come to its end, and no option asks for more of it. Pure."""
    finished = record.status == "success" and record.results.get("stop") == "finished"
    return set(given) <= OF_A_PICK and ("pick" in given or finished)


def adopt(source: Path, folder: Path) -> None:
    """Copy the trials of ``source`` into a new run's folder. Raises ResumeError where no trial was
    evaluated, RecordError while the source is in use."""
    with held(source):
        if not any(trial.scores for trial in TrialStore(source).trials()):
            raise ResumeError(
                f"{source} has no evaluated trial to pick from.",
                f"quantlab tune --resume {source} goes on with it.",
            )
        for pattern in _KEPT:
            for file in sorted(source.glob(pattern)):
                _link(file, folder / file.relative_to(source))


def _link(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)
