"""Deprecation warnings for old names, options and spellings (docs/versions.md)."""

from __future__ import annotations

import warnings


def warn_deprecated(
    what: str, *, since: str, removed_in: str, instead: str, stacklevel: int = 1
) -> None:
    """Warn that ``what`` is deprecated, and name what to use ``instead``.

    A FutureWarning: Python shows it to every user, once for each line that uses the old name.
    ``since`` and ``removed_in`` are versions such as ``"0.3.0"``, written out, because a test looks
    for those that are due. ``stacklevel``: 1 blames the caller of the function that calls this.
    """
    warnings.warn(
        f"{what} is deprecated since quantlab {since} and goes in {removed_in}: "
        f"use {instead} instead.",
        FutureWarning,
        stacklevel=stacklevel + 2,
    )
