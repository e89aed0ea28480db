"""A service under fire in small; ``benchmarks/kills.py`` is the whole of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from kills import KINDS, Scene, judged, undisturbed

JOBS, KILLS = len(KINDS), 8


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The jobs' results where nobody is killed: the database has no part in them."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTLAB_CACHE", str(folder / "cache"))
        return undisturbed(folder / "scene", JOBS)


@pytest.mark.parametrize(
    ("workers", "db"),
    [(1, ""), pytest.param(2, "own_postgres", marks=pytest.mark.postgres)],
    ids=["sqlite", "postgresql"],
)
def test_every_job_ends_once_as_if_nobody_was_killed(
    workers: int,
    db: str,
    calm: list[dict[str, Any]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    url = request.getfixturevalue(db) if db else None
    scene = Scene(tmp_path / "storm", JOBS, workers, db=url)
    found, seen, jobs = judged(scene, KILLS, calm)
    assert [what for what, holds in found.items() if not holds] == []
    assert seen.kills == {"serve": KILLS // 2, "worker": KILLS // 2}
    assert sum(job.attempts for job in jobs) > len(jobs), "no job was disturbed"
