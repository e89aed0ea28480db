"""Download published models and data by name, checked by their sha256."""

from __future__ import annotations

from quantlab.fetch.catalog import PROJECTS, PublishedModel, catalog, published
from quantlab.fetch.fetcher import fetch

__all__ = ["PROJECTS", "PublishedModel", "catalog", "fetch", "published"]
