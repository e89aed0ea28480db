"""Figures for other programs: github-action-benchmark's JSON, CSV, markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from quantlab._util.files import check_writable, write_whole
from quantlab.errors import QuantlabError

EXTRA = "quantlab "
"""How every entry's ``extra`` begins."""
MARKER = "<!-- quantlab bench -->"
"""The last line of a page, which no reader sees."""


@dataclass(frozen=True)
class ExportedFigure:
    """One figure. ``rate`` is the offered load in images a second; ``spread`` a standard deviation
    in the same ``unit``."""

    model: str
    batch: int
    threads: int
    provider: str
    metric: str
    unit: str
    value: float
    spread: float | None = None
    instances: int | None = None
    rate: float | None = None

    @property
    def name(self) -> str:
        """A description of the figure."""
        more = [f"{self.instances} instances"] if self.instances else []
        more += [f"{self.rate:g} images/s offered"] if self.rate else []
        return ", ".join([f"{self.model} {self.metric}", f"batch {self.batch}", *more])


def as_json(figures: Sequence[ExportedFigure], page: str) -> str:
    """The times as github-action-benchmark's tool ``customSmallerIsBetter`` reads them."""
    return smaller_is_better(
        {"name": f.name, "unit": f.unit, "value": f.value, **_range(f), "extra": _extra(f)}
        for f in figures
        if f.unit.startswith("ms")
    )


def smaller_is_better(entries: Iterable[Mapping[str, str | float]]) -> str:
    """The file of that tool: entries of ``name``, ``unit``, ``value``, perhaps ``range``, and
    ``extra``, which begins with EXTRA."""
    return json.dumps(list(entries), indent=1, ensure_ascii=False) + "\n"


def _range(f: ExportedFigure) -> dict[str, str]:
    return {} if f.spread is None else {"range": f"± {f.spread:.4g}"}


def _extra(f: ExportedFigure) -> str:
    return f"{EXTRA}bench: threads {f.threads}, provider {f.provider}"


def as_csv(figures: Sequence[ExportedFigure], page: str) -> str:
    """All figures, one a line."""
    columns = [field.name for field in fields(ExportedFigure)]
    text = io.StringIO()
    rows = csv.DictWriter(text, columns, lineterminator="\n")
    rows.writeheader()
    rows.writerows(vars(f) for f in figures)
    return text.getvalue()


def as_markdown(figures: Sequence[ExportedFigure], page: str) -> str:
    """The page that was printed, and a marker."""
    return f"{page}\n\n{MARKER}\n"


EXPORTS: dict[str, Callable[[Sequence[ExportedFigure], str], str]] = {
    ".json": as_json,
    ".csv": as_csv,
    ".md": as_markdown,
}


def check_exports(paths: Sequence[Path]) -> None:
    """Raises QuantlabError for a file that could not be written; called before the benchmark."""
    for path in paths:
        if path.suffix.lower() not in EXPORTS:
            raise QuantlabError(
                f"cannot export to {path}: its ending says no format.",
                f"Endings: {', '.join(EXPORTS)}.",
            )
        check_writable(path)


def export(path: Path, figures: Sequence[ExportedFigure], page: str) -> None:
    """Writes the file that its ending asks for. Raises OutputError."""
    write_whole(path, EXPORTS[path.suffix.lower()](figures, page))
