"""Which workers are alive: each writes the time to the database as long as it runs."""

from __future__ import annotations

import logging
from contextlib import suppress
from threading import Event as Flag
from threading import Thread
from typing import Self

from sqlalchemy import delete, insert, select, update

from quantlab.serve.db import WORKERS, Database, UnavailableError

BEAT = 10.0
"""Seconds between two signs of life."""
FORGOTTEN = 24 * 3600.0
"""Seconds after which a worker that was killed is not listed any more."""
log = logging.getLogger("quantlab.worker")


class Present:
    """Reports a worker to the database while the block runs, from a thread."""

    def __init__(self, database: Database, name: str, machine: str) -> None:
        self.database, self.name, self.machine = database, name, machine
        self._over = Flag()
        self._thread = Thread(target=self._keep, name=f"signs of {name}", daemon=True)

    def report(self) -> None:
        """Write the time. Raises UnavailableError."""
        mine = WORKERS.c.name == self.name
        with self.database.writing() as connection:
            now = self.database.now(connection)
            seen = update(WORKERS).where(mine).values(seen=now)
            if not connection.execute(seen).rowcount:
                row = {"name": self.name, "machine": self.machine, "seen": now}
                connection.execute(insert(WORKERS).values(row))
                connection.execute(delete(WORKERS).where(WORKERS.c.seen < now - FORGOTTEN))

    def _keep(self) -> None:
        while True:
            try:
                self.report()
            except UnavailableError as error:
                log.warning("%s", error)
            if self._over.wait(BEAT):
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        with suppress(UnavailableError), self.database.writing() as connection:
            connection.execute(delete(WORKERS).where(WORKERS.c.name == self.name))


def seconds_since_seen(database: Database) -> dict[str, float]:
    """Of each worker that has not ended, the seconds since its last sign of life. Raises
    UnavailableError."""
    with database.reading() as connection:
        now = database.now(connection)
        rows = connection.execute(select(WORKERS.c.name, WORKERS.c.seen))
        return {row.name: max(0.0, now - row.seen) for row in rows}
