"""Every place where an int8 file breaches the rules of a target."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from quantlab.model.model import Model
from quantlab.targets import Breach, find_target


class TargetReport(BaseModel):
    """What of a file does not suit a target: ``breaches`` of its ``rules``, by rule, then in the
    graph's order."""

    model_config = ConfigDict(frozen=True)

    name: str
    target: str
    rules: tuple[str, ...]
    breaches: tuple[Breach, ...]

    @property
    def passed(self) -> bool:
        """Whether the file keeps to all rules."""
        return not self.breaches


def check_target(model: Model, name: str) -> TargetReport:
    """Hold the file to the target's rules. Nothing is run. Raises RecipeError for a target that
    there is not."""
    target = find_target(name)
    return TargetReport(
        name=model.name,
        target=target.name,
        rules=tuple(rule.name for rule in target.rules),
        breaches=target.breaches(model.proto()),
    )
