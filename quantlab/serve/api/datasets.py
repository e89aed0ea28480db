"""Datasets: the images that jobs may use. Their paths are known to the operator only."""

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
    iso,
    unchanged_or,
)
from quantlab.serve.catalog import StoredDataset

router = APIRouter(prefix=f"{PREFIX}/datasets", tags=["datasets"])


class DatasetView(BaseModel):
    """A dataset."""

    name: str = Field(examples=["val1300"])
    images: int
    labelled: bool
    digest: str = Field(description="of names and labels")
    created: str


@router.get(
    "",
    summary="The datasets, by name",
    response_model=ListPage[DatasetView],
    responses=unchanged_or(),
)
async def datasets(service: ServiceOf, _: MayRead, request: Request) -> Response:
    """List all datasets."""
    return await respond(request, lambda: listed(map(_view, service.catalog.datasets())))


@router.get(
    "/{name}", summary="One dataset", response_model=DatasetView, responses=unchanged_or(404)
)
async def dataset(service: ServiceOf, _: MayRead, request: Request, name: NamePath) -> Response:
    """Get a dataset by its name."""
    return await respond(request, lambda: shown(_view(service.catalog.dataset(name))))


def _view(dataset: StoredDataset) -> DatasetView:
    return DatasetView(
        name=dataset.name,
        images=dataset.facts["images"],
        labelled=dataset.facts["labelled"],
        digest=dataset.facts["digest"],
        created=iso(dataset.created) or "",
    )
