"""Front: the placements between a recipe's own and fp32, from fast to accurate. Pure."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from quantlab.quantize.placement import FrontPoint
from quantlab.recipe import Recipe


class Front(BaseModel):
    """Placements of the ``start`` recipe, which is the first, the fastest first; each has less
    predicted error than the one before and takes the least predicted time that this error
    allows."""

    model_config = ConfigDict(frozen=True)

    start: Recipe
    points: tuple[FrontPoint, ...]

    def recipe(self, number: int) -> Recipe:
        """The start with the nodes of one of the points left in fp32 as well."""
        if number == 0:
            return self.start
        exclude = {*self.start.exclude, *self.points[number].exclude}
        name = f"{self.start.name}-front-{number}"
        return self.start.model_copy(update={"exclude": tuple(sorted(exclude)), "name": name})

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """Those of all points."""
        return tuple(self.recipe(number) for number in range(len(self.points)))

    def after(self, number: int) -> int:
        """The next point with at most half of this one's error, else the last."""
        half, last = self.points[number].error / 2, len(self.points) - 1
        return next((i for i in range(number + 1, last) if self.points[i].error <= half), last)
