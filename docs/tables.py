"""Write the tables of options in docs/ anew: ``python docs/tables.py``.

Each stands between ``<!-- options: NAME -->`` and ``<!-- end -->`` and is made of what the verbs'
options declare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import BaseModel

from quantlab.verbs.config import Config, shown_default

DOCS = Path(__file__).parent
_PAGE = re.compile(r"docs/([\w/-]+\.md)")
_BLOCK = re.compile(r"(<!-- options: (\S+) -->\n).*?(<!-- end -->)", re.S)


def key_table(schema: type[BaseModel] = Config) -> str:
    """The keys of ``quantlab.yaml``, each with its default and meaning."""
    rows = []
    for name, key in schema.model_fields.items():
        inner = getattr(type(key.get_default()), "model_fields", {})
        parts = f" It holds {', '.join(f'`{part}`' for part in inner)}." if inner else ""
        default = shown_default(key)
        shown = f"`{default}`" if default else ""
        rows.append((f"`{key.alias or name}`", shown, f"{key.description}{parts}"))
    return _table(("key", "default", "meaning"), rows)


TABLES: dict[str, Callable[[], str]] = {"quantlab.yaml": key_table}


def written_anew(page: str) -> str:
    """The page with its tables made anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", page)


def pages() -> list[Path]:
    """Those that have such a table."""
    return [path for path in sorted(DOCS.rglob("*.md")) if _BLOCK.search(path.read_text())]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(map(_cell, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    plain = text.replace("|", r"\|").replace("<", "&lt;")
    return _PAGE.sub(r"[\1](\1)", plain)


if __name__ == "__main__":
    for path in pages():
        path.write_text(written_anew(path.read_text()))
