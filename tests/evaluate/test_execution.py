from __future__ import annotations

import pytest

from quantlab.errors import QuantlabError
from quantlab.evaluate.execution import parse_split


def test_a_split_is_calls_and_threads() -> None:
    assert parse_split("4x2") == (4, 2)
    assert parse_split(" 1x16 ") == (1, 16)


@pytest.mark.parametrize("text", ["", "4", "0x2", "2x0", "x", "2*2", "-1x2", "99999x1"])
def test_what_is_no_split(text: str) -> None:
    with pytest.raises(QuantlabError, match="CALLSxTHREADS"):
        parse_split(text)
