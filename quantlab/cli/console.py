"""Reporter for a terminal: messages and progress bars on stderr, bars only where it is a
terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from quantlab._util.reporter import Advance


class ConsoleReporter:
    """A Reporter that prints to a terminal. ``NO_COLOR`` and redirected output are respected."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        """Print one line to stderr."""
        if not self.quiet:
            self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Print one yellow line to stderr, also when quiet; keep it for the record."""
        self.warnings.append(text)
        self.console.print(f"Warning: {text}", style="yellow", markup=False)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """A bar with the current estimate that vanishes when done; silent when not a terminal."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        hidden = self.quiet or not self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=hidden) as bar:
            task = bar.add_task(label, total=total, note="")
            yield lambda done, note: bar.update(task, completed=done, note=note)
