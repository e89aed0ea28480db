"""State of the machine during a benchmark: CPU time taken by the hypervisor, clock rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Self

import psutil

STEAL_LIMIT = 0.03
"""More than this share of the CPUs' time stolen is worth a word."""
BUSY_LIMIT = 0.15
"""So is a larger share in use before the benchmark begins."""
FREQUENCY_LIMIT = 0.05
"""So is a clock rate that moved by more than this."""
_STAT = Path("/proc/stat")
_STEAL, _FIELDS = 7, 8


def read_stat() -> str:
    """``/proc/stat``, or nothing where the system has none."""
    try:
        return _STAT.read_text()
    except OSError:
        return ""


def steal_share(before: str, after: str, cpus: Sequence[int]) -> float | None:
    """The share of these CPUs' time between two readings of ``/proc/stat`` in which they wanted to
    run and the hypervisor ran something else; None where the system does not tell (proc(5))."""
    first, last = _ticks(before, cpus), _ticks(after, cpus)
    if first is None or last is None or sum(last) <= sum(first):
        return None
    return (last[_STEAL] - first[_STEAL]) / (sum(last) - sum(first))


def _ticks(stat: str, cpus: Sequence[int]) -> list[int] | None:
    """Clock ticks of the CPUs together: user, nice, system, idle, iowait, irq, softirq, steal."""
    names = {f"cpu{number}" for number in cpus}
    rows = [
        words[1:] for line in stat.splitlines() if (words := line.split())[:1] and words[0] in names
    ]
    whole = [[int(word) for word in row[:_FIELDS]] for row in rows if len(row) >= _FIELDS]
    return [sum(column) for column in zip(*whole, strict=True)] or None


def frequency_mhz(cpus: Sequence[int]) -> float | None:
    """The mean clock rate of these CPUs now; None where the system does not tell."""
    try:
        found = psutil.cpu_freq(percpu=True)
    except (OSError, NotImplementedError, RuntimeError, AttributeError):
        return None
    rates = [found[n].current for n in cpus if n < len(found)] if found else []
    return fmean(rates) if rates and min(rates) > 0 else None


class CpuMonitor:
    """Measures the state of some CPUs round by round: ``with monitor:`` around a round records the
    share of stolen time, ``sample_clock_rate`` inside of it, while the CPUs are busy, their clock
    rate."""

    def __init__(self, cpus: Sequence[int]) -> None:
        self._cpus, self._before = cpus, ""
        self.steal, self.mhz = list[float](), list[float]()

    def __enter__(self) -> Self:
        self._before = read_stat()
        return self

    def __exit__(self, *_: object) -> None:
        share = steal_share(self._before, read_stat(), self._cpus)
        self.steal += [] if share is None else [share]

    def sample_clock_rate(self) -> None:
        """Record the current clock rate."""
        mhz = frequency_mhz(self._cpus)
        self.mhz += [] if mhz is None else [mhz]


def busy_note(seconds: float = 0.2) -> str:
    """Whether other programs use this machine now, in a sentence; "" where it is idle."""
    try:
        times = psutil.cpu_times_percent(interval=seconds)
        load, cpus = psutil.getloadavg()[0], psutil.cpu_count() or 1
    except (OSError, RuntimeError, AttributeError):
        return ""
    return busy_sentence(100 - times.idle, getattr(times, "steal", 0.0), load, cpus)


def busy_sentence(used: float, steal: float, load: float, cpus: int) -> str:
    """The sentence of these percentages of all CPUs' time and this load average, or ""."""
    if used <= 100 * BUSY_LIMIT and steal <= 100 * STEAL_LIMIT:
        return ""
    return (
        f"The machine is busy: {used:.0f}% of its CPU time is used ({steal:.0f}% by other guests "
        f"of its host), load {load:.1f} on {cpus} CPUs. Latencies will be too high, and small "
        "differences not seen."
    )


def machine_notes(steal: Sequence[float], mhz: Sequence[float]) -> tuple[str, ...]:
    """Sentences about the rounds' shares of stolen CPU time and clock rates."""
    notes = []
    if steal and fmean(steal) > STEAL_LIMIT:
        notes.append(
            f"Other guests of this machine's host took {fmean(steal):.0%} of the benchmark's CPU "
            "time (steal): latencies are too high, ratios less so."
        )
    if mhz and max(mhz) / min(mhz) - 1 > FREQUENCY_LIMIT:
        notes.append(
            f"The CPU's frequency moved between {min(mhz):,.0f} and {max(mhz):,.0f} MHz while "
            "timing: latencies of other runs may differ as much; the ratios are taken in turns."
        )
    return tuple(notes)
