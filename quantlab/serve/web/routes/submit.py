"""Pages that submit a job by form."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from quantlab.fetch import catalog as published
from quantlab.serve.access import MaySubmit
from quantlab.serve.api.common import ServiceOf
from quantlab.serve.queue import NotFoundError
from quantlab.serve.requests import VERBS
from quantlab.serve.service import Service
from quantlab.serve.web import forms, views
from quantlab.serve.web.common import Sent, one, page

MOST_PICKS = 500
"""Models to choose from, the newest."""
router = APIRouter(include_in_schema=False)


@router.get("/submit")
def submit_page(request: Request, _: MaySubmit) -> Response:
    """List the verbs that can be submitted."""
    about = [(verb, forms.about(verb)) for verb in VERBS]
    return page(request, "submit.html.j2", verbs=about)


@router.get("/submit/{verb}")
def form_page(request: Request, service: ServiceOf, _: MaySubmit, verb: str) -> Response:
    """Show a verb's form, filled in from the address's query."""
    given = {name: request.query_params.getlist(name) for name in request.query_params}
    return _form(request, service, verb, given, {}, secrets.token_hex(16))


@router.post("/submit/{verb}")
def submitted(
    request: Request, service: ServiceOf, caller: MaySubmit, verb: str, sent: Sent
) -> Response:
    """Submit the job, or show the form again with its errors."""
    _check_verb(verb)
    key = one(sent, "key")[:64] or secrets.token_hex(16)
    found = forms.filled(verb, sent)
    if found.request is None:
        return _form(request, service, verb, sent, found.errors, key)
    try:
        job, _ = service.submit(found.request, caller.id, f"page-{key}")
    except NotFoundError as error:
        return _form(request, service, verb, sent, {"": str(error)}, key)
    return RedirectResponse(f"/jobs/{job.id}", 303)


def _form(
    request: Request,
    service: Service,
    verb: str,
    given: forms.Given,
    errors: forms.Errors,
    key: str,
) -> Response:
    _check_verb(verb)
    catalog = service.catalog
    stock = forms.Stock(
        models=[(m.sha256, views.model_row(m).label) for m in catalog.models(limit=MOST_PICKS)],
        datasets=[
            (d.name, f"{d.name} ({views.dataset_row(d).images} images)") for d in catalog.datasets()
        ],
        recipes=[(r.name, r.name) for r in catalog.recipes()]
        + [(n, f"{n} (published)") for n in published()],
        baselines=[(b.name, b.name) for b in catalog.baselines()],
    )
    return page(
        request,
        "form.html.j2",
        status=422 if errors else 200,
        form=forms.form(verb, stock, given, errors),
        error=errors.get("", ""),
        key=key,
        stock=stock,
    )


def _check_verb(verb: str) -> None:
    if verb not in VERBS:
        raise HTTPException(404, "there is no such verb.")
