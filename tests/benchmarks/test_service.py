from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import service


def test_a_row_has_medians_and_ratios_round_by_round() -> None:
    slow, bare = [[0.02] * 50, [0.04] * 25, [0.02] * 50], [[0.01] * 100, [0.01] * 100, [0.04] * 25]
    cells = service.row("x", slow, bare, bare, 1.0).strip("| ").split(" | ")
    # requests/s 50, 25, 50; times bare 0.5, 0.25, 2
    assert cells == ["x", "50", "20.0", "20.0", "0.50", "0.50"]


def test_a_request_is_one_that_a_server_understands() -> None:
    asked = service.Asked("x", 80, "/api/v1/jobs", ("Authorization: Bearer abc",))
    raw = asked.raw(3).decode()
    assert raw.startswith("GET /api/v1/jobs HTTP/1.1\r\nHost: ")
    assert "\r\nAuthorization: Bearer abc\r\n" in raw
    assert raw.endswith("\r\n\r\n")
    assert "Authorization" not in service.Asked("x", 80, "/").raw(0).decode()
    assert service.Asked("x", 80, "/", apart=True).raw(3).startswith(b"GET /?client=3 HTTP")


@pytest.mark.filterwarnings("default::ResourceWarning")
def test_all_of_it_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUEUED", "DONE", "MODELS"):
        monkeypatch.setattr(service, name, 3)
    text = service.report(rounds=1, clients=2, seconds=0.2)
    assert text.count("\n| ") == 17
    assert "One client lists the 3 queued jobs" in text
