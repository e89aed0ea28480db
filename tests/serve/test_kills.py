"""A service under fire in small; ``benchmarks/kills.py`` is the whole of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from kills import Scene, judged


@pytest.mark.parametrize(
    ("workers", "db"),
    [(1, ""), pytest.param(2, "own_postgres", marks=pytest.mark.postgres)],
    ids=["sqlite", "postgresql"],
)
def test_every_job_ends_once_as_if_nobody_was_killed(
    workers: int, db: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(db) if db else None
    found, seen, jobs = judged(Scene(tmp_path, jobs=8, workers=workers, db=url), kills=12)
    assert [what for what, holds in found.items() if not holds] == []
    assert sum(seen.kills.values()) == 12
    assert sum(job.attempts for job in jobs) > len(jobs), "no job was disturbed"
