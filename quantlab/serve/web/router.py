"""The pages of a service, as one router."""

from __future__ import annotations

from fastapi import APIRouter

from quantlab.serve.web.routes import (
    account,
    compare,
    jobs,
    runs,
    static,
    stock,
    submit,
    trends,
)

router = APIRouter(include_in_schema=False)
for part in (static, account, runs, compare, trends, jobs, submit, stock):
    router.include_router(part.router)
