"""When a monitor is due."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.errors import QuantlabError
from quantlab.serve.monitors import Monitor, Seen, next_time, why_due

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()
SEEN = Seen(models={"net": "a" * 64}, machines=("one CPU",))
MONITOR = Monitor(
    id="ab", name="nightly", token="t", request={}, schedule="0 3 * * *", on_version=True,
    on_environment=True, enabled=True, receivers=(), silenced=None, turn=0, next=NOON + 60,
    asked=False, job=None, created=0.0, seen=SEEN,
)  # fmt: skip


def field(low: int, high: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """A field of cron, and the numbers that it stands for."""
    numbers = st.integers(low, high)
    every = frozenset(range(low, high + 1))
    return st.one_of(
        st.just(("*", every)),
        numbers.map(lambda n: (str(n), frozenset([n]))),
        st.lists(numbers, min_size=1, max_size=4, unique=True).map(
            lambda ns: (",".join(map(str, ns)), frozenset(ns))
        ),
        st.tuples(numbers, numbers).map(
            lambda p: (f"{min(p)}-{max(p)}", frozenset(range(min(p), max(p) + 1)))
        ),
        st.integers(2, 9).map(lambda n: (f"*/{n}", frozenset(range(low, high + 1, n)))),
    )


@given(
    minute=field(0, 59),
    hour=field(0, 23),
    weekday=st.one_of(st.just(("*", frozenset(range(7)))), field(0, 6)),
    after=st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
)
def test_the_next_time_is_the_first_minute_that_fits(
    minute: tuple[str, frozenset[int]],
    hour: tuple[str, frozenset[int]],
    weekday: tuple[str, frozenset[int]],
    after: datetime,
) -> None:
    """Against a search hour by hour, which knows nothing of the expression."""
    found = next_time(f"{minute[0]} {hour[0]} * * {weekday[0]}", after.timestamp())
    assert found == _first(minute[1], hour[1], weekday[1], after).timestamp()


def _first(
    minutes: frozenset[int], hours: frozenset[int], weekdays: frozenset[int], after: datetime
) -> datetime:
    """Sundays are 0."""
    at = after.replace(minute=0, second=0, microsecond=0)
    while True:
        if at.hour in hours and at.isoweekday() % 7 in weekdays:
            for minute in sorted(minutes):
                if (found := at.replace(minute=minute)) > after:
                    return found
        at += timedelta(hours=1)


def test_days_and_months() -> None:
    assert next_time("30 4 1 1 *", NOON) == datetime(2027, 1, 1, 4, 30, tzinfo=UTC).timestamp()
    assert next_time("0 0 29 2 *", NOON) == datetime(2028, 2, 29, tzinfo=UTC).timestamp()
    assert next_time(None, NOON) is None


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "61 * * * *", "a b c d e", "@daily", "* " * 99,
     "*/0 * * * *", "0 0 31 2 *"]
)  # fmt: skip
def test_what_is_no_schedule_is_said(text: str) -> None:
    with pytest.raises(QuantlabError, match="is no schedule"):
        next_time(text, NOON)


@pytest.mark.parametrize(
    ("changed", "now", "seen", "reason"),
    [
        ({}, NOON, SEEN, None),
        ({}, NOON + 60, SEEN, "schedule"),
        ({"next": None}, NOON + 60, SEEN, None),
        ({}, NOON, Seen(models={"net": "b" * 64}, machines=SEEN.machines), "version"),
        ({"on_version": False}, NOON, Seen(models={"net": "b" * 64}), None),
        ({}, NOON, Seen(machines=SEEN.machines), None),  # the name stands for nothing any more
        ({}, NOON, Seen(models=SEEN.models, machines=("one CPU", "another")), "environment"),
        ({"on_environment": False}, NOON, Seen(models=SEEN.models, machines=("another",)), None),
        ({}, NOON, Seen(models=SEEN.models), None),  # a machine that is gone
        ({"enabled": False}, NOON + 60, Seen(models={"net": "b" * 64}), None),
        ({"enabled": False, "asked": True}, NOON, SEEN, "asked"),
        ({"job": "cd", "asked": True}, NOON + 60, Seen(models={"net": "b" * 64}), None),
    ],
)
def test_why_a_job_is_due(
    changed: dict[str, object], now: float, seen: Seen, reason: str | None
) -> None:
    assert why_due(replace(MONITOR, **changed), now, seen) == reason  # type: ignore[arg-type]


def test_silence_and_the_key_of_a_turn() -> None:
    assert not MONITOR.silent(NOON)
    assert replace(MONITOR, silenced=NOON + 1).silent(NOON)
    assert not replace(MONITOR, silenced=NOON).silent(NOON)
    assert MONITOR.key != replace(MONITOR, turn=1).key
    assert not re.fullmatch(r"[\x21-\x7e]{1,128}", MONITOR.key), "no client can send it"
