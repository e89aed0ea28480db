"""The pages of a service, as routes."""

from __future__ import annotations

from quantlab.serve.web.routes import (
    account,
    compare,
    jobs,
    monitors,
    runs,
    static,
    stock,
    submit,
    trends,
)

routes = [
    route
    for part in (static, account, runs, compare, trends, monitors, jobs, submit, stock)
    for route in part.router.routes
]
