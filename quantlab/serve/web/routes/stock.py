"""Pages of models and datasets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from quantlab.errors import QuantlabError
from quantlab.serve.access import MayRead, MaySubmit
from quantlab.serve.api.common import PREFIX, NamePath, ServiceOf
from quantlab.serve.removal import Removal
from quantlab.serve.web import views
from quantlab.serve.web.common import ROWS, Sent, further, one, page

router = APIRouter(include_in_schema=False)


@router.get("/models")
def models_page(
    request: Request,
    service: ServiceOf,
    _: MayRead,
    after: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """List uploaded models and those that jobs have made."""
    found = service.catalog.models(before=_place(after), limit=ROWS + 1)
    older = f"{found[ROWS - 1].created!r},{found[ROWS - 1].sha256}" if len(found) > ROWS else None
    rows = [views.model_row(model) for model in found[:ROWS]]
    return page(
        request, "models.html.j2", rows=rows, older=further(request, older), api=f"{PREFIX}/models"
    )


@router.post("/models/{sha256}/delete")
def delete_model(service: ServiceOf, caller: MaySubmit, sha256: NamePath, sent: Sent) -> Response:
    """Delete one name of a model, and with the last one its file."""
    removal, name = Removal(service, caller), one(sent, "name")
    removal.model(sha256, only=name or None, cascade=bool(one(sent, "cascade")))
    return RedirectResponse("/models", 303)


def _place(after: str) -> tuple[float, str] | None:
    """Raises QuantlabError for an unknown page."""
    if not after:
        return None
    created, _, sha256 = after.partition(",")
    try:
        return float(created), sha256
    except ValueError as error:
        raise QuantlabError("there is no such part of the list.") from error


@router.get("/datasets")
def datasets_page(request: Request, service: ServiceOf, _: MayRead) -> Response:
    """List the datasets."""
    rows = [views.dataset_row(dataset) for dataset in service.catalog.datasets()]
    return page(request, "datasets.html.j2", rows=rows)
