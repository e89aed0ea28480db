"""Store a tune's trials on disk, each complete or absent, so that a killed tune can resume.

RUN/identity.json                      what all trials have in common
RUN/trials/<recipe digest>.json        the Trial
RUN/trials/<recipe digest>.npz         its Predictions, once evaluated
RUN/models/<sha256>.onnx               its file
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from quantlab._util.files import write_whole
from quantlab.errors import RecordError, ResumeError
from quantlab.tune.trials import Trial


class TrialStore:
    """The trials of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self, identity: Mapping[str, str]) -> None:
        """Store under a name what trials must have in common to be compared. Raises ResumeError
        when the run has another already, OutputError."""
        path = self.folder / "identity.json"
        if not path.is_file():
            write_whole(path, json.dumps(identity, indent=1) + "\n")
            return
        kept = _read_identity(path)
        names = [n for n in {**identity, **kept} if kept.get(n) != identity.get(n)]
        if names:
            raise ResumeError(
                f"{self.folder} was tuned with another {', another '.join(names)}.",
                "Start a new run; what is known is taken from the cache.",
            )

    def trials(self) -> list[Trial]:
        """All trials in the order they were started. Raises RecordError for a damaged one."""
        files = (self.folder / "trials").glob("*.json")
        return sorted((_read(path) for path in files), key=lambda trial: trial.number)

    def find(self, digest: str) -> Trial | None:
        """The trial of that recipe, or None."""
        path = self._file(digest, "json")
        return _read(path) if path.is_file() else None

    def put(self, trial: Trial) -> None:
        """Store a trial, or replace it. Raises OutputError."""
        write_whole(self._file(trial.digest, "json"), trial.model_dump_json(indent=1) + "\n")

    def store_model(self, content: bytes) -> str:
        """Store a model's bytes; returns their sha256. Raises OutputError."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.model_path(sha256)
        if not path.is_file():
            write_whole(path, content)
        return sha256

    def model_path(self, sha256: str) -> Path:
        """Where the model with these contents lies, if it is here."""
        return self.folder / "models" / f"{sha256}.onnx"

    def predictions_path(self, digest: str) -> Path:
        """Where the trial's Predictions lie, if it was evaluated."""
        return self._file(digest, "npz")

    def _file(self, digest: str, ending: str) -> Path:
        return self.folder / "trials" / f"{digest}.{ending}"


def _read(path: Path) -> Trial:
    try:
        return Trial.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RecordError(f"{path} is not a stored trial.", "Remove it to try again.") from error


def _read_identity(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_bytes()))
    except ValueError as error:
        raise RecordError(f"{path} is damaged.", "Start a new run.") from error
