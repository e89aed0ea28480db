import json
from pathlib import Path

import pytest

from quantlab.errors import RecordError
from quantlab.runs.record import load_record

STORED = Path(__file__).parents[1] / "stored" / "run-v1.json"


def test_a_stored_version_1_record_stays_readable() -> None:
    record = load_record(STORED)
    assert record.schema_version == 1
    assert record.verb == "compare"
    assert record.status == "success"
    assert record.results["verdict"]["status"] == "inconclusive"
    assert record.artifacts["report"] == "report.md"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "not a run record"),
        ("[1]", "not a run record"),
        ("[" * 200_000, "not a run record"),
        ('{"schema_version": 2}', "schema version 2"),
        ('{"schema_version": 1}', "damaged: id"),
    ],
)
def test_what_is_not_a_record_is_said(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=message):
        load_record(tmp_path)


def test_unknown_fields_of_a_later_minor_version_do_not_hinder(tmp_path: Path) -> None:
    data = json.loads(STORED.read_text())
    data["added_later"] = 1
    (tmp_path / "run.json").write_text(json.dumps(data))
    assert load_record(tmp_path).id == data["id"]


def test_a_missing_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such run"):
        load_record(tmp_path / "run.json")
