"""The list of ImageNet's classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantlab.errors import FetchError
from quantlab.fetch.builders.class_names import build

WNIDS = {str(i): f"n{i:08}" for i in range(1000)}
NAMES = {str(i): f"name {i}, other" for i in range(1000)}


def members(wnids: object, names: object) -> dict[str, bytes]:
    return {
        "p_to_21k.json": json.dumps(wnids).encode(),
        "p_label_to_names.json": json.dumps(names).encode(),
    }


def test_index_order(make_wheel, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    build(make_wheel("a.whl", members(WNIDS, NAMES)), "p_*.json", tmp_path / "list.txt")
    lines = (tmp_path / "list.txt").read_text().splitlines()
    assert len(lines) == 1000
    assert lines[999] == "n00000999 name 999, other"


@pytest.mark.parametrize(
    ("wnids", "reason"), [({}, "names no class '0'"), ([1], "is not a mapping")]
)
def test_holes_are_refused(wnids: object, reason: str, make_wheel, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    wheel = make_wheel("a.whl", members(wnids, NAMES))
    with pytest.raises(FetchError, match=reason):
        build(wheel, "p_*.json", tmp_path / "list.txt")


def test_what_is_not_json_is_refused(make_wheel, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    wheel = make_wheel("a.whl", {"p_to_21k.json": b"{"})
    with pytest.raises(FetchError, match="is not JSON"):
        build(wheel, "p_*.json", tmp_path / "list.txt")
