"""What the API's tests share."""

from __future__ import annotations

from typing import Any

import pytest
from clients import app_of, client_of
from holdings import add_dataset, add_model

from quantlab.serve.service import Service


@pytest.fixture
def stocked(service: Service) -> Service:
    """A service of each database with a model and a dataset."""
    add_model(service)
    add_dataset(service)
    return service


@pytest.fixture
def client(stocked: Service) -> Any:
    """Of this machine, without tokens: it may do everything."""
    return client_of(app_of(stocked))


@pytest.fixture
def small_client(sqlite_service: Service) -> Any:
    """The same of SQLite alone, for what never reaches the database."""
    add_model(sqlite_service)
    add_dataset(sqlite_service)
    return client_of(app_of(sqlite_service))
