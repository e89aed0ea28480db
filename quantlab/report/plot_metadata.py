"""Mark plots as written by quantlab: PNG's Software, SVG's creator."""

from __future__ import annotations

CREATOR = "quantlab"
_PNG = b"tEXtSoftware\0quantlab"
_SVG = b"<!-- drawn by quantlab -->"


def marked_svg(drawn: bytes) -> bytes:
    """An SVG file with a comment behind its root element's beginning."""
    start = drawn.index(b">", drawn.index(b"<svg")) + 1
    return drawn[:start] + _SVG + drawn[start:]


def is_ours(content: bytes) -> bool:
    """Whether quantlab wrote the plot."""
    return _PNG in content[:4096] or _SVG in content[:4096]
