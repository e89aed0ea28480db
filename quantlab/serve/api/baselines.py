"""Baselines: accepted answers that a gate compares with."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from quantlab.serve.access import MayRead
from quantlab.serve.api.answers import listed, respond, shown
from quantlab.serve.api.common import (
    PREFIX,
    ListPage,
    NamePath,
    ServiceOf,
    address,
    iso,
    unchanged_or,
)
from quantlab.serve.catalog import StoredBaseline

router = APIRouter(prefix=f"{PREFIX}/baselines", tags=["baselines"])


class BaselineLinks(BaseModel):
    """Addresses: of the job that made it, and of its files by name."""

    self: str
    job: str
    files: dict[str, str]


class BaselineView(BaseModel):
    """A baseline."""

    name: str = Field(examples=["mobilenetv2"])
    job: str
    created: str
    links: BaselineLinks


@router.get(
    "",
    summary="The baselines, by name",
    response_model=ListPage[BaselineView],
    responses=unchanged_or(),
)
async def baselines(service: ServiceOf, _: MayRead, request: Request) -> Response:
    """List all baselines."""
    return await respond(request, lambda: listed(map(_view, service.catalog.baselines())))


@router.get(
    "/{name}", summary="One baseline", response_model=BaselineView, responses=unchanged_or(404)
)
async def baseline(service: ServiceOf, _: MayRead, request: Request, name: NamePath) -> Response:
    """Get a baseline by its name."""
    return await respond(request, lambda: shown(_view(service.catalog.baseline(name))))


def _view(baseline: StoredBaseline) -> BaselineView:
    job = address("jobs", baseline.job)
    return BaselineView(
        name=baseline.name,
        job=baseline.job,
        created=iso(baseline.created) or "",
        links=BaselineLinks(
            self=address("baselines", baseline.name),
            job=job,
            files={name: f"{job}/files/{name}" for name in baseline.files},
        ),
    )
