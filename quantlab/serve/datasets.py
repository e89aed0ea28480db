"""Register datasets of the operator, after opening each once to count its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantlab.data.readers import open_dataset
from quantlab.serve.catalog import Catalog


def add_dataset(
    catalog: Catalog,
    name: str,
    path: Path,
    list_file: Path | None = None,
    synsets: Path | None = None,
) -> dict[str, Any]:
    """Register a dataset; returns how many images it has, and whether they are labelled.

    Raises DataError for what cannot be opened, QuantlabError for what is no name.
    """
    dataset = open_dataset(path, list_file=list_file, synsets=synsets)
    facts = {
        "images": len(dataset),
        "labelled": dataset.labels is not None,
        "digest": dataset.digest,
    }
    catalog.add_dataset(name, path, list_file, synsets, facts)
    return facts
