"""One level of texts."""

from __future__ import annotations

from quantlab._util.flat import flat


def test_inner_names_are_joined_and_none_says_nothing() -> None:
    data = {"a": 1, "b": {"c": [1, 2], "d": {"e": "x", "f": None}}, "g": {}}
    assert flat(data) == {"a": "1", "b.c": "[1, 2]", "b.d.e": "x"}
