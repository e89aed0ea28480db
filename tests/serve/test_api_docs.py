"""The curl commands of docs/serve.md, against a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clients import client_of
from holdings import add_dataset, add_model, ask
from served import served
from waiting import HANGS

from quantlab.serve.alerts import Alert, body_of, signature
from quantlab.serve.api.common import PREFIX
from quantlab.serve.app import create_app
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.tokens import Scope, Tokens
from quantlab.serve.watching import Watching

PAGE = Path(__file__).parents[2] / "docs" / "serve.md"


def scripts() -> list[str]:
    """The page's blocks of curl commands: of the API, of watching."""
    found = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return [text for text in found if "curl" in text]


def ran(script: str, service: Service, folder: Path, scope: Scope) -> str:
    """What a script's commands answer, each of which has succeeded."""
    token = Tokens(service.database).create("me", scope)[1]
    with served(service) as url:
        done = subprocess.run(
            ["bash", "-ec", script],
            env={**os.environ, "SERVER": url, "TOKEN": token, "no_proxy": "*"},
            cwd=folder,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_commands_work(sqlite_service: Service, tmp_path: Path) -> None:
    script, _ = scripts()
    add_model(sqlite_service, "mobilenetv2-12")
    add_dataset(sqlite_service)
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    said = ran(script, sqlite_service, tmp_path, "submit")
    assert sqlite_service.catalog.recipe("mine") is not None
    (job,) = sqlite_service.queue.recent()
    assert job.id in said


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_commands_of_watching_work(tmp_path: Path) -> None:
    _, script = scripts()
    settings = Settings(home=tmp_path / "home", alert_hosts=("hooks.example.org",))
    with Service.open(settings) as service:
        for seed, name in enumerate(("mobilenetv2-12", "mobilenetv2-12.int8")):
            add_model(service, name, seed)
        add_dataset(service)
        said = ran(script, service, tmp_path, "admin")
        watching = Watching(service.database)
        assert watching.receiver("team").secret in said
        (monitor,) = watching.monitors()
        assert (monitor.receivers, monitor.enabled, monitor.asked) == (("team",), False, True)


def test_the_receiver_s_code_takes_each_alert_once() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)
    alert = Alert(7, "verdict", "nightly", "Words.", "pass", "fail", {}, False, time.time())
    body, known = body_of(alert, "webhook", time.time()), set[int]()
    take = names["alert_of"]
    assert take(body, signature("another", body), "key", known) is None
    assert take(body + b" ", signature("key", body), "key", known) is None
    assert take(body, signature("key", body), "key", known)["monitor"] == "nightly"
    assert take(body, signature("key", body), "key", known) is None, "it is sent again"
    old = body_of(replace(alert, number=8), "webhook", time.time() - 3600)
    assert take(old, signature("key", old), "key", known) is None


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
