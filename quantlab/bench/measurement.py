"""Measurement: raw latency samples with the conditions under which they were taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from quantlab._util.files import write_whole
from quantlab.errors import RecordError

if TYPE_CHECKING:
    from pandas import DataFrame

MAX_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class Conditions:
    """What must be the same before two measurements may be compared.

    ``runs`` are those of a round, in ``turns`` equal parts that alternate with the other models';
    ``warmup`` is the fewest runs before them that any session needed. What the machine did
    meanwhile is told for every round and not compared: ``steal`` is the share of the CPUs' time
    that the hypervisor gave to others, ``mhz`` their clock rate; empty where the system does not
    tell.
    """

    threads: int
    batch_size: int
    rounds: int
    runs: int
    warmup: int = 0
    seed: int = 0
    cpu: str = ""
    isa: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    turns: int = 1
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    isolation: Literal["fresh", "shared"] = "shared"
    steal: tuple[float, ...] = field(default=(), compare=False)
    mhz: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Measurement:
    """One model at one batch size.

    ``bytes`` is the file's size; ``rounds`` holds the milliseconds of every run (of a whole batch),
    one inner tuple per round; ``session_ms`` is what creating the session took, the median of the
    rounds where each made one; ``peak_rss_bytes`` the most memory its process held, None where that
    was not measured.
    """

    model_name: str
    model_sha256: str
    bytes: int
    rounds: tuple[tuple[float, ...], ...]
    session_ms: float
    peak_rss_bytes: int | None
    conditions: Conditions

    @cached_property
    def samples(self) -> NDArray[np.float64]:
        """All runs in the order they were made: float64 [runs], milliseconds.

        Raises RecordError when there are none.
        """
        samples = np.fromiter(chain.from_iterable(self.rounds), np.float64)
        if not samples.size:
            raise RecordError(f"the measurement of {self.model_name} holds no runs.")
        return samples

    @property
    def p50(self) -> float:
        """The median run, in milliseconds."""
        return self._percentile(50)

    @property
    def p90(self) -> float:
        """Nine runs in ten were no slower than this many milliseconds."""
        return self._percentile(90)

    @property
    def p99(self) -> float:
        """Ninety-nine runs in a hundred were no slower than this many milliseconds."""
        return self._percentile(99)

    @property
    def mean(self) -> float:
        """The mean run, in milliseconds."""
        return float(self.samples.mean())

    @property
    def std(self) -> float:
        """The standard deviation of the runs, in milliseconds; 0 for a single run."""
        return float(self.samples.std(ddof=1)) if self.samples.size > 1 else 0.0

    @property
    def images_per_second(self) -> float:
        """The throughput at the median run."""
        return 1000 * self.conditions.batch_size / self.p50

    def to_frame(self) -> DataFrame:
        """The raw runs.

        Returns:
            One row a run, with the columns ``round`` and ``run`` (from 0) and ``milliseconds`` (of
            a whole batch).

        Examples:
            >>> from quantlab.testing import fake_measurement
            >>> list(fake_measurement("tiny", 2.0).to_frame().columns)
            ['round', 'run', 'milliseconds']
        """
        from quantlab.report.frames import measurement_frame

        return measurement_frame(self)

    def _repr_html_(self) -> str:
        from quantlab.report.notebook import latency_html

        return latency_html([self])

    def _percentile(self, q: float) -> float:
        return float(np.percentile(self.samples, q))


@dataclass(frozen=True)
class BenchResult:
    """Models measured side by side in one run.

    ``measurements`` holds one inner tuple per model, in the order given; ``noise`` is the first
    model measured once more among the others (A/A). Each inner tuple, and ``noise``, holds one
    Measurement per batch size.
    """

    measurements: tuple[tuple[Measurement, ...], ...]
    noise: tuple[Measurement, ...]

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes measured."""
        return tuple(m.conditions.batch_size for m in self.noise)

    def to_frame(self) -> DataFrame:
        """The latencies.

        Returns:
            One row a model and batch size, with the columns ``model``, ``batch_size``, ``p50``,
            ``p90``, ``p99``, ``mean``, ``std`` (milliseconds a batch) and ``images_per_second``.

        Examples:
            >>> from quantlab import BenchResult
            >>> from quantlab.testing import fake_measurement
            >>> times = [(fake_measurement(name, ms),) for name, ms in (("fp32", 2), ("int8", 1))]
            >>> list(BenchResult(tuple(times), times[0]).to_frame().model)
            ['fp32', 'int8']
        """
        from quantlab.report.frames import latency_frame

        return latency_frame([m for measured in self.measurements for m in measured])

    def _repr_html_(self) -> str:
        from quantlab.report.notebook import latency_html

        return latency_html([m for measured in self.measurements for m in measured])

    def save(self, path: Path) -> None:
        """Write as JSON. Raises OutputError."""
        write_whole(path, _RESULT.dump_json(self, indent=1))

    @classmethod
    def load(cls, path: Path) -> BenchResult:
        """Read what ``save`` wrote. Raises RecordError."""
        return read_stored(path, _RESULT)


_RESULT = TypeAdapter(BenchResult)
_Stored = TypeVar("_Stored")


def read_stored(path: Path, kind: TypeAdapter[_Stored]) -> _Stored:
    """A stored result. Raises RecordError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecordError(f"{path} is larger than {MAX_BYTES >> 20} MiB.")
        return kind.validate_json(path.read_bytes())
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RecordError(
            f"{path} is not a stored measurement: {where}: {first['msg']}."
        ) from error
