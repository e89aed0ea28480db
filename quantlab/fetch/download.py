"""Download one file from a URL or folder.

By the standard library: pooch and requests bound neither the bytes that they take for a file of a
known size, nor the time until a host answers, and pooch asks one source only.
"""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from quantlab._util.reporter import Counted
from quantlab.errors import FetchError

if TYPE_CHECKING:
    from http.client import HTTPResponse

MAX_BYTES = 512 * 1024**2
OPEN_SECONDS = 4.0
STALL_SECONDS = 15.0
_CHUNK = 1 << 18
_AGENT = {"User-Agent": "quantlab"}


def download(
    url: str, target: Path, *, size: int, progress: Counted | None = None,
    open_seconds: float = OPEN_SECONDS,
) -> None:  # fmt: skip
    """Stream ``url`` to ``target``.

    Raises FetchError when there is no answer, it breaks off or brings more than ``size`` bytes.
    """
    done = 0
    with target.open("wb") as file, _open(url, open_seconds) as response:
        for chunk in _chunks(response):
            done += len(chunk)
            if done > size:
                raise FetchError(f"refused: it is larger than the {size} bytes expected")
            file.write(chunk)
            if progress is not None:
                progress(done, size)


def copy_from(place: str, name: str, target: Path) -> None:
    """Copy ``name`` out of a folder, or from below a base address. Raises FetchError."""
    if urlsplit(place).scheme in ("http", "https"):
        return download(f"{place.rstrip('/')}/{quote(name)}", target, size=MAX_BYTES)
    source = Path(place).expanduser() / name
    if not source.is_file():
        raise FetchError("no such file")
    if source.stat().st_size > MAX_BYTES:
        raise FetchError(f"larger than {MAX_BYTES} bytes")
    shutil.copyfile(source, target)
    return None


def _open(url: str, seconds: float) -> HTTPResponse:
    """``urlopen``, given up after ``seconds`` in all.

    Its own timeout counts anew for each address of the host and not at all while the name is
    looked up: behind a firewall that drops packets this would take minutes.
    """
    answers: queue.Queue[Any] = queue.Queue(maxsize=1)
    threading.Thread(target=_answer, args=(url, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise FetchError(f"no answer within {seconds:g} s") from None
    if isinstance(answer, Exception):
        from urllib.error import URLError

        reason = answer.reason if type(answer) is URLError else answer
        raise FetchError(f"no download: {reason}") from answer
    response: HTTPResponse = answer
    return response


def _answer(url: str, answers: queue.Queue[Any]) -> None:
    from http.client import HTTPException  # with TLS: 20 ms that only a download needs
    from urllib.request import Request, urlopen

    request = Request(url, headers=_AGENT)
    try:
        answers.put(urlopen(request, timeout=STALL_SECONDS))
    except (OSError, ValueError, HTTPException) as error:
        answers.put(error)


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    from http.client import HTTPException

    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise FetchError(f"the download broke off: {error}") from error
    if response.length:
        raise FetchError(f"the download broke off, {response.length} bytes before its end")
