"""The audit log: caller, request and outcome of everything that changes something or was
refused."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import insert, select

from quantlab.serve.db import AUDIT, Database

LONGEST_SUBJECT = 500
REFUSALS = (401, 403, 413, 429)
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class AuditEntry:
    """A line of the log. ``token``: the caller's id, "" for an unknown caller. ``action``: the
    method and the operation's name; ``subject``: the path; ``outcome``: the status; ``request``:
    its id. ``time``: seconds since 1970."""

    number: int
    time: float
    token: str
    address: str
    action: str
    subject: str
    outcome: str
    request: str | None = None


class AuditLog:
    """The audit log of a database. All methods raise Unavailable where that does not answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(
        self, token: str, address: str, action: str, subject: str, outcome: str, request: str = ""
    ) -> None:
        """Write one line."""
        with self.database.writing() as connection:
            row = {
                "time": self.database.now(connection),
                "token": token[:32],
                "address": address[:64],
                "action": action[:64],
                "subject": _plain(subject),
                "outcome": outcome[:32],
                "request": request[:64] or None,
            }
            connection.execute(insert(AUDIT).values(row))

    def lines(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """The newest first; ``before``: older than the one of this number."""
        query = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(AUDIT.c.number < before)
        with self.database.reading() as connection:
            return [AuditEntry(**row._asdict()) for row in connection.execute(query)]


def noteworthy(method: str, status: int) -> bool:
    """Whether a request is logged. One that was answered 503 has changed nothing, and the log may
    be unavailable too."""
    return status != 503 and (method not in SAFE or status in REFUSALS)


def _plain(text: str) -> str:
    """What any database can hold: a path may have any character."""
    return (
        text.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")[:LONGEST_SUBJECT]
    )
