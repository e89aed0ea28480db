from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from quantlab.bench import machine
from quantlab.bench.machine import (
    CpuMonitor,
    busy_sentence,
    frequency_mhz,
    machine_notes,
    steal_share,
)

BEFORE = """\
cpu  9 9 9 9 9 9 9 9 9 9
cpu0 100 0 0 100 0 0 0 0 0 0
cpu1 0 0 0 0 0 0 0 0 0 0
intr 5
"""
AFTER = """\
cpu  9 9 9 9 9 9 9 9 9 9
cpu0 160 0 0 120 0 0 0 20 0 0
cpu1 900 0 0 0 0 0 0 100 0 0
intr 5
"""


def test_steal_is_of_these_cpus() -> None:
    assert steal_share(BEFORE, AFTER, (0,)) == pytest.approx(0.2)
    assert steal_share(BEFORE, AFTER, (1,)) == pytest.approx(0.1)
    assert steal_share(BEFORE, AFTER, (0, 1)) == pytest.approx(120 / 1100)


def test_silent_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steal_share("", "", (0,)) is None
    assert steal_share(BEFORE, BEFORE, (0,)) is None
    assert steal_share(BEFORE, AFTER, (7,)) is None
    assert steal_share("cpu0 1 2 3\n", "cpu0 2 3 4\n", (0,)) is None
    for answer in (None, []):
        monkeypatch.setattr(machine.psutil, "cpu_freq", lambda percpu, found=answer: found)
        assert frequency_mhz((0,)) is None

    def unknown(percpu: bool) -> Any:
        raise NotImplementedError

    monkeypatch.setattr(machine.psutil, "cpu_freq", unknown)
    assert frequency_mhz((0,)) is None


def test_frequency_is_of_these_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = [SimpleNamespace(current=x) for x in (1000.0, 2000.0, 3000.0)]
    monkeypatch.setattr(machine.psutil, "cpu_freq", lambda percpu: rates)
    assert frequency_mhz((1, 2)) == 2500
    assert frequency_mhz((9,)) is None


def test_notes_only_for_what_matters() -> None:
    assert machine_notes([], []) == ()
    assert machine_notes([0.01, 0.02], [2500.0, 2600.0]) == ()
    (steal,) = machine_notes([0.0, 0.2], [])
    assert "10% of the benchmark's CPU time" in steal
    (moved,) = machine_notes([], [2000.0, 2500.0])
    assert "between 2,000 and 2,500 MHz" in moved


def test_a_watch_keeps_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([BEFORE, AFTER, AFTER, AFTER])
    monkeypatch.setattr(machine, "read_stat", lambda: next(told))
    monkeypatch.setattr(machine, "frequency_mhz", lambda cpus: 1000.0)
    monitor = CpuMonitor((0,))
    for _ in range(2):
        with monitor:
            monitor.sample_clock_rate()
    assert (monitor.steal, monitor.mhz) == ([pytest.approx(0.2)], [1000.0, 1000.0])


@pytest.mark.parametrize(
    ("used", "steal", "busy"), [(5, 0, False), (90, 0, True), (10, 8, True), (14, 2, False)]
)
def test_a_busy_machine_is_said(used: float, steal: float, busy: bool) -> None:
    said = busy_sentence(used, steal, 1.5, 2)
    assert ("The machine is busy" in said) == busy
    assert (f"{used}% of its CPU time" in said) == busy
