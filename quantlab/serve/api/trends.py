"""Trends: a model's figures over runs, and where their level changed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from quantlab.runs.metrics import METRICS
from quantlab.runs.trend import Series
from quantlab.serve.access import MayRead
from quantlab.serve.api.answers import listed, respond, shown
from quantlab.serve.api.common import (
    PREFIX,
    ListPage,
    NamePath,
    RunsOf,
    address,
    unchanged_or,
)
from quantlab.stats.paired import Interval
from quantlab.verbs.runs import Metric, Trended

router = APIRouter(prefix=f"{PREFIX}/trends", tags=["trends"])


class TrendLinks(BaseModel):
    """Addresses."""

    self: str


class Measured(BaseModel):
    """A model with measured figures."""

    model: str = Field(examples=["mobilenetv2-12.int8"])
    links: TrendLinks


class PointView(BaseModel):
    """One run's figure, with its 95% interval where it is known."""

    run: str
    started: str
    sha256: str
    value: float
    interval: tuple[float, float] | None


class ChangeView(BaseModel):
    """The figure at ``index`` is the first after the change; ``before`` and ``after`` are means,
    ``cause`` what else changed with that run, where that is known."""

    index: int
    run: str
    before: float
    after: float
    p: float
    cause: str


class SeriesView(BaseModel):
    """Figures of one metric under the same conditions, the oldest first."""

    metric: str
    conditions: str
    points: list[PointView]
    changes: list[ChangeView]
    note: str = Field(description="why no change could be looked for, else empty")


class TrendView(BaseModel):
    """A model over runs."""

    model: str
    series: list[SeriesView]


@router.get(
    "",
    summary="The models that have figures",
    response_model=ListPage[Measured],
    responses=unchanged_or(),
)
async def trends(found: RunsOf, _: MayRead, request: Request) -> Response:
    """List the models that have figures, by name."""
    return await respond(request, lambda: listed(map(_measured, found.models())))


@router.get(
    "/{model}", summary="A model over runs", response_model=TrendView, responses=unchanged_or(404)
)
async def trend(
    found: RunsOf,
    _: MayRead,
    request: Request,
    model: NamePath,
    metric: Annotated[
        list[Metric] | None, Query(max_length=len(METRICS), description="default: all")
    ] = None,
) -> Response:
    """Get a model's figures over runs. Shares are fractions, latencies milliseconds a batch, KL in
    nats."""
    return await respond(
        request, lambda: shown(_view(found.trended(model, metric or METRICS))), lasting=False
    )


def _measured(name: str) -> Measured:
    return Measured(model=name, links=TrendLinks(self=address("trends", name)))


def _view(trended: Trended) -> TrendView:
    return TrendView(
        model=trended.model, series=[_series(each, trended) for each in trended.series]
    )


def _series(series: Series, trended: Trended) -> SeriesView:
    points = series.points
    return SeriesView(
        metric=series.metric,
        conditions=series.conditions,
        points=[
            PointView(
                run=point.folder,
                started=point.started,
                sha256=point.sha256,
                value=point.value,
                interval=_ends(point.interval),
            )
            for point in points
        ],
        changes=[
            ChangeView(
                index=change.index,
                run=points[change.index].folder,
                before=change.before,
                after=change.after,
                p=change.p,
                cause=trended.causes.get(
                    (points[change.index - 1].folder, points[change.index].folder), ""
                ),
            )
            for change in series.changes
        ],
        note=series.note,
    )


def _ends(interval: Interval | None) -> tuple[float, float] | None:
    return None if interval is None else (interval.low, interval.high)
