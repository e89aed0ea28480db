"""Recipes: those of published models, and uploaded ones."""

from __future__ import annotations

from typing import Annotated, Literal

import yaml
from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, Field

from quantlab.errors import RecipeError
from quantlab.fetch import catalog as published
from quantlab.serve.access import MayRead, MaySubmit
from quantlab.serve.api.answers import Reply, listed, respond
from quantlab.serve.api.common import (
    PREFIX,
    ListPage,
    NamePath,
    ServiceOf,
    address,
    iso,
    problems,
    unchanged_or,
)
from quantlab.serve.problems import TooLargeError
from quantlab.serve.queue import NotFoundError
from quantlab.serve.removal import Removal

router = APIRouter(prefix=f"{PREFIX}/recipes", tags=["recipes"])
MEDIA_TYPE = "application/yaml"
MOST_BYTES = 64 * 1024
"""Reading YAML takes its time."""


class RecipeLinks(BaseModel):
    """Addresses."""

    self: str


class RecipeView(BaseModel):
    """A recipe; its text is at its own address."""

    name: str = Field(examples=["mobilenetv2-12"])
    source: Literal["uploaded", "published"]
    created: str | None = Field(description="null for one that every quantlab has")
    links: RecipeLinks


@router.get(
    "",
    summary="The recipes, by name",
    response_model=ListPage[RecipeView],
    responses=unchanged_or(),
)
async def recipes(service: ServiceOf, _: MayRead, request: Request) -> Response:
    """List all recipes; an uploaded one hides the published one of its name."""

    def make() -> Reply:
        found = {name: _view(name, None) for name, entry in published().items() if entry.recipe}
        found |= {each.name: _view(each.name, each.created) for each in service.catalog.recipes()}
        return listed(found[name] for name in sorted(found))

    return await respond(request, make)


@router.get(
    "/{name}",
    summary="A recipe's text",
    response_class=Response,
    responses={
        **problems(404),
        200: {
            "description": "The recipe.",
            "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
        },
    },
)
def recipe(service: ServiceOf, _: MayRead, name: NamePath) -> Response:
    """Get a recipe as YAML."""
    stored = service.catalog.recipe(name)
    return Response(_published(name) if stored is None else stored.text, media_type=MEDIA_TYPE)


@router.put("/{name}", summary="Keep a recipe", responses=problems(408))
def put_recipe(
    service: ServiceOf,
    token: MaySubmit,
    name: NamePath,
    text: Annotated[bytes, Body(media_type=MEDIA_TYPE, examples=["name: mine\nformat: qdq\n"])],
) -> RecipeView:
    """The body is the recipe as YAML. The same name again replaces it; jobs keep what they were
    asked."""
    if len(text) > MOST_BYTES:
        raise TooLargeError(f"a recipe may have {MOST_BYTES:,} bytes at most.")
    try:
        stored = service.catalog.add_recipe(name, text.decode(), token.id)
    except UnicodeDecodeError as error:
        raise RecipeError("the recipe is not text in UTF-8.") from error
    return _view(name, stored.created)


@router.delete("/{name}", summary="Delete a recipe", status_code=204, responses=problems(404))
def delete_recipe(service: ServiceOf, token: MaySubmit, name: NamePath) -> None:
    """One that was uploaded. Another token's needs the scope admin."""
    Removal(service, token).recipe(name)


def _published(name: str) -> str:
    found = published()[name].recipe
    if found is None:
        raise NotFoundError(f"the published model {name} has no recipe.")
    facts = found.model_dump(mode="json", exclude_defaults=True)
    return str(yaml.safe_dump({"name": found.name, **facts}, sort_keys=False))


def _view(name: str, created: float | None) -> RecipeView:
    return RecipeView(
        name=name,
        source="published" if created is None else "uploaded",
        created=iso(created),
        links=RecipeLinks(self=address("recipes", name)),
    )
