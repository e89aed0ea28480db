"""List the names that quantlab knows: recipes, project by project, and the ladder."""

from __future__ import annotations

from collections.abc import Collection

from quantlab.fetch import PROJECTS, PublishedModel
from quantlab.recipe import Recipe
from quantlab.report.formats import number, table

TO_EXPORT = "to be exported"


def recipes_summary(
    published: tuple[PublishedModel, ...], rungs: tuple[Recipe, ...], here: Collection[str] = ()
) -> str:
    """A table for each project, one for what belongs to none, and the ladder's; ``here`` are the
    names of what lies in the cache."""
    parts = []
    for project, title in PROJECTS.items():
        rows = [_recipe_row(e, here) for e in published if e.project == project]
        parts.append(f"{title}: docs/recipes/{project}.md")
        parts.append(table(["name", "pipeline", "top-1", "top-5", "model"], rows, right="  rr "))
    parts.append(
        "quantlab fetch NAME gets what can be fetched, and says how the others are to be exported."
    )
    others = [[e.name, e.kind, e.description] for e in published if e.project is None]
    steps = [[r.name, r.engine, r.format, r.ranges, f"{r.activations}{r.weights}"] for r in rungs]
    parts += ["Others:", table(["name", "kind", "what it is"], others)]
    parts += ["The ladder that tune climbs:"]
    parts += [table(["recipe", "engine", "format", "ranges", "types"], steps)]
    return "\n\n".join(parts)


def _recipe_row(e: PublishedModel, here: Collection[str]) -> list[str]:
    top1, top5 = (e.published.top1, e.published.top5) if e.published else (None, None)
    figures = [number(x, ".2f") for x in (top1, top5)]
    return [e.name, e.pipeline or "", *figures, model_words(e, here)]


def model_words(e: PublishedModel, here: Collection[str] = ()) -> str:
    """Whether a recipe's model can be had, in words."""
    if e.name in here:
        return "cached"
    if e.sources:
        return "can be fetched"
    if e.same_as:
        return f"is {e.same_as}"
    return f"made from {e.made_from}" if e.made_from else TO_EXPORT
