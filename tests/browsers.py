"""A Chromium for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect, sync_playwright
from waiting import HANGS

HANGS_MS = 1000 * HANGS
"""For ``set_default_timeout`` of each context and each page without one."""


@contextmanager
def launched(program: str) -> Iterator[Browser]:
    """The browser, until the block ends. What is expected of a page is waited for."""
    expect.set_options(timeout=HANGS_MS)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, timeout=HANGS_MS)
        yield found
        found.close()
