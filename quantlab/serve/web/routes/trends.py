"""Pages of models over runs."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from quantlab.report.plots import trend_svg
from quantlab.runs.metrics import METRICS
from quantlab.serve.access import MayRead
from quantlab.serve.api.common import NamePath, RunsOf
from quantlab.serve.web import views
from quantlab.serve.web.common import page

PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
router = APIRouter(include_in_schema=False)


@router.get("/trends")
def trends_page(request: Request, runs: RunsOf, _: MayRead) -> Response:
    """List the models that have figures."""
    return page(request, "trends.html.j2", models=runs.models())


Metrics = Annotated[list[str], Query(max_length=len(METRICS))]


@router.get("/trends/{model}")
def trend_page(
    request: Request,
    runs: RunsOf,
    _: MayRead,
    model: NamePath,
    metric: Metrics = [],  # noqa: B006
) -> Response:
    """Show one model over runs."""
    view = views.trend_view(runs.trended(model, _metrics(metric)))
    return page(
        request, "trend.html.j2", view=view, chosen=_metrics(metric), metrics=METRICS,
        query=urlencode([("metric", m) for m in _metrics(metric)]),
    )  # fmt: skip


@router.get("/trends/{model}/picture.svg")
def trend_picture(runs: RunsOf, _: MayRead, model: NamePath, metric: Metrics = []) -> Response:  # noqa: B006
    """Draw one model's figures over runs as SVG."""
    series = runs.trended(model, _metrics(metric)).series
    headers = {"Content-Security-Policy": PICTURE_POLICY}
    return Response(trend_svg(series), headers=headers, media_type="image/svg+xml")


def _metrics(given: list[str]) -> tuple[str, ...]:
    return tuple(m for m in METRICS if m in given) or ("top1", "decline", "latency", "speedup")
