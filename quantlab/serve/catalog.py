"""Catalog: the named datasets, models, recipes and baselines of a service."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, insert, literal, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from quantlab._util.yamlfile import parse_yaml, validate
from quantlab.errors import QuantlabError
from quantlab.fetch import catalog as published
from quantlab.recipe import Recipe
from quantlab.serve.db import BASELINES, DATASETS, MODELS, RECIPES, Database
from quantlab.serve.queue import NotFoundError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredModel:
    """An uploaded model, or one that a job made. ``facts`` say what kind of file it is."""

    sha256: str
    name: str
    bytes: int
    facts: dict[str, Any]
    job: str | None
    created: float

    @property
    def key(self) -> str:
        """The key of its file in the store."""
        return f"models/{self.sha256}"


@dataclass(frozen=True)
class StoredDataset:
    """A dataset that the operator gave a name; only workers know the paths."""

    name: str
    path: str
    list_file: str | None
    synsets: str | None
    facts: dict[str, Any]
    created: float


@dataclass(frozen=True)
class StoredRecipe:
    """A recipe as YAML."""

    name: str
    text: str
    created: float


@dataclass(frozen=True)
class StoredBaseline:
    """A baseline: its files' keys by name."""

    name: str
    job: str
    files: dict[str, str]
    created: float


class Catalog:
    """The names of a database. All methods raise Unavailable where that does not answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def models(
        self, *, before: tuple[float, str] | None = None, limit: int = 100
    ) -> list[StoredModel]:
        """The newest first; ``before``: those after the one of this time and sha256."""
        rows = self.model_rows(before=before, limit=limit)
        return [StoredModel(**row._asdict()) for row in rows]

    def model_rows(self, *, before: tuple[float, str] | None, limit: int) -> Sequence[Row[Any]]:
        """The same as rows."""
        place = tuple_(MODELS.c.created, MODELS.c.sha256)
        query = select(MODELS).order_by(MODELS.c.created.desc(), MODELS.c.sha256.desc())
        query = query.limit(limit)
        if before is not None:
            query = query.where(place < tuple_(*map(literal, before)))
        with self.database.reading() as connection:
            return connection.execute(query).all()

    def model(self, name: str) -> StoredModel:
        """The model of this sha256, else the newest of this name. Raises NotFoundError."""
        with self.database.reading() as connection:
            return self._model(connection, name)

    def _model(self, connection: Connection, name: str) -> StoredModel:
        name = name.removesuffix(".onnx")
        mine = MODELS.c.sha256 == name if _SHA256.fullmatch(name) else MODELS.c.name == name
        query = select(MODELS).where(mine).order_by(MODELS.c.created.desc()).limit(1)
        row = connection.execute(query).first()
        if row is None:
            raise NotFoundError(
                f"the service has no model called {name}.", "Upload it, or ask for what it has."
            )
        return StoredModel(**row._asdict())

    def known(self, sha256s: Sequence[str]) -> dict[str, StoredModel]:
        """Those of these models that the catalog has."""
        with self.database.reading() as connection:
            rows = connection.execute(select(MODELS).where(MODELS.c.sha256.in_(sha256s)))
            return {row.sha256: StoredModel(**row._asdict()) for row in rows}

    def made_by(self, job: str) -> list[StoredModel]:
        """The models that this job was the first to make."""
        with self.database.reading() as connection:
            rows = connection.execute(select(MODELS).where(MODELS.c.job == job))
            return [StoredModel(**row._asdict()) for row in rows]

    def add_model(
        self, sha256: str, name: str, size: int, facts: Mapping[str, Any], job: str | None = None
    ) -> StoredModel:
        """Name a model whose object is in the store; one that exists becomes the newest. A model
        may have several names."""
        check_name(name)
        mine = (MODELS.c.sha256 == sha256) & (MODELS.c.name == name.removesuffix(".onnx"))
        row: dict[str, Any] = {"bytes": size, "facts": dict(facts)}
        for _ in range(2):
            try:
                with self.database.writing() as connection:
                    row["created"] = self.database.now(connection)
                    known = update(MODELS).where(mine).values(row)
                    if not connection.execute(known).rowcount:
                        names = {"sha256": sha256, "name": name.removesuffix(".onnx"), "job": job}
                        values = {**row, **names}
                        connection.execute(insert(MODELS).values(values))
                    return self._model(connection, sha256)
            except IntegrityError:  # it was added by somebody else just now
                continue
        raise NotFoundError(f"the model {sha256} could not be added.")

    def datasets(self) -> list[StoredDataset]:
        """All datasets, by name."""
        with self.database.reading() as connection:
            rows = connection.execute(select(DATASETS).order_by(DATASETS.c.name))
            return [StoredDataset(**row._asdict()) for row in rows]

    def dataset(self, name: str) -> StoredDataset:
        """The dataset of that name. Raises NotFoundError, which lists those that exist."""
        found = {dataset.name: dataset for dataset in self.datasets()}
        if name not in found:
            there = ", ".join(found) or "none; the operator adds them with quantlab dataset add"
            raise NotFoundError(f"the service has no dataset called {name}.", f"There is: {there}.")
        return found[name]

    def add_dataset(
        self,
        name: str,
        path: Path,
        list_file: Path | None,
        synsets: Path | None,
        facts: Mapping[str, Any],
    ) -> None:
        """Name a dataset, or change what the name stands for."""
        check_name(name)
        places = {"path": path, "list_file": list_file, "synsets": synsets}
        row: dict[str, Any] = {
            key: None if place is None else str(place.resolve()) for key, place in places.items()
        }
        self._put(DATASETS, name, {**row, "facts": dict(facts)})

    def remove_dataset(self, name: str) -> None:
        """Remove the name; the images stay. Raises NotFoundError."""
        self.dataset(name)
        with self.database.writing() as connection:
            connection.execute(delete(DATASETS).where(DATASETS.c.name == name))

    def recipes(self) -> list[StoredRecipe]:
        """All uploaded recipes, by name."""
        with self.database.reading() as connection:
            rows = connection.execute(select(RECIPES).order_by(RECIPES.c.name))
            return [StoredRecipe(**row._asdict()) for row in rows]

    def recipe(self, name: str) -> StoredRecipe | None:
        """An uploaded recipe; None for a published model's, which every quantlab has. Raises
        NotFound."""
        found = next((recipe for recipe in self.recipes() if recipe.name == name), None)
        if found is None and name not in published():
            raise NotFoundError(f"the service has no recipe called {name}.", "Upload it.")
        return found

    def add_recipe(self, name: str, text: str) -> StoredRecipe:
        """Store a recipe; the same name again replaces it. Raises RecipeError."""
        check_name(name)
        validate(Recipe, parse_yaml(text, name), name)
        return StoredRecipe(name, text, self._put(RECIPES, name, {"text": text}))

    def baselines(self) -> list[StoredBaseline]:
        """All baselines, by name."""
        with self.database.reading() as connection:
            rows = connection.execute(select(BASELINES).order_by(BASELINES.c.name))
            return [StoredBaseline(**row._asdict()) for row in rows]

    def baseline(self, name: str) -> StoredBaseline:
        """The baseline of that name. Raises NotFoundError."""
        found = next((each for each in self.baselines() if each.name == name), None)
        if found is None:
            raise NotFoundError(
                f"the service has no baseline called {name}.", "A baseline job makes it."
            )
        return found

    def add_baseline(self, name: str, job: str, files: Mapping[str, str]) -> None:
        """Name a job's baseline, or accept another one for the name."""
        check_name(name)
        self._put(BASELINES, name, {"job": job, "files": dict(files)})

    def _put(self, table: Table, name: str, values: Mapping[str, Any]) -> float:
        """Replaces the row of this name; when."""
        with self.database.writing(alone=True) as connection:
            now = self.database.now(connection)
            row = {**values, "created": now}
            known = update(table).where(table.c.name == name).values(row)
            if not connection.execute(known).rowcount:
                connection.execute(insert(table).values({"name": name, **row}))
            return now


def check_name(name: str) -> None:
    """Raises QuantlabError for an invalid name."""
    if not NAME.fullmatch(name):
        raise QuantlabError(
            f"{name!r} is no name for the service.",
            "Letters, digits and . _ + - only, at most 100, beginning with a letter or a digit.",
        )
