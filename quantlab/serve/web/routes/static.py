"""Styles and scripts."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from quantlab.serve.api.answers import matches
from quantlab.serve.web.assets import assets

FOR_EVER = "public, max-age=31536000, immutable"
"""An asset's address has its digest in it."""
router = APIRouter(include_in_schema=False)


@router.get("/static/{name:path}")
def static(name: str, request: Request) -> Response:
    """A style or a script."""
    asset = assets().get(name)
    if asset is None:
        raise HTTPException(404)
    fixed = request.url.query == asset.digest
    headers = {"Cache-Control": FOR_EVER if fixed else "no-cache", "ETag": f'"{asset.digest}"'}
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.kind)
