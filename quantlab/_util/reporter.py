"""How a job speaks while it works: results are returned, never said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

Advance = Callable[[int, str], None]


@runtime_checkable
class Reporter(Protocol):
    """Where a job's words and progress go. ``warnings`` keeps every warning, for the record."""

    warnings: list[str]

    def say(self, text: str) -> None:
        """One line about what is being done."""

    def warn(self, text: str) -> None:
        """One line the user should not miss."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Advance]:
        """``with talk.progress("Evaluating", n) as advance``: ``advance(done, note)`` sets how many
        are done and a short note of the current estimate."""


class NullReporter:
    """A Reporter that says nothing and remembers its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        """Nothing is said."""

    def warn(self, text: str) -> None:
        """Kept in ``warnings``."""
        self.warnings.append(text)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """No bar."""
        yield lambda done, note: None
