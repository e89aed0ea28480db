"""Models: what was uploaded and what jobs have made."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Row

from quantlab.serve.access import MayRead, MaySubmit
from quantlab.serve.api.answers import Reply, page, respond, shown
from quantlab.serve.api.common import (
    PREFIX,
    Cascade,
    Limit,
    ListPage,
    NamePath,
    ServiceOf,
    address,
    binary,
    download,
    iso,
    problems,
    unchanged_or,
)
from quantlab.serve.catalog import StoredModel
from quantlab.serve.removal import Removal

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
    return ModelView(**_facts(model))


def _facts(model: StoredModel | Row[Any]) -> dict[str, Any]:
    """As lists show it: a ModelView without the object."""
    where = address("models", model.sha256)
    return {
        "sha256": model.sha256,
        "name": model.name,
        "bytes": model.bytes,
        "facts": model.facts,
        "job": model.job,
        "created": iso(model.created),
        "links": {"self": where, "file": f"{where}/file"},
    }


Cursor = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,12}\.[0-9]{1,9},[0-9a-f]{64}$",
        description="where the page before has ended",
    ),
]


@router.get(
    "",
    summary="The models, the newest first",
    response_model=ListPage[ModelView],
    responses=unchanged_or(),
)
async def models(
    service: ServiceOf,
    _: MayRead,
    request: Request,
    limit: Limit = 50,
    after: Cursor = None,
) -> Response:
    """List the models that jobs can use."""

    def make() -> Reply:
        rows = service.catalog.model_rows(before=_place(after), limit=limit + 1)
        return page(request, rows, limit, _facts, _cursor)

    return await respond(request, make)


@router.get("/{name}", summary="One model", response_model=ModelView, responses=unchanged_or(404))
async def model(service: ServiceOf, _: MayRead, request: Request, name: NamePath) -> Response:
    """Get a model by its sha256, or the newest of a name."""
    return await respond(request, lambda: shown(model_view(service.catalog.model(name))))


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


@router.delete("/{name}", summary="Delete a model", status_code=204, responses=problems(404, 409))
def delete_model(
    service: ServiceOf, token: MaySubmit, name: NamePath, cascade: Cascade = False
) -> None:
    """By its sha256 with all its names, else the newest of a name. Refused while a job that has not
    ended works on it, which `cascade` cancels. Another token's needs the scope admin."""
    Removal(service, token).model(name, cascade=cascade)


def _cursor(model: Row[Any]) -> str:
    return f"{model.created:.9f},{model.sha256}"


def _place(after: str | None) -> tuple[float, str] | None:
    if after is None:
        return None
    created, _, sha256 = after.partition(",")
    return float(created), sha256
