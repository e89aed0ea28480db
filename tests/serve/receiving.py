"""A receiver of webhooks on this machine, and one of e-mail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from aiosmtpd.smtp import SMTP
from waiting import HANGS

Answer = Callable[[int], tuple[int, dict[str, str]]]


class Receiving:
    """What has come: bodies and headers, in order. ``answer`` decides the status and headers of the
    request of this number."""

    def __init__(self, answer: Answer = lambda _: (200, {})) -> None:
        self.answer = answer
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.url = ""


@contextmanager
def receiving(answer: Answer = lambda _: (200, {})) -> Iterator[Receiving]:
    """A server that keeps what is posted to it."""
    found = Receiving(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            found.headers.append(dict(self.headers))
            found.paths.append(self.path)
            status, headers = found.answer(len(found.bodies) - 1)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def mailing() -> Iterator[tuple[str, list[Any]]]:
    """A mail server's URL, and the envelopes that it was given."""
    found: list[Any] = []

    class Handler:
        async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802
            found.append(envelope)
            return "250 OK"

    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    protocol = partial(SMTP, Handler(), hostname="here", loop=loop)
    begun = asyncio.run_coroutine_threadsafe(loop.create_server(protocol, "127.0.0.1", 0), loop)
    server = begun.result(HANGS)
    try:
        yield f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}", found
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
