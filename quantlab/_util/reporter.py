"""Reporter: where a verb sends messages, warnings and progress while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

Advance = Callable[[int, str], None]
"""Given how many are done, and a short note."""
Counted = Callable[[int, int], None]
"""Given how many are done, and of how many."""


@runtime_checkable
class Reporter(Protocol):
    """Receives messages and progress. ``warnings`` keeps every warning, for the record."""

    warnings: list[str]

    def say(self, text: str) -> None:
        """Print one line about what is being done."""

    def warn(self, text: str) -> None:
        """Print one line that the user should not miss."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Advance]:
        """Show progress: ``with reporter.progress("Evaluating", n) as advance``, where
        ``advance(done, note)`` sets how many are done and a short note of the current estimate."""


class NullReporter:
    """A Reporter that prints nothing and keeps its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        """Print nothing."""

    def warn(self, text: str) -> None:
        """Keep the text in ``warnings``."""
        self.warnings.append(text)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """Show no progress bar."""
        yield lambda done, note: None
