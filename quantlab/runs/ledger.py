"""The ledger: compare published figures of every recipe with measured ones. Pure.

Measured figures come from run records alone. A file is known by its sha256; it belongs to a recipe
whose published file it is, or by which it was quantized from the recipe's model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal

from quantlab.fetch.catalog import PublishedFigures, PublishedModel
from quantlab.recipe import Recipe
from quantlab.runs.figures import Shape, read
from quantlab.runs.record import RunRecord
from quantlab.stats.paired import Share

Whose = Literal["published", "here", "nobody"]


@dataclass(frozen=True)
class LedgerSpeed:
    """A step of one batch: its median in milliseconds, at so many threads on that CPU."""

    batch_size: int
    ms_per_step: float
    images_per_second: float
    threads: int
    cpu: str


@dataclass
class LedgerFigure:
    """What runs say of one file. ``parameters`` are counted in ones, ``resolution`` in pixels;
    ``made_by`` is the recipe that quantized it from the file with the sha256 ``made_from``."""

    sha256: str
    file: str = ""
    resolution: int | None = None
    parameters: int | None = None
    top1: Share | None = None
    top5: Share | None = None
    images: str = ""
    speeds: dict[int, LedgerSpeed] = field(default_factory=dict)
    made_by: Recipe | None = None
    made_from: str = ""


@dataclass(frozen=True)
class LedgerRow:
    """One line of the ledger.

    Accuracies are in percent and ``parameters`` in millions; measured accuracies have their 95%
    interval and the number of images. ``recipe`` is the name of a file in ``tuning/``, or of the
    recipe that made the file. ``weight`` is a file's name and the beginning of its sha256, or why
    there is none.
    """

    project: str
    model: str
    whose: Whose
    parameters: float | None = None
    batch_size: int | None = None
    resolution: int | None = None
    ms_per_step: float | None = None
    images_per_second: float | None = None
    top1: float | None = None
    top1_interval: tuple[float, float] | None = None
    top5: float | None = None
    top5_interval: tuple[float, float] | None = None
    n: int | None = None
    images: str = ""
    recipe: str = ""
    weight: str = ""
    note: str = ""


def ledger(
    entries: Iterable[PublishedModel], records: Iterable[RunRecord], here: Collection[str]
) -> tuple[LedgerRow, ...]:
    """Every recipe's published row and its measured ones, then files that no recipe knows.

    ``here`` names the entries whose file is on this machine: without a run theirs are not measured,
    all others not available.
    """
    known = {entry.name: entry for entry in entries if entry.kind == "model"}
    found = measured(records)
    rows, used = list[LedgerRow](), set[str]()
    for entry in known.values():
        rows += _published(entry)
        files = [m for m in found.values() if _belongs(m, entry, known)]
        files.sort(key=lambda m: m.made_by is not None)
        used |= {m.sha256 for m in files}
        rows += [row for m in files for row in _measured(m, entry.project or "", entry.name)]
        if not files:
            target = entry.same_as or entry.name
            words = "not measured: no run" if target in here else "model not available here"
            rows.append(LedgerRow(entry.project or "", entry.name, "nobody", weight=words))
    for m in found.values():
        if m.sha256 not in used and m.top1 is not None:
            rows += _measured(m, "", _made_of(m, found))
    return tuple(rows)


def _made_of(m: LedgerFigure, found: Mapping[str, LedgerFigure]) -> str:
    """The recipe that made the file, and from which other file."""
    if m.made_by is None:
        return ""
    source = found.get(m.made_from)
    return f"{m.made_by.name} of {source.file}" if source else m.made_by.name


def measured(records: Iterable[RunRecord]) -> dict[str, LedgerFigure]:
    """What finished runs say of each file, by sha256.

    Of accuracies the one on most images counts, of equals the latest; of all else the latest.
    """
    found = dict[str, LedgerFigure]()
    for record in sorted(records, key=lambda r: r.started):
        if record.status == "success":
            for reader in _READERS:
                for sha256, facts in reader(record):
                    _merge(found.setdefault(sha256, LedgerFigure(sha256)), facts)
    return found


def _merge(known: LedgerFigure, facts: Mapping[str, Any]) -> None:
    top1 = facts.get("top1")
    if top1 is not None and known.top1 is not None and top1.n < known.top1.n:
        return
    for name, value in facts.items():
        if name == "speed":
            known.speeds[value.batch_size] = value
        else:
            setattr(known, name, value)


class _Input(Shape):
    height: int


class _File(Shape):
    path: str
    sha256: str
    input: _Input

    @property
    def facts(self) -> dict[str, Any]:
        return {"file": PurePath(self.path).name, "resolution": self.input.height}


class _Data(Shape):
    root: str


class _Accuracy(Shape):
    top1: Share
    top5: Share | None


class _Evaluated(Shape):
    model: _File
    data: _Data
    accuracy: _Accuracy


class _Scores(Shape):
    sha256: str
    top1: Share
    top5: Share | None


class _Pair(Shape):
    fp32: _Scores
    int8: _Scores


class _Compared(Shape):
    models: list[_File]
    data: _Data
    comparison: _Pair


class _Figure(Shape):
    model: str
    batch: int
    threads: int
    metric: str
    value: float
    instances: int | None = None
    rate: float | None = None


class _Benched(Shape):
    models: list[_File]
    figures: list[_Figure]


class _Inspected(Shape):
    sha256: str
    parameters: int


class _Quantized(Shape):
    model: _File
    recipe: Recipe
    output: _File


_Facts = Iterator[tuple[str, dict[str, Any]]]


def _evaluated(record: RunRecord) -> _Facts:
    if (run := read(_Evaluated, record)) is not None:
        scores = {"top1": run.accuracy.top1, "top5": run.accuracy.top5}
        yield run.model.sha256, {**run.model.facts, **scores, "images": _name(run.data)}


def _compared(record: RunRecord) -> _Facts:
    if (run := read(_Compared, record)) is not None:
        pair = (run.comparison.fp32, run.comparison.int8)
        for file, scores in zip(run.models, pair, strict=False):
            if file.sha256 == scores.sha256:
                facts = {"top1": scores.top1, "top5": scores.top5, "images": _name(run.data)}
                yield file.sha256, {**file.facts, **facts}


def _benched(record: RunRecord) -> _Facts:
    run = read(_Benched, record)
    for file in run.models if run else ():
        name = PurePath(file.path).stem
        if run is None or [PurePath(f.path).stem for f in run.models].count(name) > 1:
            continue
        for batch in {f.batch for f in run.figures}:
            speed = _speed(name, batch, run.figures, record.environment.get("cpu", ""))
            if speed is not None:
                yield file.sha256, {**file.facts, "speed": speed}


def _speed(name: str, batch: int, figures: list[_Figure], cpu: str) -> LedgerSpeed | None:
    """Of one instance without an offered load."""
    own = [
        f for f in figures if (f.model, f.batch, f.instances, f.rate) == (name, batch, None, None)
    ]
    by = {f.metric: f for f in own}
    if not {"p50", "throughput"} <= by.keys():
        return None
    return LedgerSpeed(batch, by["p50"].value, by["throughput"].value, by["p50"].threads, cpu)


def _inspected(record: RunRecord) -> _Facts:
    if (run := read(_Inspected, record)) is not None:
        yield run.sha256, {"parameters": run.parameters}


def _quantized(record: RunRecord) -> _Facts:
    if (run := read(_Quantized, record)) is not None:
        made = {"made_by": run.recipe, "made_from": run.model.sha256}
        yield run.output.sha256, {**run.output.facts, **made}


_READERS = (_evaluated, _compared, _benched, _inspected, _quantized)


def _name(data: _Data) -> str:
    return PurePath(data.root).name


def _belongs(m: LedgerFigure, entry: PublishedModel, known: Mapping[str, PublishedModel]) -> bool:
    origin = known[entry.same_as] if entry.same_as else entry
    if origin.matches(m.sha256):
        return True
    if entry.recipe is None or m.made_by is None:
        return False
    if m.made_by.digest not in (entry.recipe.digest, *entry.former_recipes):
        return False
    base = known[entry.made_from] if entry.made_from else origin
    return base.matches(m.made_from)


def _published(entry: PublishedModel) -> Iterator[LedgerRow]:
    p = entry.published
    if p is not None:
        yield LedgerRow(
            project=entry.project or "",
            model=entry.name,
            whose="published",
            parameters=p.parameters,
            batch_size=p.batch_size,
            resolution=p.resolution,
            ms_per_step=p.ms_per_step,
            images_per_second=p.images_per_second,
            top1=p.top1,
            top5=p.top5,
            recipe=entry.name,
            note=", ".join(filter(None, (p.source, *_against_fp32(p), p.conditions))),
        )


def _against_fp32(p: PublishedFigures) -> Iterator[str]:
    for name, decline in (("top-1", p.top1_decline), ("top-5", p.top5_decline)):
        if decline is not None:
            yield f"decline of {name} {decline:.2f}%"
    if p.speedup is not None:
        yield f"{p.speedup:.2f}x"


def _measured(m: LedgerFigure, project: str, recipe: str) -> Iterator[LedgerRow]:
    """A row for each batch size that was timed, or one."""
    speeds: Iterable[LedgerSpeed | None] = [m.speeds[b] for b in sorted(m.speeds)] or [None]
    for speed in speeds:
        yield LedgerRow(
            project=project,
            model=PurePath(m.file).stem,
            whose="here",
            parameters=None if m.parameters is None else m.parameters / 1e6,
            batch_size=speed.batch_size if speed else None,
            resolution=m.resolution,
            ms_per_step=speed.ms_per_step if speed else None,
            images_per_second=speed.images_per_second if speed else None,
            top1=_percent(m.top1),
            top1_interval=_interval(m.top1),
            top5=_percent(m.top5),
            top5_interval=_interval(m.top5),
            n=m.top1.n if m.top1 else None,
            images=m.images,
            recipe=recipe,
            weight=f"{m.file} {m.sha256[:8]}",
            note=f"{speed.cpu}, threads: {speed.threads}" if speed else "",
        )


def _percent(share: Share | None) -> float | None:
    return None if share is None else 100 * share.value


def _interval(share: Share | None) -> tuple[float, float] | None:
    return None if share is None else (100 * share.interval.low, 100 * share.interval.high)
