"""The settings of a service, from its verbs' options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantlab.serve.settings import Settings


def settings_of(params: dict[str, Any]) -> Settings:
    """The settings that these options name. Raises RecipeError, MissingExtraError."""
    from quantlab.errors import MissingExtraError

    try:
        from quantlab.serve.settings import load_settings
    except ImportError as error:
        raise MissingExtraError(error.name or "fsspec", "serve", "the service") from error
    given = {name: params[name] for name in ("home", "db", "store")}
    return load_settings(params["config"], **given)
