"""Commands of quantlab that go on until they are told to stop, for tests."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from waiting import HANGS, until


class Started:
    """A process, and all that it says on standard error."""

    def __init__(self, *words: object) -> None:
        command = [sys.executable, "-m", "quantlab", *map(str, words)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line

    def until(self, pattern: str) -> str:
        """Waits until it says this; what the first group found."""

        def look() -> re.Match[str] | None:
            if ended := self.process.poll() is not None:
                self._reader.join(HANGS)
            found = re.search(pattern, self.said)
            assert found or not ended, self.said
            return found

        found = until(look, lambda: self.said)
        assert found
        return found[1] if found.re.groups else found[0]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signals it; its exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(HANGS)
        finally:
            self.close()

    def close(self) -> None:
        """It is gone, however."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def started(*words: object) -> Iterator[Started]:
    """``quantlab`` with these words, gone when the block ends."""
    running = Started(*words)
    try:
        yield running
    finally:
        running.close()
