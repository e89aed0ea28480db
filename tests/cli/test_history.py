"""quantlab runs: listing, showing, comparing, drawing, removing, exporting."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from quantlab.cli import main
from quantlab.testing.runs import fake_run


@pytest.fixture
def runs() -> list[str]:
    """Three runs, the newest first; the newest has another model."""
    days = ("2026-01-03", "2026-01-02", "2026-01-01")
    return [
        fake_run(
            Path("runs"),
            n=50,
            started=f"{day}T12:00:00+00:00",
            ms=5.0,
            name="other-int8" if day.endswith("3") else "tiny-int8",
            flip_rate=0.5 if day.endswith("3") else 0.02,
        ).name
        for day in days
    ]


def test_a_real_run_is_listed_shown_and_repeated(cli: Any, scene: Any) -> None:
    made = cli("evaluate", scene.model, *scene.words)
    line = cli("runs", "ls").out.splitlines()[-1]
    accuracy = made.record.results["accuracy"]["top1"]["value"]
    assert [cell.strip() for cell in line.strip("|").split("|")][1:] == [
        "evaluate", "tiny", "–", f"{accuracy:.2%}", "–", made.folder.name[-6:],
    ]  # fmt: skip
    page = cli("runs", "show", "latest").out
    assert page.splitlines()[-1] == f"Repeat: {made.record.command}"
    assert "| top-1" in page
    assert "predictions.npz" in page
    assert len(list(Path("runs").glob("*/run.json"))) == 1, "to look leaves no run"


def test_the_list_as_table_csv_and_json(cli: Any, runs: list[str]) -> None:
    table = cli("runs", "ls").out
    assert [line.split("|")[-2].strip() for line in table.splitlines()[2:]] == [
        name[-6:] for name in runs
    ]
    rows = list(csv.DictReader(cli("runs", "ls", "--format", "csv").out.splitlines()))
    facts = json.loads(cli("runs", "ls", "--format", "json").out)
    assert facts == json.loads(cli("runs", "ls", "--json").out)
    assert [row["id"] for row in rows] == [fact["id"] for fact in facts] == runs
    assert float(rows[0]["top1"]) == facts[0]["top1"]
    assert facts[0]["verdict"] in ("pass", "fail", "inconclusive")


def test_filters(cli: Any, runs: list[str]) -> None:
    def ids(*words: object) -> list[str]:
        return [fact["id"] for fact in json.loads(cli("runs", "ls", "--json", *words).out)]

    assert ids("--model", "TINY-int8") == runs[1:]
    assert ids("--limit", 1) == runs[:1]
    assert ids("--since", "2026-01-02T00:00:00+00:00") == runs[:2]
    assert ids("--verb", "tune") == []
    assert cli("runs", "ls", "--verb", "tune").out == "No runs in runs.\n"
    assert "neither a date nor an age" in cli("runs", "ls", "--since", "then", code=2).err


def test_show_as_json_is_the_record(cli: Any, runs: list[str]) -> None:
    record = json.loads(cli("runs", "show", runs[0][-6:], "--json").out)
    assert record == json.loads((Path("runs") / runs[0] / "run.json").read_text())


def test_diff(cli: Any, runs: list[str]) -> None:
    page = cli("runs", "diff", "latest~1", "latest").out
    assert page.splitlines()[:2] == [
        f"{runs[1]} → {runs[0]}",
        "What most likely explains another result: another model file.",
    ]
    assert "| model" in page
    assert "of 50 images" in page
    facts = json.loads(cli("runs", "diff", runs[1], runs[0], "--json").out)
    assert facts["changes"][0]["aspect"] == "model"
    assert facts["answers"]["n"] == 50
    same = cli("runs", "diff", "latest", "latest").out
    assert "The answers are the same in every value" in same


def test_trend(cli: Any, runs: list[str]) -> None:
    said = cli("runs", "trend", "tiny-int8", "--plot", "t.png", "--metric", "latency")
    assert Path("t.png").read_bytes().startswith(b"\x89PNG")
    assert "tiny-int8: 2 runs" in said.out
    assert "A change can be told from 8 runs on." in said.out
    (series,) = json.loads(cli("runs", "trend", "tiny-int8", "--metric", "latency", "--json").out)
    assert [point["run"] for point in series["points"]] == [runs[2], runs[1]]
    assert "no run has measured" in cli("runs", "trend", "nope", code=2).err


def test_rm_asks(cli: Any, runs: list[str]) -> None:
    refused = CliRunner().invoke(main, ["runs", "rm", "latest"], input="n\n")
    assert "Remove this run? [y/N]" in refused.output
    assert refused.exit_code == 0
    assert len(json.loads(cli("runs", "ls", "--json").out)) == 3
    agreed = CliRunner().invoke(main, ["runs", "rm", runs[0], runs[1]], input="y\n")
    assert "Remove these 2 runs?" in agreed.output
    assert [x["id"] for x in json.loads(cli("runs", "ls", "--json").out)] == runs[2:]
    assert json.loads(cli("runs", "rm", "latest", "--yes", "--json").out) == {"removed": runs[2:]}
    assert cli("runs", "ls").out == "No runs in runs.\n"


def test_rm_of_what_is_elsewhere(cli: Any, runs: list[str]) -> None:
    outside = fake_run(Path("elsewhere"), n=20)
    (Path("runs") / "link").symlink_to(outside.absolute())
    for name in (outside, "link"):
        assert "is not removed" in cli("runs", "rm", "-y", name, code=2).err
    assert (outside / "run.json").is_file()


def test_index(cli: Any, runs: list[str]) -> None:
    assert cli("runs", "index").out == "3 runs in the index sqlite:///runs/.history.db\n"
    assert json.loads(cli("runs", "index", "--json").out)["runs"] == 3


@pytest.mark.filterwarnings("ignore")
def test_export(cli: Any, runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    said = cli("runs", "export", "mlflow", "latest", "latest~1", "--to", "store")
    assert said.out.count("Logged as") == 2
    again = cli("runs", "export", "mlflow", "latest", "--to", "store").out
    assert again.startswith("Already there as ")
    assert again.split()[3] in said.out


def test_what_is_damaged_is_said_in_a_line(cli: Any, runs: list[str]) -> None:
    (Path("runs") / runs[0] / "run.json").write_text('{"schema_version": 1, "id"')
    said = cli("runs", "ls")
    assert len(said.warnings) == 1
    assert len(said.complaint) == 0
    assert "is not a run record" in cli("runs", "show", runs[0], code=2).err
    assert cli("runs", "rm", runs[0], "--yes").out == "Removed 1.\n"
    assert cli("runs", "ls").warnings == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://u:s3cret@127.0.0.1:1/x", "cannot be used"),
        ("nonsense", "is not the URL"),
        ("sqlite:////no/such/folder/x.db", "unable to open"),
    ],
)
def test_a_database_that_is_gone(cli: Any, runs: list[str], url: str, message: str) -> None:
    for words in (("ls",), ("show", "latest"), ("trend", "tiny"), ("index",)):
        said = cli("runs", *words, "--db", url, code=2)
        assert message in said.err
        assert "s3cret" not in said.err
        assert len(said.err.splitlines()) == 2


@pytest.mark.postgres
def test_a_postgresql_index(cli: Any, runs: list[str], postgres_url: str) -> None:
    words = ("--db", postgres_url)
    assert cli("runs", "index", *words).out.startswith(
        "3 runs in the index postgresql://quantlab:***@"
    )
    assert [x["id"] for x in json.loads(cli("runs", "ls", "--json", *words).out)] == runs
    assert cli("runs", "show", "latest", *words).out.startswith(runs[0])


def test_prune(cli: Any, scene: Any) -> None:
    assert "--older-than 30d" in cli("runs", "prune", code=2).err
    first, second = (cli("evaluate", scene.model, *scene.words).folder for _ in range(2))
    text = (first / "run.json").read_text()
    (first / "run.json").write_text(text.replace('"status": "success"', '"status": "error"'))
    words = ("runs", "prune", "--errors")
    told = cli(*words, "--dry-run")
    assert first.name in told.out
    assert second.name not in told.out
    assert told.out.splitlines()[-1].startswith("Would remove 1 run, ")
    assert first.is_dir()
    assert json.loads(cli(*words, "--yes", "--json").out)["runs"][0]["run"] == first.name
    assert (first.exists(), second.is_dir()) == (False, True)
    assert cli(*words, "--yes").out == "Removed 0 runs, 0.00 MB.\n"


def test_a_run_without_an_end_is_no_other_cpu(cli: Any, scene: Any) -> None:
    first, second = (cli("evaluate", scene.model, *scene.words).folder for _ in range(2))
    record = json.loads((second / "run.json").read_text())
    record |= {"status": "started", "environment": {}, "results": {}}
    (second / "run.json").write_text(json.dumps(record))
    said = cli("runs", "diff", first, second)
    assert "int8 instructions" not in said.out
    assert said.warnings == [f"Warning: {second.name} has not ended: it may lack results."]
