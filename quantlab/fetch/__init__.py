"""Published models and data by name: where they come from, and how they get here unharmed."""

from __future__ import annotations

from quantlab.fetch.catalog import PROJECTS, PublishedModel, catalog, published
from quantlab.fetch.fetcher import fetch

__all__ = ["PROJECTS", "PublishedModel", "catalog", "fetch", "published"]
