"""Prune: which runs of a folder may go, and which are needed by what stays. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from quantlab.runs.entry import Entry
from quantlab.runs.record import RunRecord

_FAILED = ("error", "started")
"""A run that is at work is ``started`` too; nobody removes it while its folder is locked."""


@dataclass(frozen=True)
class PastRun:
    """A run folder's record and its entry."""

    record: RunRecord
    entry: Entry

    @property
    def failed(self) -> bool:
        """Whether it ended without a result."""
        return self.record.status in _FAILED

    @property
    def speedup(self) -> float:
        """Of a pass, the speed over fp32; else below any."""
        if self.entry.verdict != "pass":
            return float("-inf")
        return max((f.value for f in self.entry.figures if f.metric == "speedup"), default=0.0)

    def names(self, folder: str) -> bool:
        """Whether an option, or the run whose trials it picked, is that folder or inside it."""
        texts = [*_texts(self.record.spec), self.record.source or ""]
        return any(folder in text.replace("\\", "/").split("/") for text in texts)


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def prunable(
    runs: Mapping[str, PastRun],
    *,
    before: datetime | None = None,
    errors: bool = False,
    keep_best: bool = False,
    accepted: Collection[str] = (),
) -> dict[str, str]:
    """By folder, why a run may go: it began ``before`` a time, or failed, where that is asked.

    What a run that stays names in its options stays, as does what is about a model of ``accepted``
    (sha256s of baselines), and with ``keep_best`` the fastest pass of each model.
    """
    found = dict[str, str]()
    for folder, run in runs.items():
        if errors and run.failed:
            found[folder] = run.record.error or "it never ended"
        elif before is not None and datetime.fromisoformat(run.record.started) < before:
            found[folder] = f"from {run.record.started[:10]}"
    stay = {k for k, run in runs.items() if any(sha in accepted for _, sha in run.entry.models)}
    stay |= _best(runs) if keep_best else set()
    found = {folder: why for folder, why in found.items() if folder not in stay}
    while needed := [f for f in found if any(runs[k].names(f) for k in runs if k not in found)]:
        for folder in needed:
            del found[folder]
    return found


def _best(runs: Mapping[str, PastRun]) -> set[str]:
    """Of each fp32 model the folder of the fastest pass, the newest of equal ones."""
    best = dict[tuple[str, str], str]()
    for folder, run in sorted(runs.items(), key=lambda each: each[1].record.started):
        if run.entry.verdict != "pass" or not run.entry.models:
            continue
        model = run.entry.models[0]
        if model not in best or run.speedup >= runs[best[model]].speedup:
            best[model] = folder
    return set(best.values())
