"""List the names that quantlab knows: recipes, project by project, and the ladder."""

from __future__ import annotations

from quantlab.fetch import PROJECTS, PublishedModel
from quantlab.recipe import Recipe
from quantlab.report.formats import number, table

NOT_HERE = "model not available here"


def recipes_summary(published: tuple[PublishedModel, ...], rungs: tuple[Recipe, ...]) -> str:
    """A table for each project, one for what belongs to none, and the ladder's."""
    parts = []
    for project, title in PROJECTS.items():
        rows = [_recipe_row(e) for e in published if e.project == project]
        parts.append(f"{title}: docs/recipes/{project}.md")
        parts.append(table(["name", "pipeline", "top-1", "top-5", "model"], rows, right="  rr "))
    parts.append(
        "Of a model that is not available here, quantlab fetch NAME says how to export it."
    )
    others = [[e.name, e.kind, e.description] for e in published if e.project is None]
    steps = [[r.name, r.engine, r.format, r.ranges, f"{r.activations}{r.weights}"] for r in rungs]
    parts += ["Others:", table(["name", "kind", "what it is"], others)]
    parts += ["The ladder that tune climbs:"]
    parts += [table(["recipe", "engine", "format", "ranges", "types"], steps)]
    return "\n\n".join(parts)


def _recipe_row(e: PublishedModel) -> list[str]:
    top1, top5 = (e.published.top1, e.published.top5) if e.published else (None, None)
    figures = [number(x, ".2f") for x in (top1, top5)]
    return [e.name, e.pipeline or "", *figures, model_words(e)]


def model_words(e: PublishedModel) -> str:
    """Whether a recipe's model can be had, in words."""
    if e.sources:
        return "fetched"
    if e.same_as:
        return f"is {e.same_as}"
    return f"made from {e.made_from}" if e.made_from else NOT_HERE
