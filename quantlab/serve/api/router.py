"""The API: the routes of all resources."""

from __future__ import annotations

from quantlab.serve.api import (
    audit,
    baselines,
    datasets,
    events,
    health,
    jobs,
    models,
    recipes,
    runs,
    trends,
    uploads,
)

routes = [
    route
    for resource in (
        health,
        uploads,
        models,
        datasets,
        recipes,
        jobs,
        events,
        runs,
        baselines,
        trends,
        audit,
    )
    for route in resource.router.routes
]
