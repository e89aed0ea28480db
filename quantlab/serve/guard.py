"""Middleware for every request: authentication, rate limits, body limits, headers, audit log."""

from __future__ import annotations

import asyncio
import logging

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quantlab._util.yamlfile import MAX_BYTES
from quantlab.serve.access import Access, address, same_origin
from quantlab.serve.audit_log import SAFE, AuditLog, noteworthy
from quantlab.serve.db import UnavailableError
from quantlab.serve.problems import TooLargeError
from quantlab.serve.rates import Rates
from quantlab.serve.responses import answer
from quantlab.serve.service import Service
from quantlab.serve.tokens import Tokens

CHUNKS = "/api/v1/uploads/"
BODY_SECONDS = 30.0
"""A body that does not go on for so long is given up."""
REFUSALS_A_MINUTE = 60
"""Of one address that get a line each in the audit log; the others are counted in the server's."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; frame-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
"""Of every response that does not have its own."""
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
log = logging.getLogger("quantlab.serve")


class Guard:
    """ASGI middleware that authenticates each request (``state.caller``), limits its rate, body and
    origin, sets headers, writes the audit log, and turns every error into a problem."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        settings = service.settings
        self.app = app
        self.access = Access(Tokens(service.database), settings.requests_a_minute)
        self.audit = AuditLog(service.database)
        self.max_chunk = settings.max_chunk
        self._refusals = Rates(REFUSALS_A_MINUTE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, sent = Request(scope), _HeaderSender(send)
        request.state.caller, request.state.by_cookie = None, False
        try:
            await self._let_in(request)
            body = _BoundedBody(receive, self._most_bytes(request))
            await self.app(scope, body.receive, sent.send)
        except ClientDisconnect:
            log.info("%s: the client went away", request.url.path)
        except Exception as error:
            if sent.status:  # too late to say anything but that it is not whole
                log.exception("%s", request.url.path)
                raise
            await answer(error, request.url.path)(scope, receive, sent.send)
        finally:
            await self._note(request, sent.status)

    async def _let_in(self, request: Request) -> None:
        """Admit a request. Raises TooFast, TooLargeError, UnavailableError, HTTPException."""
        request.state.caller = await self.access.caller(request)
        bearer = "authorization" in request.headers
        if request.method not in SAFE and not bearer and not same_origin(request):
            raise HTTPException(403, "the request is not from a page of this service.")
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise HTTPException(400, "the content's length is no number.")
        most = self._most_bytes(request)
        if len(length.lstrip("0")) > len(str(most)) or int(length) > most:
            raise _too_large(most)

    def _most_bytes(self, request: Request) -> int:
        """Of a body: model files come in chunks, all else is small."""
        return self.max_chunk if request.url.path.startswith(CHUNKS) else MAX_BYTES

    async def _note(self, request: Request, status: int) -> None:
        """Write a line to the audit log if the request belongs there."""
        if not noteworthy(request.method, status):
            return
        caller, place = request.state.caller, address(request)
        action = f"{request.method} {getattr(request.scope.get('route'), 'name', '-')}"
        line = (caller.id if caller else "", place, action, request.url.path, str(status or "gone"))
        if caller is None and self._refusals.take(place):
            log.warning("not in the audit log: %s", line)
            return
        try:
            await run_in_threadpool(self.audit.add, *line)
        except UnavailableError as error:
            log.warning("not in the audit log: %s (%s)", line, error.problem)


class _HeaderSender:
    """Sends a response with the service's headers; ``status`` is 0 until it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = {name for name, _ in message["headers"]}
            more = [header for header in _RAW_HEADERS if header[0] not in own]
            message["headers"] = [*message["headers"], *more]
        await self._send(message)


class _BoundedBody:
    """Receives a request's body; raises when it exceeds so many bytes, or stops coming.

    Raises HTTPException: FastAPI lets that alone through while it reads.
    """

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most = receive, most
        self._size, self._whole = 0, False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408, "the request's body did not come.") from error
        self._size += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._size > self._most:
            raise HTTPException(413, _too_large(self._most).problem)
        return message


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(f"the request's body may have {most:,} bytes at most.")
