"""The jobs of ``quantlab runs``: the index that they use, and what they do with runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from quantlab._util.reporter import NullReporter
from quantlab.errors import QuantlabError, RecordError
from quantlab.runs.metrics import METRICS
from quantlab.testing.runs import fake_run
from quantlab.verbs.runs import (
    HistoryOptions,
    Metric,
    RunsDiffOptions,
    RunsListOptions,
    SeveralRunsOptions,
    TrendOptions,
    diff_runs,
    find_removable,
    list_runs,
    rebuild_index,
    remove_runs,
    show_run,
    show_trend,
    since_of,
)

INDEX = Path("runs/.history.db")


def listed(reporter: NullReporter | None = None, **spec: object) -> list[str]:
    found = list_runs(RunsListOptions.model_validate(spec), reporter or NullReporter())
    return [each.entry.folder for each in found]


@pytest.fixture
def runs() -> list[str]:
    """Three runs, the newest first."""
    days = ("2026-01-03", "2026-01-02", "2026-01-01")
    return [
        fake_run(Path("runs"), n=50, started=f"{day}T00:00:00+00:00", ms=5.0).name for day in days
    ]


def test_the_index_lies_beside_the_runs_and_follows_them(runs: list[str]) -> None:
    assert listed() == runs
    assert INDEX.is_file()
    shutil.rmtree(Path("runs") / runs[1])
    assert listed() == [runs[0], runs[2]]


@pytest.mark.parametrize("damage", [b"not a database " * 99, b"", None])
def test_a_lost_or_damaged_index_loses_nothing(runs: list[str], damage: bytes | None) -> None:
    listed()
    INDEX.unlink() if damage is None else INDEX.write_bytes(damage)
    reporter = NullReporter()
    assert listed(reporter) == runs
    assert reporter.warnings == []
    assert listed() == runs


def test_an_index_torn_in_its_middle(runs: list[str]) -> None:
    listed()
    content = INDEX.read_bytes()
    INDEX.write_bytes(content[:4096] + bytes(len(content) - 4096))
    assert listed() == runs


def test_a_table_of_that_name_but_of_another_shape(runs: list[str]) -> None:
    with sqlite3.connect(INDEX) as other:
        other.execute("CREATE TABLE quantlab_runs_v1 (folder TEXT)")
    other.close()
    assert listed() == runs


def test_while_another_process_holds_the_index_all_is_read(
    runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.runs.index.SECONDS_TO_WAIT", 0.1)
    listed()
    held = sqlite3.connect(INDEX)
    held.execute("BEGIN EXCLUSIVE")
    reporter = NullReporter()
    try:
        assert listed(reporter) == runs
    finally:
        held.rollback()
        held.close()
    assert reporter.warnings == [
        "Another process holds the index runs/.history.db: all runs are read without it."
    ]


@pytest.fixture
def as_reader() -> Iterator[Path]:
    """A folder that this process may read and not write, whoever runs the tests."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    yield folder
    if root:
        os.seteuid(0)
    for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_folder_is_indexed_in_memory(as_reader: Path) -> None:
    name = fake_run(as_reader, n=20).name
    as_reader.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(PermissionError):
        (as_reader / "x").touch()
    reporter = NullReporter()
    assert listed(reporter, runs_dir=as_reader) == [name]
    assert reporter.warnings == []
    assert rebuild_index(HistoryOptions(runs_dir=as_reader), reporter) == ("sqlite://", 1)
    assert not (as_reader / ".history.db").exists()
    with pytest.raises(QuantlabError, match="cannot remove"):
        remove_runs(HistoryOptions(runs_dir=as_reader), [as_reader / name], reporter)


def test_no_runs_folder_is_made() -> None:
    assert listed() == []
    assert not Path("runs").exists()


def test_a_database_by_url_or_variable(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed(db="sqlite:///mine.db") == runs
    monkeypatch.setenv("QUANTLAB_DB", "sqlite:///other.db")
    assert listed() == runs
    assert Path("mine.db").is_file()
    assert Path("other.db").is_file()
    assert not INDEX.exists()
    Path("bad.db").write_text("not a database " * 99)
    with pytest.raises(RecordError, match="file is not a database"):
        listed(db="sqlite:///bad.db")
    assert Path("bad.db").read_text().startswith("not a")


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_folders_that_share_a_database(
    engine: str, runs: list[str], request: pytest.FixtureRequest
) -> None:
    db = "sqlite:///shared.db" if engine == "sqlite" else request.getfixturevalue("postgres_url")
    newest = fake_run(Path("elsewhere"), n=50, started="2027-01-01T00:00:00+00:00").name
    assert listed(db=db, runs_dir="elsewhere") == [newest]
    assert listed(db=db) == runs
    everywhere = list_runs(RunsListOptions(db=db, everywhere=True), NullReporter())
    mine = [x for x in everywhere if x.place.endswith(("/runs", "/elsewhere"))]
    assert [x.entry.folder for x in mine if x.entry.folder in (newest, *runs)] == [newest, *runs]
    spec = TrendOptions(model="tiny-int8", db=db, everywhere=True)
    top1 = next(s for s in show_trend(spec, NullReporter()).series if s.metric == "top1")
    assert {newest, *runs} <= {p.folder for p in top1.points}
    url, count = rebuild_index(HistoryOptions(db=db), NullReporter())
    assert count == 3
    assert "***" in url or engine == "sqlite"


def test_unreadable_runs_are_said_and_listed_nowhere(runs: list[str]) -> None:
    (Path("runs") / runs[0] / "run.json").write_text("{")
    reporter = NullReporter()
    assert listed(reporter, verb="compare") == runs[1:]
    (warning,) = reporter.warnings
    assert f"{runs[0]}/run.json is not a run record" in warning


NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("7d", "2026-03-24T12:00:00+00:00"),
        ("90s", "2026-03-31T11:58:30+00:00"),
        ("2026-01-31T05:00:00+02:00", "2026-01-31T03:00:00+00:00"),
    ],
)
def test_since(text: str, moment: str) -> None:
    assert since_of(text, NOW) == moment


@pytest.mark.parametrize("text", ["yesterday", "", "999999999999d", "2026-13-01"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(QuantlabError, match="neither a date nor an age"):
        since_of(text, NOW)


def test_a_run_is_shown_with_its_files(runs: list[str]) -> None:
    folder = Path("runs") / runs[0]
    (folder / "measurements.json").unlink()
    shown = show_run(SeveralRunsOptions(runs=("latest",)), NullReporter())
    assert (shown.folder, shown.record.id) == (folder, shown.entry.id)
    assert shown.artifacts == {
        "fp32_predictions": (folder / "fp32-predictions.npz").stat().st_size,
        "int8_predictions": (folder / "int8-predictions.npz").stat().st_size,
        "measurements": None,
    }


def test_a_difference_is_seen_image_by_image() -> None:
    old, new = (fake_run(Path("runs"), n=300, flip_rate=rate) for rate in (0.01, 0.3))
    found = diff_runs(RunsDiffOptions(old=old.name, new=new.name), NullReporter())
    assert [c.aspect for c in found.changes] == ["model"]
    assert found.comparison is not None
    assert found.comparison.n == 300
    assert found.comparison.top1 is not None
    assert found.comparison.top1.lost > found.comparison.top1.gained
    same = diff_runs(RunsDiffOptions(old=old.name, new=str(old)), NullReporter())
    assert same.changes == ()
    assert same.comparison is not None
    assert same.comparison.fidelity.identical


def test_answers_to_other_images_or_none_are_not_compared() -> None:
    old = fake_run(Path("runs"), n=40)
    other = fake_run(Path("runs"), n=40, seed=1)
    found = diff_runs(RunsDiffOptions(old=old.name, new=other.name), NullReporter())
    assert found.changes[0].aspect == "images"
    assert found.comparison is None
    assert found.unpaired
    reporter = NullReporter()
    (other / "int8-predictions.npz").write_bytes(b"PK")
    found = diff_runs(RunsDiffOptions(old=old.name, new=other.name), reporter)
    assert (found.comparison, found.unpaired) == (None, "")
    assert "int8-predictions.npz" in reporter.warnings[0]


def test_a_trend_with_its_cause() -> None:
    for day in range(1, 9):
        fake_run(
            Path("runs"),
            n=2000,
            flip_rate=0.01 if day < 5 else 0.6,
            started=f"2026-01-0{day}T00:00:00+00:00",
            environment={"onnxruntime": "1" if day < 5 else "2"},
            ms=5.0 if day < 5 else 8.0,
        )
    found = show_trend(
        TrendOptions(model="some/tiny-int8.onnx", plot=Path("t.svg")), NullReporter()
    )
    top1, latency = found.series
    assert [c.index for c in top1.changes] == [4]
    assert [c.index for c in latency.changes] == [4]
    (cause,) = found.causes.values()
    assert cause == "another model file"
    assert b"<svg" in Path("t.svg").read_bytes()[:600]


def test_runs_on_other_images_are_another_series(runs: list[str]) -> None:
    fake_run(Path("runs"), n=60)
    fake_run(Path("runs"), n=50, environment={"isa": "avx2"})
    found = show_trend(TrendOptions(model="tiny-int8", metrics=("decline",)), NullReporter())
    assert sorted(len(each.points) for each in found.series) == [1, 1, 3]


def test_models_and_metrics_that_no_run_has(runs: list[str]) -> None:
    with pytest.raises(RecordError, match="no run has measured a model called nope") as caught:
        show_trend(TrendOptions(model="nope"), NullReporter())
    assert caught.value.remedy == "Measured were: tiny, tiny-int8."
    with pytest.raises(RecordError, match="no run has kl of tiny") as caught:
        show_trend(TrendOptions(model="tiny", metrics=("kl",)), NullReporter())
    assert caught.value.remedy == "There is: top1, top5, latency."
    with pytest.raises(QuantlabError, match="cannot draw into"):
        show_trend(TrendOptions(model="tiny", plot=Path("t.gif")), NullReporter())


def test_the_index_follows_a_removal(runs: list[str]) -> None:
    listed()
    found = find_removable(SeveralRunsOptions(runs=("latest", runs[0], runs[2])), NullReporter())
    assert [folder.name for folder, _ in found] == [runs[0], runs[2]]
    remove_runs(HistoryOptions(), [folder for folder, _ in found], NullReporter())
    with sqlite3.connect(INDEX) as index:
        rows = index.execute("SELECT folder FROM quantlab_runs_v1").fetchall()
    index.close()
    assert rows == [(runs[1],)]


def test_a_run_elsewhere_is_not_removed(runs: list[str]) -> None:
    outside = fake_run(Path("elsewhere"), n=20)
    with pytest.raises(RecordError, match="is not a run folder in runs"):
        find_removable(SeveralRunsOptions(runs=(runs[0], str(outside))), NullReporter())
    assert outside.is_dir()


def test_a_metric_can_be_asked_for_everywhere() -> None:
    assert get_args(Metric) == tuple(METRICS)
