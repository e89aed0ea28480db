"""Service: the database, store and collections that the API, pages and workers share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from quantlab.errors import QuantlabError
from quantlab.serve.catalog import Catalog, StoredModel
from quantlab.serve.db import Database
from quantlab.serve.objects import Objects
from quantlab.serve.queue import Asked, Job, Queue
from quantlab.serve.requests import AnyRequest, Request, dataset_names, model_names
from quantlab.serve.settings import Settings

_REQUEST: TypeAdapter[AnyRequest] = TypeAdapter(Request)


@dataclass(frozen=True)
class Service:
    """A context. ``Service.open`` makes the tables and folders that are missing."""

    settings: Settings
    database: Database
    queue: Queue
    catalog: Catalog
    objects: Objects

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Raises QuantlabError for a database or a store that cannot be used."""
        database = Database(settings.db_url)
        database.create()
        return cls(
            settings,
            database,
            Queue(database, lease=settings.lease, losses=settings.losses),
            Catalog(database),
            Objects(settings.store_url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    def add_model(
        self,
        path: Path,
        sha256: str,
        name: str,
        facts: Mapping[str, Any],
        *,
        job: str | None = None,
        token: str | None = None,
    ) -> StoredModel:
        """Store a model's file, and name it. Who deletes the same content meanwhile does so before
        it has a name: then it is stored once more."""
        key = f"models/{sha256}"
        self.objects.put(key, path)
        size = path.stat().st_size
        model = self.catalog.add_model(sha256, name, size, facts, job, token)
        if not self.objects.has(key):
            self.objects.put(key, path)
        return model

    def submit(self, request: AnyRequest, token: str, key: str | None = None) -> tuple[Job, bool]:
        """Submit a job; returns it and whether it is new.

        What the names of the request stand for is settled now: a job means tomorrow what it means
        today. Raises NotFoundError, ConflictError, TooManyError, RecipeError.
        """
        stored = request.model_dump(mode="json", exclude_defaults=True)
        asked = Asked(request.verb, stored, {}, request.exclusive)
        if (known := self.queue.known(asked, token, key)) is not None:
            return known, False
        asked = replace(asked, inputs=self.inputs(request))
        return self.queue.submit(asked, token, key, self.settings.max_queued)

    def inputs(self, request: AnyRequest) -> dict[str, Any]:
        """What its names stand for now. Raises NotFoundError."""
        models = [self.catalog.model(name) for name in model_names(request)]
        data = {
            field: _dataset_words(self.catalog, name)
            for field, name in dataset_names(request).items()
        }
        found: dict[str, Any] = {"models": [_model_words(model) for model in models], "data": data}
        if (name := getattr(request, "recipe", None)) is not None:
            recipe = self.catalog.recipe(name)
            found["recipe"] = {"name": name, "text": recipe.text if recipe else None}
        if (name := getattr(request, "baseline", None)) is not None:
            found["baseline"] = self.catalog.baseline(name).files
        return found


def request_of(job: Job) -> AnyRequest:
    """The request of a stored job. Raises QuantlabError for one of another quantlab."""
    return stored_request(job.request, f"the job {job.id}")


def stored_request(facts: Mapping[str, Any], what: str) -> AnyRequest:
    """A request as it was stored. Raises QuantlabError for one of another quantlab."""
    try:
        return _REQUEST.validate_python(facts)
    except ValidationError as error:
        raise QuantlabError(f"{what} was asked of another version.") from error


def _model_words(model: StoredModel) -> dict[str, str]:
    return {"sha256": model.sha256, "name": model.name}


def _dataset_words(catalog: Catalog, name: str) -> dict[str, str | None]:
    found = catalog.dataset(name)
    return {
        "name": name,
        "path": found.path,
        "list_file": found.list_file,
        "synsets": found.synsets,
    }
