"""For whoever runs the service: metrics, and whether a server lives and is ready."""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.security import SecurityScopes
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from quantlab.errors import OutputError
from quantlab.serve.access import authorized
from quantlab.serve.api.common import ServiceOf, binary, problems
from quantlab.serve.db import UnavailableError
from quantlab.serve.metrics import Metrics
from quantlab.serve.problems import MEDIA_TYPE, Problem, WrongField
from quantlab.serve.service import Service

LIVE, READY, METRICS = "/health/live", "/health/ready", "/metrics"
RETRY_SECONDS = "2"
READY_SECONDS = 1.0
"""How long a probe's answer is given again: it needs no token."""
router = APIRouter(tags=["operations"], include_in_schema=False)


class Live(BaseModel):
    """This process answers."""

    status: Literal["ok"] = "ok"


@router.get(LIVE, summary="Whether this process answers")
async def live() -> Live:
    """Answer, whatever database and store do. Needs no token."""
    return Live()


@router.get(
    READY, summary="Whether database and store answer", responses=problems(open_to_all=True)
)
async def ready(request: Request, service: ServiceOf) -> Response:
    """200 where both answer; 503 and which of them does not. Needs no token."""
    state = request.app.state
    seen, missing = getattr(state, "readiness", (0.0, None))
    if missing is None or time.monotonic() - seen > READY_SECONDS:
        missing = await run_in_threadpool(_missing, service)
        state.readiness = time.monotonic(), missing
    if not missing:
        return Response(Live().model_dump_json(), media_type="application/json")
    names = " and ".join(missing)
    errors = [WrongField(where=name, problem="It does not answer.") for name in missing]
    found = Problem(
        title="Service Unavailable",
        status=503,
        detail=f"not ready: {names}.",
        instance=READY,
        errors=errors,
    )
    return Response(
        found.model_dump_json(), 503, {"Retry-After": RETRY_SECONDS}, media_type=MEDIA_TYPE
    )


def _missing(service: Service) -> tuple[str, ...]:
    """Those of database and store that do not answer."""
    found = []
    try:
        with service.database.reading() as connection:
            connection.exec_driver_sql("SELECT 1")
    except UnavailableError:
        found.append("database")
    try:
        service.objects.check()
    except OutputError:
        found.append("store")
    return tuple(found)


@router.get(
    METRICS,
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={**problems(), **binary("The metrics.", "text/plain")},
    openapi_extra={"security": [{"token": []}, {}]},
)
async def metrics(request: Request, service: ServiceOf) -> Response:
    """Get the metrics of this server and its service as text. Needs a token of scope `read` unless
    the settings say `metrics: open`."""
    if service.settings.metrics == "token":
        await authorized(request, SecurityScopes(["read"]))
    told: Metrics = request.app.state.metrics
    return Response(await run_in_threadpool(told.text), media_type=CONTENT_TYPE_LATEST)
