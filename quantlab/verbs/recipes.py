"""recipes: list what can be fetched by name, and the recipes that tune tries."""

from __future__ import annotations

from dataclasses import dataclass

from quantlab.fetch import PublishedModel, catalog
from quantlab.recipe import Recipe
from quantlab.tune.ladder import ladder
from quantlab.verbs.publish import Returned


@dataclass(frozen=True)
class RecipeListing:
    """Published models by name, and the ladder's recipes in order."""

    published: tuple[PublishedModel, ...]
    ladder: tuple[Recipe, ...]


def list_recipes() -> Returned[RecipeListing]:
    """List all published models and the ladder."""
    listing = RecipeListing(tuple(catalog().values()), ladder())
    facts = {
        "published": [entry.model_dump(mode="json") for entry in listing.published],
        "ladder": [recipe.model_dump(mode="json") for recipe in listing.ladder],
    }
    return Returned(listing, facts)
