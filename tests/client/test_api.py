"""The client's side of the API, against a server made of a function."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from quantlab.client.api import Api
from quantlab.errors import QuantlabError

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.client.api.PAUSE", 0.0)
    monkeypatch.setattr("quantlab.client.api.PATIENCE", 0.2)


def api(answer: Answer, token: str | None = "secret") -> Api:
    return Api("http://server:1/", token, transport=httpx.MockTransport(answer))


def problem(status: int, **facts: str) -> httpx.Response:
    return httpx.Response(status, json=facts, headers={"content-type": "application/problem+json"})


def test_what_is_no_server() -> None:
    with pytest.raises(QuantlabError, match="ftp://x is no server"):
        Api("ftp://x")


def test_the_token_goes_along() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"items": []})

    with api(answer) as server:
        assert server.get("/datasets") == {"items": []}
    with api(answer, None) as server:
        server.get("/datasets")
    assert str(asked[0].url) == "http://server:1/api/v1/datasets"
    assert asked[0].headers["authorization"] == "Bearer secret"
    assert "authorization" not in asked[1].headers


def test_problems_are_said_in_the_server_s_words() -> None:
    with (
        api(
            lambda _: problem(404, title="Not Found", detail="no job x.", remedy="Look.")
        ) as server,
        pytest.raises(QuantlabError) as error,
    ):
        server.get("/jobs/x")
    assert (error.value.problem, error.value.remedy) == ("no job x.", "Look.")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b'"x"'])
def test_answers_that_are_no_problems(body: bytes) -> None:
    with (
        api(lambda _: httpx.Response(418, content=body)) as server,
        pytest.raises(QuantlabError, match="the server answered 418"),
    ):
        server.get("/jobs/x")


def test_a_server_that_is_away_for_a_moment_is_asked_again() -> None:
    answers = [
        httpx.Response(200, json=1),
        problem(503, detail="the database does not answer."),
        httpx.ConnectError("refused"),
        httpx.Response(200, json=2),
    ]

    def answer(_: httpx.Request) -> httpx.Response:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    with api(answer) as server:
        assert [server.get("/x"), server.get("/x")] == [1, 2]


def test_a_server_that_was_never_there_is_not_waited_for() -> None:
    calls: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        calls.append(1)
        raise httpx.ConnectError("refused")

    with api(answer) as server, pytest.raises(QuantlabError, match="does not answer: refused"):
        server.get("/x")
    assert len(calls) == 1


def test_a_server_that_stays_away_is_given_up() -> None:
    with (
        api(lambda _: problem(503, detail="the database is away")) as server,
        pytest.raises(QuantlabError, match="does not answer: the database is away"),
    ):
        server.get("/x")


class Uploads:
    """A server that takes uploads, and knows one model."""

    def __init__(self, known: str = "") -> None:
        self.known, self.chunks, self.facts = known, dict[int, bytes](), dict[str, Any]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1/uploads")
        if not path:
            self.facts = json.loads(request.content)
            if self.facts["sha256"] == self.known:
                return httpx.Response(200, json={"model": {"sha256": self.known}})
            return httpx.Response(201, json={"id": "u1", "received": 0, "max_chunk": 4})
        if path == "/u1":
            self.chunks[int(request.url.params["offset"])] = request.content
            return httpx.Response(200, json={"received": 0})
        assert path == "/u1/complete"
        return httpx.Response(201, json={"sha256": self.facts["sha256"]})


def test_a_model_is_sent_in_chunks(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"0123456789")
    sha256 = hashlib.sha256(b"0123456789").hexdigest()
    uploads, told = Uploads(), list[tuple[int, int]]()
    with api(uploads) as server:
        assert server.upload(file, lambda *done: told.append(done)) == {"sha256": sha256}
    assert uploads.facts == {"name": "m.onnx", "bytes": 10, "sha256": sha256}
    assert uploads.chunks == {0: b"0123", 4: b"4567", 8: b"89"}
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_a_known_model_is_not_sent(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"x")
    uploads = Uploads(hashlib.sha256(b"x").hexdigest())
    with api(uploads) as server:
        assert server.upload(file)["sha256"] == uploads.known
    assert not uploads.chunks


def sse(*events: str) -> httpx.Response:
    return httpx.Response(
        200, content="".join(events).encode(), headers={"content-type": "text/event-stream"}
    )


def test_events_go_on_where_they_were() -> None:
    first = sse('id: 7\nevent: say\ndata: {"text": "one"}\n\n', ": ping\n\n", "retry: 100\n\n")
    second = sse('id: 8\nevent: warn\ndata: {"text": "two"}\n\n', 'event: end\ndata: {"id": 1}\n\n')
    answers, asked = [first, problem(503, detail="later"), second], list[str | None]()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id"))
        return answers.pop(0)

    with api(answer) as server:
        assert list(server.events("j")) == [
            ("say", {"text": "one"}),
            ("warn", {"text": "two"}),
            ("end", {"id": 1}),
        ]
    assert asked == [None, "7", "7"]


def test_events_of_no_job() -> None:
    with (
        api(lambda _: problem(404, detail="there is no job j.")) as server,
        pytest.raises(QuantlabError, match="there is no job j"),
    ):
        list(server.events("j"))


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        def content() -> Any:
            yield b"half"
            raise httpx.ReadError("gone")

        return httpx.Response(200, content=content())

    with api(broken) as server, pytest.raises(QuantlabError, match="gone"):
        server.download("j", "a b/c.md", tmp_path / "c.md")
    assert list(tmp_path.iterdir()) == []
    with api(lambda request: httpx.Response(200, content=request.url.raw_path)) as server:
        server.download("j", "a b/c.md", tmp_path / "new" / "c.md")
    assert (tmp_path / "new" / "c.md").read_bytes() == b"/api/v1/jobs/j/files/a%20b/c.md"
