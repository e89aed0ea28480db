"""Execution: the settings of an evaluation: threads, batch size, provider, executor."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quantlab.errors import QuantlabError
from quantlab.runtime.providers import CPU


@dataclass(frozen=True)
class Execution:
    """``threads`` are the cores to use, 0 all of them; ``batch`` and ``split`` (calls side by side,
    threads of each) settle what is otherwise tried. These change no answer; ``providers`` may, and
    so may ``fold``, which lets the model itself normalize the pixels.
    """

    threads: int = 0
    batch: int | None = None
    split: tuple[int, int] | None = None
    providers: tuple[str, ...] = CPU
    fold: bool = False


ALL_CORES = Execution()
"""The usual: the CPU, all cores, everything tried."""


def parse_split(text: str) -> tuple[int, int]:
    """(calls, threads) of ``4x2``: four calls side by side, two threads each.

    Raises QuantlabError.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", text.strip())
    if found is None:
        raise QuantlabError(
            f"--split is CALLSxTHREADS, such as 4x2, not {text!r}.", "Or leave it out."
        )
    return int(found[1]), int(found[2])
