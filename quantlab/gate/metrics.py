"""The user's own metrics that criteria name, loaded."""

from __future__ import annotations

from quantlab.evaluate.custom import MetricFunction, load_metric
from quantlab.gate.criterion import Criterion


def metrics_of(*criteria: Criterion) -> dict[str, MetricFunction]:
    """What ``compare(metrics=...)`` needs so that the criteria can be judged. Raises RecipeError
    when a function cannot be loaded."""
    return {name: load_metric(name) for c in criteria if (name := c.metric_function) is not None}
