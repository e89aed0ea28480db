"""Styles and scripts of the pages, by name. No other file is served."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from quantlab.report.html import asset as of_report

_KINDS = {".css": "text/css", ".js": "text/javascript"}
HTMX = "vendor/htmx.min.js"
"""Comes into the package when that is built (hatch_build.py); an editable install may be without
it, and then the pages do not refresh themselves."""
_OWN = ("pages.css", "pages.js", HTMX)


@dataclass(frozen=True)
class Asset:
    """A file; ``digest`` is of its content."""

    content: bytes
    kind: str
    digest: str


@cache
def assets() -> dict[str, Asset]:
    """All there are, by name. The report's own style and script are the pages' too."""
    return dict(_found())


def address(name: str) -> str:
    """Where an asset is served: another content has another address."""
    return f"/static/{name}?{assets()[name].digest}"


def _found() -> Iterator[tuple[str, Asset]]:
    for name in ("report.css", "report.js"):
        yield name, _asset(name, of_report(name).encode())
    folder = resources.files("quantlab.serve.web") / "static"
    for name in _OWN:
        file = folder.joinpath(*name.split("/"))
        if file.is_file():
            yield name, _asset(name, file.read_bytes())


def _asset(name: str, content: bytes) -> Asset:
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Asset(content, _KINDS[PurePosixPath(name).suffix], digest)
