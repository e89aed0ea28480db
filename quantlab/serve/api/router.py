"""The API: all resources under one prefix."""

from __future__ import annotations

from fastapi import APIRouter

from quantlab.serve.api import (
    audit,
    baselines,
    datasets,
    events,
    health,
    jobs,
    models,
    recipes,
    runs,
    trends,
    uploads,
)
from quantlab.serve.api.common import PREFIX

router = APIRouter(prefix=PREFIX)
for resource in (
    health,
    uploads,
    models,
    datasets,
    recipes,
    jobs,
    events,
    runs,
    baselines,
    trends,
    audit,
):
    router.include_router(resource.router)
