"""HTTP clients of an application in this process."""

from __future__ import annotations

import warnings
from typing import Any

from fastapi import FastAPI

from quantlab.serve.app import create_app
from quantlab.serve.service import Service
from quantlab.serve.tokens import Scope, Tokens

with warnings.catch_warnings():  # Starlette would have its successor of httpx
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

HERE = "http://127.0.0.1"
OPENED: list[FastAPI] = []
"""Applications whose databases a fixture lets go."""


def app_of(service: Service) -> FastAPI:
    """An application that no server runs."""
    OPENED.append(create_app(service))
    return OPENED[-1]


def close_applications() -> None:
    """Let their databases go."""
    while OPENED:
        OPENED.pop().state.runs.close()


def client_of(app: Any, token: str = "", **options: Any) -> TestClient:
    """A client on this machine; it never sees a server's exceptions."""
    given = {"base_url": HERE, "client": ("127.0.0.1", 5), "raise_server_exceptions": False}
    client = TestClient(app, **{**given, **options})
    if token:
        client.headers["Authorization"] = f"Bearer {token}"
    return client


def clients_of(service: Service, *scopes: Scope) -> list[TestClient]:
    """Clients of one application of the service, each with a new token of its scope."""
    tokens = [Tokens(service.database).create(f"my-{scope}", scope)[1] for scope in scopes]
    app = app_of(service)
    return [client_of(app, token) for token in tokens]
