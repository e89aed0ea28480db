"""recipes: list what can be fetched by name, and the recipes that tune tries."""

from __future__ import annotations

from dataclasses import dataclass

from quantlab.fetch import PublishedModel, catalog
from quantlab.fetch.fetcher import cached_path
from quantlab.recipe import Recipe
from quantlab.tune.ladder import ladder
from quantlab.verbs.publish import Returned


@dataclass(frozen=True)
class RecipeListing:
    """Published models by name, the ladder's recipes in order, the names of what is ``here``."""

    published: tuple[PublishedModel, ...]
    ladder: tuple[Recipe, ...]
    here: frozenset[str] = frozenset()


def list_recipes() -> Returned[RecipeListing]:
    """List all published models and the ladder."""
    entries = catalog()
    here = frozenset(name for name, entry in entries.items() if cached_path(entry).exists())
    listing = RecipeListing(tuple(entries.values()), ladder(), here)
    facts = {
        "here": sorted(here),
        "published": [entry.model_dump(mode="json") for entry in listing.published],
        "ladder": [recipe.model_dump(mode="json") for recipe in listing.ladder],
    }
    return Returned(listing, facts)
