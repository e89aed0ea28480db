"""Datasets: the images that jobs may use. Their paths are known to the operator only."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from quantlab.serve.access import MayRead
from quantlab.serve.api.common import PREFIX, ListPage, NamePath, ServiceOf, iso, problems
from quantlab.serve.catalog import StoredDataset

router = APIRouter(prefix=f"{PREFIX}/datasets", tags=["datasets"])


class DatasetView(BaseModel):
    """A dataset."""

    name: str = Field(examples=["val1300"])
    images: int
    labelled: bool
    digest: str = Field(description="of names and labels")
    created: str


@router.get("", summary="The datasets, by name", responses=problems())
def datasets(service: ServiceOf, _: MayRead) -> ListPage[DatasetView]:
    """List all datasets."""
    return ListPage(items=[_view(each) for each in service.catalog.datasets()], next=None)


@router.get("/{name}", summary="One dataset", responses=problems(404))
def dataset(service: ServiceOf, _: MayRead, name: NamePath) -> DatasetView:
    """Get a dataset by its name."""
    return _view(service.catalog.dataset(name))


def _view(dataset: StoredDataset) -> DatasetView:
    return DatasetView(
        name=dataset.name,
        images=dataset.facts["images"],
        labelled=dataset.facts["labelled"],
        digest=dataset.facts["digest"],
        created=iso(dataset.created) or "",
    )
