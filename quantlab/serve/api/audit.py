"""The audit log."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from quantlab.serve.access import MayAdminister
from quantlab.serve.api.answers import Reply, page, respond
from quantlab.serve.api.common import (
    PREFIX,
    Limit,
    ListPage,
    Number,
    ServiceOf,
    iso,
    unchanged_or,
)
from quantlab.serve.audit_log import AuditEntry, AuditLog

router = APIRouter(prefix=f"{PREFIX}/audit", tags=["audit"])


class AuditLine(BaseModel):
    """A request that changed something, or that was refused."""

    number: int
    time: str
    token: str = Field(description="the caller's token's id; empty for nobody who is known")
    address: str
    action: str = Field(description="method and operation", examples=["POST submit"])
    subject: str = Field(description="the path")
    outcome: str = Field(description="the status", examples=["202"])
    request: str | None = Field(description="the request's id, as X-Request-ID has it")


@router.get(
    "",
    summary="The audit log, the newest first",
    response_model=ListPage[AuditLine],
    responses=unchanged_or(),
)
async def audit(
    service: ServiceOf,
    _: MayAdminister,
    request: Request,
    limit: Limit = 100,
    after: Number = None,
) -> Response:
    """List the audit log. Needs the scope admin."""

    def make() -> Reply:
        rows = AuditLog(service.database).lines(before=after, limit=limit + 1)
        return page(request, rows, limit, _view, lambda line: line.number)

    return await respond(request, make)


def _view(line: AuditEntry) -> AuditLine:
    facts = {**vars(line), "time": iso(line.time)}
    return AuditLine(**facts)
