"""The digest of quantlab's source."""

from __future__ import annotations

from pathlib import Path

import pytest

import quantlab
from quantlab._util.source import source_digest
from quantlab.quantize import costs


def test_it_changes_with_code_and_with_the_table_of_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cached int8 file holds only as long as what chose its placement."""
    monkeypatch.setattr(quantlab, "__file__", str(tmp_path / "__init__.py"))
    table = tmp_path / "quantize" / costs.TABLE.name
    table.parent.mkdir()
    found = set()
    for file, text in ((tmp_path / "a.py", "1"), (tmp_path / "a.py", "2"), (table, "{}")):
        file.write_text(text)
        found.add(source_digest.__wrapped__())
    assert len(found) == 3
