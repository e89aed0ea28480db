"""The API: the routes of all resources."""

from __future__ import annotations

from quantlab.serve.api import (
    alerts,
    audit,
    baselines,
    datasets,
    events,
    health,
    jobs,
    models,
    monitors,
    operations,
    recipes,
    runs,
    trends,
    uploads,
)

routes = [
    route
    for resource in (
        health,
        operations,
        uploads,
        models,
        datasets,
        recipes,
        jobs,
        events,
        runs,
        baselines,
        trends,
        monitors,
        alerts,
        audit,
    )
    for route in resource.router.routes
]
