"""cache: list or remove the entries of the cache folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from quantlab._util.cache import KINDS, CacheEntry, cache_limit, entries, remove, subject, sweep
from quantlab._util.paths import cache_dir
from quantlab.verbs.options.small import CacheOptions as CacheOptions
from quantlab.verbs.publish import Returned


@dataclass(frozen=True)
class Cached:
    """Entries, each with what it is of: those there are, or those that were just removed.

    ``stuck`` is the number of those that could not be removed.
    """

    rows: tuple[tuple[CacheEntry, str], ...]
    folder: Path
    limit: int
    stuck: int = 0


def list_or_clear(spec: CacheOptions) -> Returned[Cached]:
    """List the entries of one kind or of all, or remove them. Raises QuantlabError."""
    folder, limit = cache_dir(), cache_limit()
    kinds = KINDS if spec.kind is None else (spec.kind,)
    rows = [(entry, subject(entry)) for entry in entries(folder, kinds)]
    found = len(rows)
    if spec.action == "clear":
        rows = [row for row in rows if remove(row[:1])]
        sweep(folder)
    facts = {
        "folder": str(folder),
        "limit": limit,
        "bytes": sum(entry.size for entry, _ in rows),
        "removed" if spec.action == "clear" else "entries": [_facts(*row) for row in rows],
    }
    return Returned(Cached(tuple(rows), folder, limit, stuck=found - len(rows)), facts)


def _facts(entry: CacheEntry, text: str) -> dict[str, object]:
    used = datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds")
    return {
        "kind": entry.kind,
        "key": entry.files[0].stem,
        "bytes": entry.size,
        "used": used,
        "of": text,
    }
