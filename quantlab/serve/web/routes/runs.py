"""Pages of runs: the list, one run, picking a trial's file."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from quantlab.runs.index import Filter
from quantlab.serve.access import MayRead, MaySubmit
from quantlab.serve.api.common import PREFIX, RunName, RunsOf, ServiceOf
from quantlab.serve.removal import Removal
from quantlab.serve.requests import VERBS
from quantlab.serve.service import Service
from quantlab.serve.web import views
from quantlab.serve.web.common import ROWS, Sent, Text, further, one, page

TO_COMPARE = 200
"""Runs to compare another one with."""
router = APIRouter(include_in_schema=False)


@router.get("/")
def home(_: MayRead) -> Response:
    """Redirect to the list of runs."""
    return RedirectResponse("/runs", 303)


@router.get("/runs")
def runs_page(
    request: Request,
    service: ServiceOf,
    runs: RunsOf,
    _: MayRead,
    verb: Text = "",
    model: Text = "",
    after: Text = "",
) -> Response:
    """List runs and verdicts, the newest first."""
    wanted = Filter(verb=verb or None, model=model or None, limit=ROWS + 1, after=after or None)
    found = runs.entries(wanted)
    more = found[ROWS - 1].folder if len(found) > ROWS else None
    return page(
        request,
        "runs.html.j2",
        rows=[views.run_row(entry) for entry in found[:ROWS]],
        verb=verb,
        model=model,
        after=after,
        older=further(request, more),
        verbs=VERBS,
        models=runs.models(),
        steps=None if found or verb or model or after else _steps(service),
    )


def _steps(service: Service) -> dict[str, bool]:
    """The steps to a first run, and which of them are done."""
    return {
        "dataset": bool(service.catalog.datasets()),
        "model": bool(service.catalog.models(limit=1)),
        "job": bool(service.queue.recent(limit=1)),
    }


@router.get("/runs/{run}")
def run_page(
    request: Request, service: ServiceOf, runs: RunsOf, caller: MayRead, run: RunName
) -> Response:
    """Show one run."""
    stored = runs.get(run)
    view = views.run_view(stored)
    others = [e for e in runs.entries(Filter(limit=TO_COMPARE)) if e.folder != run]
    files = [row.sha256 for row in view.trials if row.sha256]
    return page(
        request,
        "run.html.j2",
        view=view,
        others=sorted(map(views.run_row, others), key=lambda row: row.model != view.row.model),
        picked={sha: views.model_row(m) for sha, m in service.catalog.known(files).items()},
        may_delete=caller.allows("submit") and caller.owns(stored.job.token),
        original=_original(service, view),
        api=f"{PREFIX}/runs/{run}",
    )


def _original(service: Service, view: views.RunOnPage) -> str | None:
    """The sha256 of the fp32 model that a tune began with, None for another verb."""
    if not view.trials:
        return None
    models = service.queue.get(view.job).inputs.get("models")
    return str(models[0]["sha256"]) if models else None


@router.post("/runs/{run}/delete")
def delete_run(service: ServiceOf, caller: MaySubmit, run: RunName, sent: Sent) -> Response:
    """Delete a run; its job stays."""
    Removal(service, caller).run(run, cascade=bool(one(sent, "cascade")))
    return RedirectResponse("/runs", 303)


@router.post("/runs/{run}/pick")
def pick(runs: RunsOf, caller: MaySubmit, run: RunName, sent: Sent) -> Response:
    """Make a trial's file a model."""
    digest = one(sent, "trial")
    runs.pick(run, digest, caller.id)
    return RedirectResponse(f"/runs/{run}#t-{digest}", 303)
