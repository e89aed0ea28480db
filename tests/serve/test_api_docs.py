"""The curl commands of docs/serve.md, against a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from clients import client_of
from holdings import add_dataset, add_model, ask
from served import served
from waiting import HANGS

from quantlab.serve.api.common import PREFIX
from quantlab.serve.app import create_app
from quantlab.serve.service import Service
from quantlab.serve.tokens import Tokens

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_commands_work(sqlite_service: Service, tmp_path: Path) -> None:
    scripts = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    (script,) = (text for text in scripts if "curl" in text)
    add_model(sqlite_service, "mobilenetv2-12")
    add_dataset(sqlite_service)
    token = Tokens(sqlite_service.database).create("me", "submit")[1]
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    with served(sqlite_service) as url:
        done = subprocess.run(
            ["bash", "-ec", script],
            env={**os.environ, "SERVER": url, "TOKEN": token, "no_proxy": "*"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sqlite_service.catalog.recipe("mine") is not None
    (job,) = sqlite_service.queue.recent()
    assert job.id in done.stdout


def test_every_operation_is_on_the_page(sqlite_service: Service) -> None:
    app = create_app(sqlite_service)
    paths = client_of(app).get("/api/v1/openapi.json").json()["paths"]
    app.state.runs.close()
    assert PREFIX == "/api/v1"
    text = PAGE.read_text()
    for path in paths:
        short = re.sub(r"\{(\w+)\}", lambda m: _WORDS.get(m[1], "ID"), path.removeprefix("/api/v1"))
        assert short in text, path


_WORDS = {"name": "NAME", "model": "NAME", "path": "PATH", "run": "RUN"}


def test_events_of_a_job_that_waits_keep_the_line(sqlite_service: Service) -> None:
    """A stream of a job that says nothing begins at once."""
    import httpx

    add_model(sqlite_service)
    add_dataset(sqlite_service)
    job = ask(sqlite_service)
    with (
        served(sqlite_service) as url,
        httpx.stream(
            "GET", f"{url}/api/v1/jobs/{job.id}/events", trust_env=False, timeout=HANGS
        ) as response,
    ):
        assert response.status_code == 200
        sqlite_service.queue.cancel(job.id)
        assert any("cancelled" in line for line in response.iter_lines())
