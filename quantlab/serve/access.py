"""Authenticate requests, and check what each endpoint requires of the caller.

The API's clients send their token as ``Authorization: Bearer TOKEN``; the pages keep it in a
cookie. What a browser sends by itself could have been caused by any page: such a request that
changes something must come from our own page and bring a second token that only it could read.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import HTTPBearer, SecurityScopes
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from quantlab.serve.audit_log import SAFE
from quantlab.serve.problems import TooFast
from quantlab.serve.rates import Rates
from quantlab.serve.tokens import LOCAL, Scope, Token, Tokens, digest

COOKIE = "quantlab_token"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"
REMEMBERED_SECONDS = 5.0
"""A revoked token may be good for so long where it was just used."""
MOST_REMEMBERED = 1000
LONGEST_TOKEN = 200
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class Access:
    """Knows callers by their tokens, and lets each make so many requests a minute. For the event
    loop's thread alone."""

    def __init__(self, tokens: Tokens, requests_a_minute: int) -> None:
        self.tokens = tokens
        self.rates = Rates(requests_a_minute)
        self._remembered = dict[str, tuple[Token, float]]()
        self._without_tokens = not tokens.any()
        self._looked = time.monotonic()

    async def caller(self, request: Request) -> Token | None:
        """The token of a request, None for an unknown one. Whether it came by cookie is in
        ``state.by_cookie``.

        Raises TooFast, UnavailableError.
        """
        text, request.state.by_cookie = credential(request)
        if text is None:
            self._take(address(request))
            return LOCAL if await self._is_open(request) else None
        token = self._known(text)
        if token is None:
            self._take(address(request))
            token = await run_in_threadpool(self.tokens.verify, text)
            if token is None:
                return None
            self._remember(text, token)
        self._take(token.id)
        return token

    def _take(self, key: str) -> None:
        if seconds := self.rates.take(key):
            raise TooFast(seconds)

    def _known(self, text: str) -> Token | None:
        token, seen = self._remembered.get(digest(text), (LOCAL, 0.0))
        fresh = time.monotonic() - seen < REMEMBERED_SECONDS
        return token if fresh and not token.expired(time.time()) else None

    def _remember(self, text: str, token: Token) -> None:
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[digest(text)] = token, time.monotonic()

    async def _is_open(self, request: Request) -> bool:
        """Whether requests of this machine need no token: there never were tokens, and the request
        comes from this machine itself, neither through a proxy nor from another site's page in a
        browser."""
        if not (self._without_tokens and is_local(request)):
            return False
        if time.monotonic() - self._looked > REMEMBERED_SECONDS:
            self._without_tokens = not await run_in_threadpool(self.tokens.any)
            self._looked = time.monotonic()
        return self._without_tokens


def credential(request: Request) -> tuple[str | None, bool]:
    """The token's text, if there is one, and whether it came as a cookie."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()[:LONGEST_TOKEN], False
    text = request.cookies.get(COOKIE, "")[:LONGEST_TOKEN]
    return (text, True) if text else (None, False)


def address(request: Request) -> str:
    """A request's network address; of IPv6 the /64 network, whose addresses one client may hold."""
    host = request.client.host if request.client else ""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if found.version == 6 and not found.ipv4_mapped:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, names it as the host, and has no header of a
    proxy."""
    client = request.client.host if request.client else ""
    named = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    handed_on = any(name in request.headers for name in _FORWARDED)
    return _is_loopback(client) and not handed_on and (named == "localhost" or _is_loopback(named))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_origin(request: Request) -> bool:
    """Whether the service's own page made the request, as far as the browser states; a client that
    is no browser states nothing, and is trusted unless it sends a cookie."""
    if (site := request.headers.get("sec-fetch-site")) is not None:
        return site == "same-origin"
    if (origin := request.headers.get("origin")) is not None:
        try:
            return urlsplit(origin).netloc == request.headers.get("host")
        except ValueError:
            return False
    return not request.state.by_cookie


def csrf_token(request: Request) -> str:
    """What the pages put into their forms (as ``csrf_token``) or send as X-CSRF-Token, "" where no
    cookie is used."""
    text, by_cookie = credential(request)
    if text is None or not by_cookie:
        return ""
    return hmac.new(text.encode(), b"quantlab csrf", hashlib.sha256).hexdigest()


async def check_page(request: Request) -> None:
    """Raises HTTPException (403) for a request with a cookie that changes something and does not
    bring the token of our own page."""
    if request.method in SAFE or not request.state.by_cookie:
        return
    given: Any = request.headers.get(CSRF_HEADER)
    if given is None and request.headers.get("content-type", "").startswith(_FORMS):
        given = (await request.form()).get(CSRF_FIELD)
    if not hmac.compare_digest(str(given or "").encode(), csrf_token(request).encode()):
        raise HTTPException(403, "the request is not from a page of this service.")


class _Authorized(HTTPBearer):
    """Knows the caller by what the guard has found out, and describes tokens in the OpenAPI
    document."""

    async def __call__(  # type: ignore[override]
        self, request: Request, scopes: SecurityScopes
    ) -> Token:
        """The caller. Raises HTTPException: 401 for an unknown one, 403 for one without the
        scope."""
        caller: Token | None = request.state.caller
        if caller is None:
            raise HTTPException(
                401, "a token is needed that is known here.", {"WWW-Authenticate": "Bearer"}
            )
        scope: Scope = scopes.scopes[0]  # type: ignore[assignment]
        if not caller.allows(scope):
            raise HTTPException(403, f"this needs a token of scope {scope}, not {caller.scope}.")
        await check_page(request)
        return caller


authorized = _Authorized(
    scheme_name="token",
    description="A token of `quantlab token create`. Scopes: read, submit, admin; each may do "
    "what those before it may.",
)
MayRead = Annotated[Token, Security(authorized, scopes=["read"])]
MaySubmit = Annotated[Token, Security(authorized, scopes=["submit"])]
MayAdminister = Annotated[Token, Security(authorized, scopes=["admin"])]
