"""Difference: what changed between two runs, likely causes of other results first. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from quantlab._util.flat import flat as joined
from quantlab.runs.entry import Entry, entry_of
from quantlab.runs.figures import Figure, File, Shape, isa_of, knows_isa, plain, read
from quantlab.runs.record import RunRecord
from quantlab.stats.paired import Interval

ASPECTS = {
    "images": "other images",
    "preprocessing": "other preprocessing",
    "model": "another model file",
    "recipe": "another recipe",
    "calibration": "other calibration images",
    "instructions": "other int8 instructions",
    "runtime": "another runtime",
    "provider": "another execution provider",
    "versions": "other versions",
    "machine": "another machine",
    "verb": "another verb",
    "options": "other options",
}
"""What may differ, in the order of how likely it explains other results: whatever feeds the model,
then the model, then what computes it. Options come last: what matters of them shows above."""
_VERSIONS = ("onnxruntime", "openvino", "quantlab", "numpy", "pillow", "onnx", "python")
_MACHINE = ("cpu", "physical_cores", "logical_cores", "memory", "os", "machine")
_NO_CAUSE = {
    "runs_dir", "as_json", "quiet", "config", "model", "models", "fp32", "int8", "output", "data",
    "eval_data", "baseline", "junit", "comment", "summary", "benchmark_json", "annotations",
    "exports", "resume", "runtime", "fp32_runtime",
}  # fmt: skip
"""Options that only name places, or whose effect is seen in another aspect."""
_Facts = dict[str, str]


@dataclass(frozen=True)
class FieldChange:
    """``what`` of an aspect was ``old`` and is ``new``; "" where one run does not have it."""

    aspect: str
    what: str
    old: str
    new: str


@dataclass(frozen=True)
class DifferenceOutcome:
    """One figure of what both runs are about, taken in both; None where only one has it."""

    metric: str
    old: Figure | None
    new: Figure | None


class _Data(BaseModel):
    digest: str = ""
    images: int | None = None


class _Results(Shape):
    """What results say of the conditions, whatever the verb."""

    model: File | None = None
    models: tuple[File, ...] = ()
    output: File | None = None
    data: _Data = _Data()
    calibration: _Data = _Data()
    pipeline: dict[str, Any] = Field({})
    comparison: dict[str, Any] = Field({})
    recipe: dict[str, Any] = Field({})
    providers: tuple[str, ...] = ()


def changes(old: RunRecord, new: RunRecord) -> tuple[FieldChange, ...]:
    """All differences between the two records, likely causes of other results first (see ASPECTS).
    An aspect that only one of them holds is not compared."""
    before, after = _conditions(old), _conditions(new)
    if old.verb != new.verb:
        before["options"], after["options"] = _shared(before["options"], after["options"])
    return tuple(
        FieldChange(aspect, what, before[aspect].get(what, ""), after[aspect].get(what, ""))
        for aspect in ASPECTS
        if before[aspect] and after[aspect]
        for what in dict.fromkeys([*before[aspect], *after[aspect]])
        if before[aspect].get(what) != after[aspect].get(what)
    )


def _shared(first: _Facts, second: _Facts) -> tuple[_Facts, _Facts]:
    """What both have."""
    names = [name for name in first if name in second]
    return {name: first[name] for name in names}, {name: second[name] for name in names}


def cause(found: tuple[FieldChange, ...]) -> str:
    """The most likely cause in a few words, "" where nothing changed."""
    return ASPECTS[found[0].aspect] if found else ""


def outcomes(old: RunRecord, new: RunRecord) -> tuple[DifferenceOutcome, ...]:
    """The figures of what each run is about, those of one metric and batch size side by side."""
    before, after = (_figures(entry_of(record, "")) for record in (old, new))
    return tuple(
        DifferenceOutcome(metric, before.get(metric), after.get(metric))
        for metric in dict.fromkeys([*before, *after])
    )


def apart(first: Interval | None, second: Interval | None) -> bool:
    """Whether two intervals do not overlap: then the figures surely differ."""
    if first is None or second is None:
        return False
    return first.high < second.low or second.high < first.low


def _figures(entry: Entry) -> dict[str, Figure]:
    """By metric, with the batch size of a time."""
    found = dict[str, Figure]()
    for figure in entry.figures:
        if figure.model == entry.model:
            found.setdefault(f"{figure.metric} {batch_of(figure)}".strip(), figure)
    return found


def batch_of(figure: Figure) -> str:
    """``batch 1`` of a time, else ""."""
    return next((part for part in figure.series.split(", ") if part.startswith("batch ")), "")


def _conditions(record: RunRecord) -> dict[str, _Facts]:
    """By aspect, every fact by name."""
    run = read(_Results, record) or _Results()
    here = record.environment
    options = {k: v for k, v in record.spec.items() if k not in _NO_CAUSE}
    return {
        "images": _images(run.data),
        "preprocessing": flat(run.pipeline or run.comparison.get("pipeline") or {}),
        "model": _files(run),
        "recipe": flat(run.recipe),
        "calibration": _images(run.calibration),
        "instructions": {"int8 instructions": isa_of(here)} if knows_isa(here) else {},
        "runtime": _runtimes(run),
        "provider": {"providers": ", ".join(map(plain, run.providers))} if run.providers else {},
        "versions": {k: plain(here[k]) for k in _VERSIONS if k in here},
        "machine": {k: plain(here[k]) for k in _MACHINE if k in here},
        "verb": {"verb": plain(record.verb)},
        "options": flat(options),
    }


def _images(data: _Data) -> _Facts:
    if not data.digest:
        return {}
    count = {} if data.images is None else {"images": f"{data.images:,}"}
    return {"digest": plain(data.digest[:16]), **count}


def _files(run: _Results) -> _Facts:
    """The sha256 of each model's file; ``model`` is what the run is about, ``beside`` the other of
    a pair."""
    files = [file for file in (run.model, *run.models, run.output) if file is not None]
    names = [f"model {i + 1}" for i in range(len(files))]
    if len(files) <= 2:
        names = ["beside", "model"][-len(files) :] if files else []
    digests = [plain(file.sha256[:16] or file.path) for file in files]
    return dict(reversed(list(zip(names, digests, strict=True))))


def _runtimes(run: _Results) -> _Facts:
    """What ran the models; nothing in records of no model."""
    files = [file for file in (run.model, *run.models) if file is not None]
    return {"runtime": ", ".join(dict.fromkeys(plain(f.runtime) for f in files))} if files else {}


def flat(facts: Mapping[str, Any]) -> dict[str, str]:
    """As ``quantlab._util.flat``, of a record that may come from anywhere."""
    return {plain(key): plain(text) for key, text in joined(facts).items()}
