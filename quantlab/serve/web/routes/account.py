"""Signing in and out: a token in a cookie."""

from __future__ import annotations

import re
import time

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from quantlab.serve.access import COOKIE, MayRead
from quantlab.serve.api.common import ServiceOf
from quantlab.serve.tokens import Tokens
from quantlab.serve.web.common import Sent, Text, one, page
from quantlab.serve.web.rendering import SIGN_IN

_OURS = re.compile(r"/(?!/)[!-\[\]-~]*")
router = APIRouter(include_in_schema=False)


@router.get("/sign-in")
def sign_in(request: Request, next: Text = "/") -> Response:  # noqa: A002
    """Show the form that takes a token."""
    return page(request, "sign_in.html.j2", next=_inside(next), error="")


@router.post("/sign-in")
def signed_in(request: Request, service: ServiceOf, sent: Sent) -> Response:
    """Store the token in a cookie that scripts cannot read and other sites cannot send."""
    text, onward = one(sent, "token").strip(), _inside(one(sent, "next"))
    token = Tokens(service.database).verify(text) if text else None
    if token is None:
        error = "This token is not known here, or it has expired."
        return page(request, "sign_in.html.j2", status=403, next=onward, error=error)
    response = RedirectResponse(onward, 303)
    seconds = None if token.expires is None else max(0, int(token.expires - time.time()))
    response.set_cookie(
        COOKIE, text, max_age=seconds, httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return response


@router.post("/sign-out")
def sign_out(request: Request, _: MayRead) -> Response:
    """Delete the cookie."""
    response = RedirectResponse(SIGN_IN, 303)
    response.delete_cookie(
        COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return response


def _inside(address: str) -> str:
    """An address of these pages, never one elsewhere."""
    return address if _OURS.fullmatch(address) else "/"
