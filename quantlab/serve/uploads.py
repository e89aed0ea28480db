"""Uploads: a model file in chunks, each an object of the store, so that any of several servers can
take the next one. Once complete, its content and kind are checked before it becomes a model."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from quantlab.errors import OutputError, QuantlabError
from quantlab.serve.catalog import StoredModel, check_name
from quantlab.serve.db import UPLOADS, UnavailableError
from quantlab.serve.objects import PIECE, ObjectMissingError
from quantlab.serve.problems import TooLargeError
from quantlab.serve.queue import ConflictError, NotFoundError, TooManyError
from quantlab.serve.service import Service
from quantlab.serve.vetting import facts_of

SECONDS_KEPT = 24 * 3600.0
"""An upload that is not complete by then is forgotten."""
MOST_UPLOADS = 16
"""Of one token, under way."""
MOST_CHUNKS = 10_000
CHECKS = 2
"""At a time."""
SECONDS_FOR_A_CHECK = 10.0
"""To wait for those before it."""
_ZIP = b"PK\x03\x04"
Check = Callable[[Path, Path], dict[str, Any]]
"""The facts of a model file, for which a folder may be worked in; raises QuantlabError for what is
no model that may be used."""


@dataclass(frozen=True)
class Upload:
    """An upload: ``received`` bytes are there without a gap. One that is ``done`` has become a
    model; it is kept so that a client which lost the answer can ask again."""

    id: str
    token: str
    name: str
    bytes: int
    sha256: str
    received: int
    done: bool
    created: float

    @property
    def folder(self) -> str:
        """Of its chunks, whose names are their offsets."""
        return f"uploads/{self.id}"


class Uploads:
    """The uploads of a service. All methods raise Unavailable where the database does not answer,
    and OutputError where the store does not."""

    def __init__(self, service: Service, check: Check | None = None) -> None:
        self.service = service
        self._check = check or (lambda file, tmp: facts_of(file, service.settings, tmp))
        self._checks = BoundedSemaphore(CHECKS)

    def begin(self, token: str, name: str, size: int, sha256: str) -> Upload | StoredModel:
        """A new upload, or the model where its content is known already; it gets the name too.

        Raises TooLargeError, TooManyError, QuantlabError for what is no name.
        """
        check_name(name)
        most = self.service.settings.max_model
        if size > most:
            raise TooLargeError(f"a model may have {most:,} bytes at most, not {size:,}.")
        if (known := self._known(token, name, sha256)) is not None:
            return known
        self._forget_old()
        with self.service.database.writing() as connection:
            mine = (UPLOADS.c.token == token) & sa.not_(UPLOADS.c.done)
            count = connection.scalar(select(func.count()).select_from(UPLOADS).where(mine)) or 0
            if count >= MOST_UPLOADS:
                raise TooManyError(
                    f"{count} uploads are under way, which is the most.", "End some."
                )
            now = self.service.database.now(connection)
            upload = Upload(secrets.token_hex(8), token, name, size, sha256, 0, False, now)
            connection.execute(insert(UPLOADS).values(vars(upload)))
        return upload

    def _known(self, token: str, name: str, sha256: str) -> StoredModel | None:
        catalog = self.service.catalog
        try:
            found = catalog.model(sha256)
        except NotFoundError:
            return None
        if not self.service.objects.has(found.key):
            return None
        model = catalog.add_model(sha256, name, found.bytes, found.facts, token=token)
        if not self.service.objects.has(found.key):  # it was deleted just now
            return None
        return model

    def put(self, token: str, upload_id: str, offset: int, chunk: Path) -> Upload:
        """Store the bytes from ``offset`` on; the same ones may come again.

        Raises NotFoundError, ConflictError where bytes before them are missing, QuantlabError.
        """
        size, upload = chunk.stat().st_size, self.get(token, upload_id)
        if offset > upload.received:
            raise _missing(upload.received)
        if not size or offset + size > upload.bytes:
            raise QuantlabError(
                f"{size:,} bytes from {offset:,} on do not fit into {upload.bytes:,}.",
                "Send what is left, and at least one byte.",
            )
        if size < min(upload.bytes - offset, upload.bytes / MOST_CHUNKS):
            raise QuantlabError(f"a chunk of {size:,} bytes is too small.", "Send larger ones.")
        self.service.objects.put(f"{upload.folder}/{offset}", chunk)
        received = max(upload.received, offset + size)
        further = _is(upload) & (UPLOADS.c.received < received)
        with self.service.database.writing() as connection:
            connection.execute(update(UPLOADS).where(further).values(received=received))
        return replace(upload, received=received)

    def get(self, token: str, upload_id: str) -> Upload:
        """An upload of this token. Raises NotFoundError."""
        mine = (UPLOADS.c.id == upload_id) & (UPLOADS.c.token == token)
        with self.service.database.reading() as connection:
            row = connection.execute(select(UPLOADS).where(mine)).first()
        if row is None:
            raise NotFoundError(f"there is no upload {upload_id}.", "Begin a new one.")
        return _upload(row)

    def complete(self, token: str, upload_id: str) -> StoredModel:
        """The model that it is, checked. An upload that is no such is forgotten.

        Raises NotFoundError, ConflictError where bytes are missing, QuantlabError for another
        content or what is no model that may be used."""
        upload = self.get(token, upload_id)
        if upload.done and (known := self._known(token, upload.name, upload.sha256)) is not None:
            return known
        chunks = self._chunks(upload)
        if not self._checks.acquire(timeout=SECONDS_FOR_A_CHECK):
            raise UnavailableError("other uploads are being checked.")
        try:
            with self._folder() as place:
                model = self._checked(upload, chunks, Path(place))
        except (UnavailableError, OutputError, ObjectMissingError):
            raise
        except QuantlabError:
            self._forget(upload)
            raise
        finally:
            self._checks.release()
        with self.service.database.writing() as connection:
            connection.execute(update(UPLOADS).where(_is(upload)).values(done=True))
        self._remove_chunks(upload)
        return model

    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        work = self.service.settings.work
        work.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="upload-", dir=work)

    def _chunks(self, upload: Upload) -> list[str]:
        """The keys of chunks that follow each other to the end. Raises ConflictError."""
        sizes = self.service.objects.sizes(upload.folder)
        keys, position = list[str](), 0
        while position < upload.bytes:
            size = sizes.get(str(position), 0)
            if not size or position + size > upload.bytes:
                with self.service.database.writing() as connection:
                    back = update(UPLOADS).where(_is(upload)).values(received=position)
                    connection.execute(back)
                raise _missing(position)
            keys.append(f"{upload.folder}/{position}")
            position += size
        return keys

    def _checked(self, upload: Upload, chunks: list[str], place: Path) -> StoredModel:
        objects, path = self.service.objects, place / f"{upload.name.removesuffix('.onnx')}.onnx"
        digest = hashlib.sha256()
        with path.open("wb") as whole:
            for key in chunks:
                with objects.open(key) as chunk:
                    while piece := chunk.read(PIECE):
                        digest.update(piece)
                        whole.write(piece)
        if digest.hexdigest() != upload.sha256:
            raise QuantlabError(
                "the uploaded bytes do not have the sha256 that was declared.",
                "Upload the file again.",
            )
        facts = self._check(path.resolve(), place.resolve())
        with path.open("rb") as whole:
            packed = {"packed": "zip"} if whole.read(len(_ZIP)) == _ZIP else {}
        return self.service.add_model(
            path, upload.sha256, upload.name, {**facts, **packed}, token=upload.token
        )

    def _forget(self, upload: Upload) -> None:
        with self.service.database.writing() as connection:
            connection.execute(delete(UPLOADS).where(_is(upload)))
        self._remove_chunks(upload)

    def _remove_chunks(self, upload: Upload) -> None:
        with suppress(ObjectMissingError):
            self.service.objects.remove(upload.folder)

    def _forget_old(self) -> None:
        """Uploads that nobody will complete, and what a killed server has left of their checks."""
        with self.service.database.reading() as connection:
            rows = connection.execute(select(UPLOADS).where(self._old(connection))).all()
        for row in rows:
            self._forget(_upload(row))
        for folder in self.service.settings.work.glob("upload-*"):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > SECONDS_KEPT:
                    _remove(folder)

    def _old(self, connection: Connection) -> ColumnElement[bool]:
        return UPLOADS.c.created < self.service.database.now(connection) - SECONDS_KEPT


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _is(upload: Upload) -> ColumnElement[bool]:
    return UPLOADS.c.id == upload.id


def _upload(row: Row[Any]) -> Upload:
    return Upload(**row._asdict())


def _missing(position: int) -> ConflictError:
    return ConflictError(
        f"bytes from {position:,} on are missing.", f"Go on with offset={position}."
    )
