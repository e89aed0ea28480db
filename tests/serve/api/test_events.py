from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import uvicorn
from clients import app_of, client_of
from holdings import add_dataset, add_model, ask
from waiting import HANGS, until

from quantlab.serve.api import events as module
from quantlab.serve.db import UnavailableError
from quantlab.serve.queue import JobOutcome, Queue
from quantlab.serve.service import Service

HELLO = [("say", "Hello"), ("warn", "Careful\nnow"), ("say", "Bye \N{SNOWMAN}")]


def parsed(text: str) -> list[tuple[str, Any, str]]:
    """Kind, facts and id of each event."""
    found = []
    for block in text.replace("\r\n", "\n").strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"]), fields.get("id", "")))
    return found


def told(service: Service) -> Any:
    ask(service)
    job = service.queue.claim("w", "here")
    assert job is not None
    service.queue.tell(job, HELLO, None)
    return job


def finish(service: Service, job: Any) -> None:
    service.queue.finish(job, JobOutcome("done", 0, "out"))


def test_all_that_a_job_said_and_how_it_ended(client: Any, stocked: Service) -> None:
    job = told(stocked)
    finish(stocked, job)
    response = client.get(f"/api/v1/jobs/{job.id}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    *said, last = parsed(response.text)
    assert [(kind, facts["text"]) for kind, facts, _ in said] == HELLO
    numbers = [int(number) for *_, number in said]
    assert numbers == sorted(set(numbers))
    assert last == ("end", client.get(f"/api/v1/jobs/{job.id}").json(), "")


def test_a_stream_goes_on_where_it_was(client: Any, stocked: Service) -> None:
    job = told(stocked)
    finish(stocked, job)
    address = f"/api/v1/jobs/{job.id}/events"
    every = parsed(client.get(address).text)
    for i in range(3):
        rest = parsed(client.get(address, headers={"Last-Event-ID": every[i][2]}).text)
        assert rest == every[i + 1 :]


@pytest.mark.parametrize("number", ["x", "-1", str(2**70), ""])
def test_an_id_that_is_none(small_client: Any, number: str) -> None:
    headers = {"Last-Event-ID": number}
    assert small_client.get("/api/v1/jobs/ab/events", headers=headers).status_code == 422


def test_more_than_one_look_has_room_for(
    client: Any, stocked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    job = told(stocked)
    finish(stocked, job)
    assert len(parsed(client.get(f"/api/v1/jobs/{job.id}/events").text)) == 4


class Served:
    """A real server in a thread."""

    def __init__(self, service: Service) -> None:
        config = uvicorn.Config(app_of(service), port=0, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=HANGS)
        self.streams: module.Streams = config.app.state.streams

    def close(self) -> None:
        self.http.close()
        self.server.should_exit = True
        self.thread.join(HANGS)
        assert not self.thread.is_alive(), "the server did not end"


@pytest.fixture
def server(sqlite_service: Service) -> Iterator[Served]:
    add_model(sqlite_service)
    add_dataset(sqlite_service)
    served = Served(sqlite_service)
    yield served
    served.close()


def test_what_is_said_now_is_heard_now(server: Served, sqlite_service: Service) -> None:
    queue = sqlite_service.queue
    job = told(sqlite_service)
    with server.http.stream("GET", f"/api/v1/jobs/{job.id}/events") as response:
        lines = response.iter_lines()
        heard = []

        def hear(word: str) -> None:
            for line in lines:
                heard.append(line)
                if word in line:
                    return

        hear("Bye")
        queue.tell(job, [], {"label": "Evaluating", "total": 4, "done": 1, "note": ""})
        hear('"done": 1')
        queue.tell(job, [("say", "More")], None)
        hear("More")
        hear('"done": null')
        finish(sqlite_service, job)
        hear("end")
        assert '"state": "done"' in "".join(lines)
    assert all("id: " not in line for line in heard[-3:])


def test_who_goes_away_is_not_waited_for(server: Served, sqlite_service: Service) -> None:
    job = told(sqlite_service)
    with server.http.stream("GET", f"/api/v1/jobs/{job.id}/events") as response:
        lines = response.iter_lines()
        next(lines)
        assert server.streams.open == 1
    until(lambda: server.streams.open == 0)


def test_streams_are_bounded(
    server: Served, sqlite_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_STREAMS", 1)
    job = told(sqlite_service)
    address = f"/api/v1/jobs/{job.id}/events"
    with server.http.stream("GET", address) as response:
        lines = response.iter_lines()
        next(lines)
        refused = server.http.get(address)
        assert (refused.status_code, "retry-after" in refused.headers) == (429, True)
    until(lambda: server.streams.open == 0)
    finish(sqlite_service, job)
    assert server.http.get(address).status_code == 200


def test_a_server_that_is_told_to_end_ends_its_streams(sqlite_service: Service) -> None:
    add_model(sqlite_service)
    add_dataset(sqlite_service)
    job = told(sqlite_service)
    words = ["serve", "--no-worker", "--port", "0", "--home", str(sqlite_service.settings.home)]
    command = [sys.executable, "-m", "quantlab", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        address = next(m[0] for line in said if (m := re.search(r"http://[\d.:]+", line)))
        url = f"{address}/api/v1/jobs/{job.id}/events"
        with httpx.stream("GET", url, timeout=HANGS) as response:
            lines = response.iter_lines()
            next(lines)
            process.terminate()
            with suppress(httpx.RemoteProtocolError):
                assert not [line for line in lines if "end" in line]
        assert process.wait(HANGS) == 0


def test_a_database_that_is_away_is_waited_for(
    stocked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = told(stocked)
    finish(stocked, job)
    client, look, asked = client_of(app_of(stocked)), Queue.events, []

    def away(self: Queue, *args: Any) -> Any:
        asked.append(1)
        if len(asked) < 3:
            raise UnavailableError("away.")
        return look(self, *args)

    monkeypatch.setattr(Queue, "events", away)
    found = parsed(client.get(f"/api/v1/jobs/{job.id}/events").text)
    assert [kind for kind, *_ in found] == ["say", "warn", "say", "end"]


def test_a_stream_takes_no_thread_while_it_waits(stocked: Service) -> None:
    """As many streams as you like, and no more threads than a few."""
    job = told(stocked)
    streams = module.Streams()

    async def hear() -> int:
        said = [
            module._counted(streams, module._events_of(stocked, streams, job.id, 0))
            for _ in range(30)
        ]
        firsts = await asyncio.gather(*(anext(each) for each in said))
        assert streams.open == 30
        for each in said:
            await each.aclose()
        return len(firsts)

    before = threading.active_count()
    assert asyncio.run(hear()) == 30
    assert threading.active_count() - before <= 4
    assert streams.open == 0
