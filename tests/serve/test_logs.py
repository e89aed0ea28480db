"""The log of a server: a JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from processes import started

from quantlab.serve.logs import JsonLines


def test_a_record_with_a_traceback_is_one_line() -> None:
    try:
        raise ValueError("no\nnumber")
    except ValueError:
        record = logging.LogRecord(
            "quantlab.serve", logging.ERROR, "f", 1, "%s failed", ("it",), sys.exc_info()
        )
    text = JsonLines().format(record)
    assert "\n" not in text
    found = json.loads(text)
    assert (found["level"], found["message"]) == ("error", "it failed")
    assert found["traceback"].endswith("ValueError: no\nnumber")


def test_a_server_logs_requests(tmp_path: Path) -> None:
    import httpx

    words = ("serve", "--home", tmp_path / "home", "--port", "0", "--no-worker", "--log", "json")
    with started(*words) as server:
        url = server.until(r"Serving (http://\S+)")
        httpx.get(f"{url}/health/live", headers={"X-Request-ID": "probe-1"}, trust_env=False)
        line = json.loads(server.until(r'(\{.*"request": "probe-1".*\})'))
        assert (line["method"], line["path"], line["status"]) == ("GET", "/health/live", 200)
        assert server.end() == 0
