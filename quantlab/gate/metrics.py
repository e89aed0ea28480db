"""The user's own metrics that criteria name, loaded."""

from __future__ import annotations

from quantlab.evaluate.custom import MetricFunction, load_metric
from quantlab.gate.criteria import METRIC_NAMES, Limit, Policy


def metrics_of(*criteria: Limit) -> dict[str, MetricFunction]:
    """What ``compare(metrics=...)`` needs so that the criteria can be judged. Raises RecipeError
    when a function cannot be loaded."""
    names = [c.metric for c in criteria if isinstance(c, Policy) and c.metric not in METRIC_NAMES]
    return {name: load_metric(name) for name in names}
