"""Figures: read each model's results from a run's record, with their conditions. Pure.

Records are read leniently: of an older one, another verb's or a foreign one there is what there is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from statistics import median
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quantlab.bench.measurement import BenchResult
from quantlab.model.kinds import ONNX_RUNTIME, with_runtime
from quantlab.runs.record import RunRecord
from quantlab.runtime.providers import short_name
from quantlab.stats.paired import Interval, Share, signed_rank

LONGEST = 200
"""Characters of a name or a text that are kept."""
CPU = "cpu"


@dataclass(frozen=True)
class Figure:
    """One figure of one model.

    Accuracies, declines and agreement are fractions of 1, ``decline`` one of fp32's accuracy;
    ``kl`` is in nats, ``latency`` the median run in milliseconds a batch, ``speedup`` how many
    times faster than fp32, ``int8_macs`` the share of the MACs in int8. Figures of one ``series``
    were taken under the same conditions, which it tells in words: they may be compared.
    ``interval`` is the 95% interval within the run.
    """

    metric: str
    model: str
    sha256: str
    series: str
    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class RecordedFigure:
    """A figure and the run that it is of."""

    place: str
    folder: str
    started: str
    figure: Figure


def figures_of(record: RunRecord, timing: BenchResult | None = None) -> tuple[Figure, ...]:
    """All figures of the record, none twice. ``timing`` are the run's measurements, which give
    latencies their intervals."""
    found = [*_of_evaluation(record), *_of_comparison(record, timing is None)]
    found += _of_bench(record) if timing is None else _of_timing(timing)
    return tuple(dict.fromkeys(found))


def plain(text: str, longest: int = LONGEST) -> str:
    """Shorten text from a record to so many printable characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:longest])


def name_of(path: str) -> str:
    """What a model's file is called."""
    return plain(PurePath(path).stem)


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]


class Shape(BaseModel):
    """A part of a record's results, as far as it is needed."""

    model_config = ConfigDict(extra="ignore")


class File(Shape):
    """A model's file."""

    path: str
    sha256: str = ""
    runtime: str = ONNX_RUNTIME


class _Data(Shape):
    digest: str


class _Accuracy(Shape):
    top1: Share
    top5: Share | None = None


class _Evaluated(Shape):
    """What ``evaluate`` leaves."""

    model: File
    data: _Data
    pipeline: dict[str, Any] = {}
    providers: list[str] = []
    accuracy: _Accuracy


class _Side(Shape):
    name: str
    sha256: str
    top1: Share | None = None
    top5: Share | None = None


class _Change(Shape):
    ratio: _Finite | None = None
    ratio_interval: Interval | None = None


class _Fidelity(Shape):
    agreement: Share
    kl: _Finite | None = None
    kl_interval: Interval | None = None


class _Median(Shape):
    p50: _Positive


class _Speed(Shape):
    batch_size: _Count
    threads: _Count
    fp32: _Median
    int8: _Median
    speedup: _Positive
    interval: Interval


class _Macs(Shape):
    int8: _Finite


class _Comparison(Shape):
    n: _Count
    data_digest: str
    pipeline: dict[str, Any] = {}
    fp32: _Side
    int8: _Side
    top1: _Change | None = None
    fidelity: _Fidelity
    speeds: list[_Speed] = []
    macs: _Macs | None = None


class _Compared(Shape):
    """What ``compare``, ``gate`` and ``tune`` leave."""

    comparison: _Comparison
    models: list[File] = []
    providers: list[str] = []

    @property
    def runtimes(self) -> tuple[str, str]:
        """What ran fp32 and int8."""
        found = [file.runtime for file in self.models[:2]]
        return found[0] if found else ONNX_RUNTIME, found[-1] if found else ONNX_RUNTIME


class _Row(Shape):
    model: str
    batch: _Count
    threads: _Count
    provider: str
    metric: str
    value: _Positive
    instances: int | None = None
    rate: float | None = None


class _Benched(Shape):
    """What ``bench`` leaves."""

    models: list[File]
    figures: list[_Row]


_S = TypeVar("_S", bound=Shape)


def read(shape: type[_S], record: RunRecord) -> _S | None:
    """The results in that shape; None for a run of another kind."""
    try:
        return shape.model_validate(record.results)
    except ValidationError:
        return None


def _of_evaluation(record: RunRecord) -> Iterator[Figure]:
    if (run := read(_Evaluated, record)) is None:
        return
    top1, top5 = run.accuracy.top1, run.accuracy.top5
    others = _others(run.providers, run.model.runtime)
    series = _images(record, run.data.digest, top1.n, run.pipeline, others)
    yield from _accuracies(name_of(run.model.path), run.model.sha256, top1, top5, series)


def _of_comparison(record: RunRecord, with_latency: bool) -> Iterator[Figure]:
    if (run := read(_Compared, record)) is None:
        return
    pair = run.comparison
    others = [_others(run.providers, runtime) for runtime in run.runtimes]
    for side, given in zip((pair.fp32, pair.int8), others, strict=True):
        series = _images(record, pair.data_digest, pair.n, pair.pipeline, given)
        yield from _accuracies(_title(side.name), side.sha256, side.top1, side.top5, series)
    beside = f"{series}, beside {plain(pair.fp32.name)}"
    agreement, kl, top1 = pair.fidelity.agreement, pair.fidelity.kl, pair.top1
    yield _of_int8(pair, "agreement", beside, agreement.value, agreement.interval)
    if kl is not None:
        yield _of_int8(pair, "kl", beside, kl, pair.fidelity.kl_interval)
    if top1 is not None and top1.ratio is not None:
        yield _of_int8(pair, "decline", beside, top1.ratio, top1.ratio_interval)
    if pair.macs is not None:
        yield _of_int8(pair, "int8_macs", "one image", pair.macs.int8, None)
    for speed in pair.speeds:
        places = [_place(record, speed.batch_size, speed.threads, given) for given in others]
        sides = ((pair.fp32, speed.fp32, places[0]), (pair.int8, speed.int8, places[1]))
        for side, x, place in sides if with_latency else ():
            yield Figure("latency", _title(side.name), plain(side.sha256), place, x.p50)
        place = places[1]
        beside = f"{place}, beside {plain(pair.fp32.name)}"
        yield _of_int8(pair, "speedup", beside, speed.speedup, speed.interval)


def _of_int8(
    pair: _Comparison, metric: str, series: str, value: float, interval: Interval | None
) -> Figure:
    name, sha256 = _title(pair.int8.name), plain(pair.int8.sha256)
    return Figure(metric, name, sha256, series, value, interval)


def _accuracies(
    name: str, sha256: str, top1: Share | None, top5: Share | None, series: str
) -> Iterator[Figure]:
    for metric, share in (("top1", top1), ("top5", top5)):
        if share is not None:
            yield Figure(metric, name, plain(sha256), series, share.value, share.interval)


def _of_bench(record: RunRecord) -> Iterator[Figure]:
    """Of one instance without an offered load."""
    if (run := read(_Benched, record)) is None:
        return
    files = {PurePath(file.path).stem: plain(file.sha256) for file in run.models}
    for row in run.figures:
        alone = (row.instances, row.rate) == (None, None)
        name, runtime = with_runtime(row.model)
        if row.metric == "p50" and alone and name in files:
            others = _others([row.provider], runtime)
            place = _place(record, row.batch, row.threads, others)
            yield Figure("latency", plain(name), files[name], place, row.value)


def _of_timing(timing: BenchResult) -> Iterator[Figure]:
    for m in (m for each in timing.measurements for m in each if len(m.samples)):
        c = m.conditions
        medians = [median(times) for times in m.rounds if times]
        reach = signed_rank(np.array(medians)) if len(medians) > 1 else None
        name, runtime = with_runtime(m.model_name)
        others = _others(c.providers, runtime)
        together = c.isolation == "shared"
        place = _machine(c.cpu, c.isa, c.batch_size, c.threads, others, together=together)
        yield Figure("latency", plain(name), plain(m.model_sha256), place, m.p50, reach)


def knows_isa(environment: Mapping[str, str]) -> bool:
    """Whether the record says which int8 instructions its CPU has."""
    return bool(environment.get("isa") or environment.get("int8_isa"))


def isa_of(environment: Mapping[str, str]) -> str:
    """The kind of int8 instructions."""
    return plain(environment.get("isa") or environment.get("int8_isa") or "unknown instructions")


def digest_of(facts: Mapping[str, Any]) -> str:
    """A short digest of what JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def _images(
    record: RunRecord,
    digest: str,
    n: int,
    pipeline: Mapping[str, Any],
    others: Sequence[str],
) -> str:
    """The conditions of an accuracy, in words."""
    name = str(pipeline.get("name", "unknown"))
    parts = [f"{n:,} images {digest[:12]}", f"pipeline {name} {digest_of(pipeline)}"]
    parts += [isa_of(record.environment), *others]
    return plain(", ".join(parts))


def _title(name: str) -> str:
    """A model's name without its runtime, which its figures' series name."""
    return plain(with_runtime(name)[0])


def _others(providers: Sequence[str], runtime: str | None) -> list[str]:
    """Execution providers that are not the CPU's, and another runtime than ONNX Runtime."""
    names = [short_name(provider) for provider in providers]
    named = [] if runtime in (None, ONNX_RUNTIME) else [plain(f"runtime {runtime}")]
    return [*(f"provider {name}" for name in names if name != CPU), *named]


def _place(record: RunRecord, batch: int, threads: int, others: Sequence[str]) -> str:
    here, together = record.environment, record.verb == "tune"
    cpu = here.get("cpu", "unknown CPU")
    return _machine(cpu, isa_of(here), batch, threads, others, together=together)


def _machine(
    cpu: str, isa: str, batch: int, threads: int, others: Sequence[str], *, together: bool
) -> str:
    """The conditions of a latency, in words."""
    parts = [f"{cpu} ({isa})", f"batch {batch}", f"{threads} thread{'s' * (threads != 1)}"]
    parts += [*others, *(["all rounds in one process"] if together else [])]
    return plain(", ".join(parts))
