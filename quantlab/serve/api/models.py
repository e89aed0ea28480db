"""Models: what was uploaded and what jobs have made."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from quantlab.serve.access import MayRead
from quantlab.serve.api.common import (
    PREFIX,
    Limit,
    ListPage,
    NamePath,
    ServiceOf,
    address,
    binary,
    download,
    iso,
    page,
    problems,
)
from quantlab.serve.catalog import StoredModel

router = APIRouter(prefix=f"{PREFIX}/models", tags=["models"])


class ModelLinks(BaseModel):
    """Addresses."""

    self: str
    file: str


class ModelView(BaseModel):
    """A model: its content by sha256, its name, and what kind of file it is."""

    sha256: str = Field(
        examples=["c0c3f76d93fa3fd6580652a45618618a220fced18babf65774ed169de0432ad5"]
    )
    name: str = Field(examples=["mobilenetv2-12"])
    bytes: int
    facts: dict[str, Any] = Field(description="inputs, operators, whether it is quantized")
    job: str | None = Field(description="the job that made it, null for an upload")
    created: str
    links: ModelLinks


def model_view(model: StoredModel) -> ModelView:
    """As the API shows it."""
    where = address("models", model.sha256)
    return ModelView(
        sha256=model.sha256,
        name=model.name,
        bytes=model.bytes,
        facts=model.facts,
        job=model.job,
        created=iso(model.created) or "",
        links=ModelLinks(self=where, file=f"{where}/file"),
    )


Cursor = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,12}\.[0-9]{1,9},[0-9a-f]{64}$",
        description="where the page before has ended",
    ),
]


@router.get("", summary="The models, the newest first", responses=problems())
def models(
    service: ServiceOf,
    _: MayRead,
    request: Request,
    response: Response,
    limit: Limit = 50,
    after: Cursor = None,
) -> ListPage[ModelView]:
    """List the models that jobs can use."""
    rows = service.catalog.models(before=_place(after), limit=limit + 1)
    return page(rows, limit, model_view, _cursor, request, response)


@router.get("/{name}", summary="One model", responses=problems(404))
def model(service: ServiceOf, _: MayRead, name: NamePath) -> ModelView:
    """Get a model by its sha256, or the newest of a name."""
    return model_view(service.catalog.model(name))


@router.get(
    "/{name}/file",
    summary="A model's file",
    response_class=Response,
    responses={**problems(404), **binary("The file.", "application/octet-stream")},
)
def model_file(service: ServiceOf, _: MayRead, name: NamePath) -> Response:
    """Download the model as it was uploaded: an ONNX file, or a zip of one and its external
    data."""
    found = service.catalog.model(name)
    ending = "zip" if found.facts.get("packed") else "onnx"
    kind = "application/octet-stream"
    file = f"{found.name}.{ending}"
    return download(service.objects, found.key, file, found.bytes, media_type=kind)


def _cursor(model: StoredModel) -> str:
    return f"{model.created:.9f},{model.sha256}"


def _place(after: str | None) -> tuple[float, str] | None:
    if after is None:
        return None
    created, _, sha256 = after.partition(",")
    return float(created), sha256
