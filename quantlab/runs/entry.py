"""Entry: the row of one run in the history index. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from quantlab.bench.measurement import BenchResult
from quantlab.runs.figures import Figure, File, Shape, figures_of, name_of, plain, read
from quantlab.runs.record import RunRecord

_SUBJECTS = ("model", "models", "fp32", "int8", "name")
"""Options that name models, the one that a run is about last."""


@dataclass(frozen=True)
class Entry:
    """One run. ``folder`` is its name in the runs folder; ``models`` are names with sha256s, the
    one that the run is about last; ``verdict``, ``top1`` and ``decline`` are that one's. With a
    ``problem`` the record cannot be read, and there is nothing else."""

    folder: str
    id: str = ""
    verb: str = ""
    status: str = ""
    started: str = ""
    models: tuple[tuple[str, str], ...] = ()
    verdict: str = ""
    top1: float | None = None
    decline: float | None = None
    problem: str = ""
    figures: tuple[Figure, ...] = ()

    @property
    def model(self) -> str:
        """The name of what the run is about."""
        return self.models[-1][0] if self.models else ""


@dataclass(frozen=True)
class Listed:
    """An entry and the place (see Index) of its folder."""

    place: str
    entry: Entry


class _Named(Shape):
    """The models of any verb."""

    model: File | None = None
    models: tuple[File, ...] = ()
    output: File | None = None


class _Status(Shape):
    status: str


class _Judged(Shape):
    gate: _Status | None = None
    verdict: _Status | None = None


def entry_of(record: RunRecord, folder: str, timing: BenchResult | None = None) -> Entry:
    """The record's entry; ``timing`` are the run's measurements."""
    models, figures = _models(record), figures_of(record, timing)
    about = models[-1] if models else ("", "")
    mine = {f.metric: f.value for f in reversed(figures) if (f.model, f.sha256) == about}
    return Entry(
        folder=folder,
        id=plain(record.id),
        verb=plain(record.verb),
        status=record.status,
        started=plain(record.started),
        models=models,
        verdict=_verdict(record),
        top1=mine.get("top1"),
        decline=mine.get("decline"),
        figures=figures,
    )


def _models(record: RunRecord) -> tuple[tuple[str, str], ...]:
    """Those of the results, else those that the options name."""
    run = read(_Named, record) or _Named()
    files = [file for file in (run.model, *run.models, run.output) if file is not None]
    named = [value for key in _SUBJECTS for value in _texts(record.spec.get(key))]
    found = [(name_of(f.path), plain(f.sha256)) for f in files] or [(name_of(n), "") for n in named]
    return tuple(dict.fromkeys(found))


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text]


def _verdict(record: RunRecord) -> str:
    run = read(_Judged, record) or _Judged()
    judged = run.gate or run.verdict
    return plain(judged.status) if judged else ""
