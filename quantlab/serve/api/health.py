"""Whether the service answers."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from quantlab import __version__
from quantlab.serve.api.common import PREFIX, ServiceOf, problems

router = APIRouter(prefix=PREFIX, tags=["health"])


class Health(BaseModel):
    """The service and its database answer."""

    status: Literal["ok"] = "ok"
    version: str


@router.get("/health", summary="Whether the service answers", responses=problems(open_to_all=True))
def health(service: ServiceOf) -> Health:
    """Check that the service and its database answer. Needs no token; 503 where the database does
    not."""
    with service.database.reading() as connection:
        service.database.now(connection)
        connection.exec_driver_sql("SELECT 1")
    return Health(version=__version__)
