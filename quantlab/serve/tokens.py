"""Access tokens. A token is shown once; the database holds its SHA-256 only.

A token is 256 random bits: a slow hash, which protects what people choose, would protect nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, delete, insert, select
from sqlalchemy.exc import IntegrityError

from quantlab.serve.catalog import check_name
from quantlab.serve.db import TOKENS, Database
from quantlab.serve.queue import ConflictError, NotFoundError

Scope = Literal["read", "submit", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Each may do what those before it may."""
PREFIX = "quantlab_"
"""By which tools that look for secrets in the wrong places know one."""


@dataclass(frozen=True)
class Token:
    """A stored token. Times are seconds since 1970; one that does not expire has None."""

    id: str
    name: str
    scope: Scope
    created: float
    expires: float | None

    def allows(self, scope: Scope) -> bool:
        """Whether it may do what needs this scope."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)

    def owns(self, token_id: str) -> bool:
        """Whether what this token has made is its own to change."""
        return self.id == token_id or self.allows("admin")

    def expired(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= now


LOCAL = Token("local", "local", "admin", 0.0, None)
"""Whoever reaches a server on loopback that has no tokens."""


class Tokens:
    """The tokens of a database. All methods raise Unavailable where that does not answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def create(self, name: str, scope: Scope, seconds: float | None = None) -> tuple[Token, str]:
        """A new token that expires in so many seconds, and its text. Raises ConflictError for a
        name that another one has."""
        check_name(name)
        text = PREFIX + secrets.token_urlsafe(32)
        try:
            with self.database.writing() as connection:
                now = self.database.now(connection)
                expires = None if seconds is None else now + seconds
                token = Token(secrets.token_hex(8), name, scope, now, expires)
                row = {**vars(token), "digest": digest(text)}
                connection.execute(insert(TOKENS).values(row))
        except IntegrityError as error:
            raise ConflictError(
                f"there is a token called {name}.", f"quantlab token revoke {name}, or another name"
            ) from error
        return token, text

    def verify(self, text: str) -> Token | None:
        """The token that this is the text of, None for an unknown or expired one."""
        given = digest(text)
        with self.database.reading() as connection:
            row = connection.execute(select(TOKENS).where(TOKENS.c.digest == given)).first()
            if row is None or not hmac.compare_digest(row.digest, given):
                return None
            token = _token(row)
            return None if token.expired(self.database.now(connection)) else token

    def all(self) -> list[Token]:
        """All tokens by name, expired ones included."""
        with self.database.reading() as connection:
            return [
                _token(row) for row in connection.execute(select(TOKENS).order_by(TOKENS.c.name))
            ]

    def any(self) -> bool:
        """Whether there are tokens, expired ones included."""
        with self.database.reading() as connection:
            return connection.execute(select(TOKENS.c.id).limit(1)).first() is not None

    def revoke(self, name: str) -> Token:
        """Delete the token of this name or id. Raises NotFoundError."""
        with self.database.writing() as connection:
            token = _named(connection, name)
            connection.execute(delete(TOKENS).where(TOKENS.c.id == token.id))
        return token


def digest(text: str) -> str:
    """The digest that is stored of a token's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _named(connection: Connection, name: str) -> Token:
    mine = (TOKENS.c.name == name) | (TOKENS.c.id == name)
    query = select(TOKENS).where(mine).order_by(TOKENS.c.name != name).limit(1)
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is no token called {name}.", "quantlab token ls lists them.")
    return _token(row)


def _token(row: Row[Any]) -> Token:
    values = row._asdict()
    return Token(**{name: values[name] for name in Token.__dataclass_fields__})
