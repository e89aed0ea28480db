"""Uploads: a model file, chunk by chunk."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from quantlab.serve.access import MaySubmit
from quantlab.serve.api.common import PREFIX, Key, ServiceOf, problems
from quantlab.serve.api.models import ModelView, model_view
from quantlab.serve.removal import Removal
from quantlab.serve.uploads import Upload, Uploads
from quantlab.verbs.options.option import Name

router = APIRouter(prefix=f"{PREFIX}/uploads", tags=["uploads"])
_RAW = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {}}}}}


class UploadRequest(BaseModel):
    """The name, size and sha256 of a file to upload."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(description="the model's name")
    bytes: int = Field(ge=1, le=2**40, description="the whole file", examples=[13964571])
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="the whole file's",
        examples=["c0c3f76d93fa3fd6580652a45618618a220fced18babf65774ed169de0432ad5"],
    )


class UploadView(BaseModel):
    """An unfinished upload."""

    id: str = Field(examples=["8c5c2f1d9e0a4b37"])
    received: int = Field(description="bytes from the beginning; go on there")
    bytes: int = Field(description="the whole file")
    max_chunk: int = Field(description="bytes that one request may have")


class KnownUpload(BaseModel):
    """A file that the service has already."""

    model: ModelView


async def _uploads(request: Request) -> Uploads:
    uploads: Uploads = request.app.state.uploads
    return uploads


UploadsOf = Annotated[Uploads, Depends(_uploads)]


async def _chunk(request: Request, service: ServiceOf, _: MaySubmit) -> AsyncIterator[Path]:
    """The request's body as a file; not held in memory."""
    work = service.settings.work
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix="chunk-", dir=work) as file:
        async for piece in request.stream():
            file.write(piece)
        file.flush()
        yield Path(file.name)


@router.post(
    "",
    summary="Begin an upload",
    status_code=201,
    responses={200: {"model": KnownUpload, "description": "It is known."}, **problems()},
)
def begin(
    uploads: UploadsOf, service: ServiceOf, token: MaySubmit, asked: UploadRequest, answer: Response
) -> UploadView | KnownUpload:
    """Begin an upload. A file whose content the service has is not sent again; it gets the name,
    though."""
    found = uploads.begin(token.id, asked.name, asked.bytes, asked.sha256)
    if isinstance(found, Upload):
        return _view(found, service)
    answer.status_code = 200
    return KnownUpload(model=model_view(found))


@router.get("/{upload}", summary="How far an upload is", responses=problems(404))
def upload(uploads: UploadsOf, service: ServiceOf, token: MaySubmit, upload: Key) -> UploadView:
    """Get an upload and the offset at which to continue."""
    return _view(uploads.get(token.id, upload), service)


@router.put(
    "/{upload}", summary="Send a chunk", responses=problems(404, 408, 409), openapi_extra=_RAW
)
def put_chunk(
    uploads: UploadsOf,
    service: ServiceOf,
    token: MaySubmit,
    upload: Key,
    offset: Annotated[int, Query(ge=0, le=2**40, description="of its first byte in the file")],
    chunk: Annotated[Path, Depends(_chunk)],
) -> UploadView:
    """Upload a chunk, which is the body. A chunk may come again; none may leave a gap."""
    return _view(uploads.put(token.id, upload, offset, chunk), service)


@router.post(
    "/{upload}/complete",
    summary="Make it a model",
    status_code=201,
    responses=problems(404, 409),
)
def complete(uploads: UploadsOf, token: MaySubmit, upload: Key) -> ModelView:
    """Checks the content's sha256 and, in a confined process, whether it is a model that may be
    used. What is not, is forgotten."""
    return model_view(uploads.complete(token.id, upload))


@router.delete("/{upload}", summary="Delete an upload", status_code=204, responses=problems(404))
def delete_upload(service: ServiceOf, token: MaySubmit, upload: Key) -> None:
    """Give up an upload; a model that it has become stays."""
    Removal(service, token).upload(upload)


def _view(upload: Upload, service: ServiceOf) -> UploadView:
    return UploadView(
        id=upload.id,
        received=upload.received,
        bytes=upload.bytes,
        max_chunk=service.settings.max_chunk,
    )
