"""runs ledger: every recipe, what is published of it, and what runs here have measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from quantlab._util.files import check_writable, write_whole
from quantlab._util.reporter import Reporter
from quantlab._util.terminal import table_width
from quantlab.errors import RecordError
from quantlab.fetch import catalog
from quantlab.fetch.fetcher import cached_path
from quantlab.report.ledger import ledger_csv, ledger_page
from quantlab.runs.ledger import LedgerRow, ledger
from quantlab.runs.record import RunRecord, load_record
from quantlab.verbs.options.runs import LedgerOptions as LedgerOptions
from quantlab.verbs.publish import Returned


def compare_with_published(
    spec: LedgerOptions, reporter: Reporter
) -> Returned[tuple[str, tuple[LedgerRow, ...]]]:
    """The ledger as a page, and its rows; written as ``ledger.md`` and ``ledger.csv`` where there
    is a folder ``output``."""
    files = [] if spec.output is None else [spec.output / "ledger.md", spec.output / "ledger.csv"]
    for path in files:
        check_writable(path)
    records = read_records(spec.runs_dir, reporter)
    entries = catalog()
    here = {name for name, entry in entries.items() if cached_path(entry).exists()}
    rows = ledger(entries.values(), records, here)
    finished = sum(record.status == "success" for record in records)
    with table_width(None):
        page = ledger_page(rows, finished)
    for path, text in zip(files, (page, ledger_csv(rows)), strict=False):
        write_whole(path, text)
    return Returned((page, rows), {"runs": finished, "rows": [asdict(row) for row in rows]})


def read_records(folder: Path, reporter: Reporter) -> list[RunRecord]:
    """The records of all run folders in it; warns of those that cannot be read."""
    records = list[RunRecord]()
    for path in sorted(folder.glob("*/run.json")):
        try:
            records.append(load_record(path))
        except RecordError as error:
            reporter.warn(error.problem)
    return records
