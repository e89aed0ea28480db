"""HTTP client for the part of the service's REST interface that the command line uses."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
from httpx_sse import SSEError, connect_sse

from quantlab._util.files import atomic_path
from quantlab.errors import QuantlabError

PREFIX = "/api/v1"
PATIENCE = 60.0
"""Seconds for which a server may be away before the client gives up."""
PAUSE = 0.5
"""Seconds before a server that was away is asked again."""
SECONDS_TO_ANSWER = 130.0
"""A model is looked at before its upload is answered."""
_PASSING = (502, 503, 504)
Progress = Callable[[int, int], None]


class Api:
    """A connection, as a context. All methods raise QuantlabError, with the server's message if it
    answered."""

    def __init__(
        self, url: str, token: str | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise QuantlabError(f"{url} is no server.", "Such as http://127.0.0.1:8765")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url.rstrip("/")
        self._met = False
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(SECONDS_TO_ANSWER, connect=10),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        """The JSON at a path below /api/v1."""
        return self._ask("GET", path).json()

    def upload(self, file: Path, progress: Progress | None = None) -> dict[str, Any]:
        """The model of the service that this file is; sent only where it is not known there."""
        size, name = file.stat().st_size, file.name
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
            facts = {"name": name, "bytes": size, "sha256": sha256}
            begun = self._ask("POST", "/uploads", json=facts)
            if begun.status_code == httpx.codes.OK:
                known: dict[str, Any] = begun.json()["model"]
                return known
            upload = begun.json()
            opened.seek(sent := 0)
            while chunk := opened.read(upload["max_chunk"]):
                self._ask("PUT", f"/uploads/{upload['id']}", params={"offset": sent}, content=chunk)
                sent += len(chunk)
                if progress is not None:
                    progress(sent, size)
        model: dict[str, Any] = self._ask("POST", f"/uploads/{upload['id']}/complete").json()
        return model

    def put_recipe(self, name: str, text: str) -> None:
        """Store a recipe under a name."""
        self._ask("PUT", f"/recipes/{quote(name)}", content=text.encode())

    def submit(self, request: Mapping[str, Any], key: str) -> dict[str, Any]:
        """The job; the same key again is the same job."""
        headers = {"Idempotency-Key": key}
        job: dict[str, Any] = self._ask("POST", "/jobs", json=request, headers=headers).json()
        return job

    def delete(self, kind: str, name: str, *, cascade: bool = False) -> None:
        """Delete one of ``models``, ``jobs``, ``runs``, ``recipes``, ``baselines`` or ``uploads``;
        ``cascade``: with what hangs on it. Raises QuantlabError that names what does."""
        params = {"cascade": "true"} if cascade else {}
        self._ask("DELETE", f"/{kind}/{quote(name)}", params=params)

    def cancel(self, job: str) -> None:
        """Ask the server to cancel a job."""
        self._ask("POST", f"/jobs/{job}/cancel")

    def events(self, job: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The job's events, as kinds and facts, until its ``end``; continues after the last one
        when the connection breaks."""
        last, heard = "", time.monotonic()
        while True:
            try:
                for event in self._stream(job, last):
                    last, heard = event.id or last, time.monotonic()
                    if not event.data:  # only how soon to ask again
                        continue
                    yield event.event, event.json()
                    if event.event == "end":
                        return
            except (httpx.TransportError, SSEError, _TransientError) as error:
                if time.monotonic() - heard > PATIENCE:
                    raise self._away(error) from error
            time.sleep(PAUSE)

    def _stream(self, job: str, last: str) -> Iterator[Any]:
        headers = {"Last-Event-ID": last} if last else {}
        path = f"{PREFIX}/jobs/{job}/events"
        with connect_sse(self._http, "GET", path, headers=headers) as source:
            if source.response.status_code != httpx.codes.OK:
                source.response.read()
                _check(source.response)
            yield from source.iter_sse()

    def download(self, job: str, path: str, target: Path) -> None:
        """Download one file of a job, completely or not at all."""
        url = f"{PREFIX}/jobs/{job}/files/{quote(path)}"
        try:
            with atomic_path(target) as temporary, self._http.stream("GET", url) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    _check(response)
                with temporary.open("wb") as file:
                    for piece in response.iter_bytes():
                        file.write(piece)
        except httpx.TransportError as error:
            raise self._away(error) from error

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer. A server that has answered before and is away for a moment is asked again:
        all that is asked may be asked twice."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                response = self._http.request(method, PREFIX + path, **options)
                self._met = True
                _check(response)
                return response
            except (httpx.TransportError, _TransientError) as error:
                if not self._met or time.monotonic() > end:
                    raise self._away(error) from error
            time.sleep(PAUSE)

    def _away(self, error: Exception) -> QuantlabError:
        reason = str(error) or type(error).__name__
        return QuantlabError(
            f"the server {self.url} does not answer: {reason}.", "Is it running? Try again later."
        )


class _TransientError(Exception):
    """The server answers that it is unavailable for now."""


def _check(response: httpx.Response) -> None:
    """Raises QuantlabError with the words of a problem (RFC 9457)."""
    if response.is_success:
        return
    try:
        problem = response.json()
        detail = str(problem.get("detail") or problem.get("title"))
        remedy = str(problem.get("remedy") or "")
    except (ValueError, AttributeError):
        detail, remedy = f"the server answered {response.status_code}.", ""
    if response.status_code in _PASSING:
        raise _TransientError(detail)
    raise QuantlabError(detail, remedy)
