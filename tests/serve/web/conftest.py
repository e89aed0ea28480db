"""A furnished service, and clients of its pages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from clients import client_of
from seeds import furnish
from starlette.testclient import TestClient

from quantlab.serve.app import create_app
from quantlab.serve.service import Service


@pytest.fixture
def tune_run(sqlite_service: Service) -> str:
    """The service has models, runs and jobs in all states; the name of its tune's run."""
    return furnish(sqlite_service)


@pytest.fixture
def anyone(sqlite_service: Service) -> Iterator[TestClient]:
    """Somebody on this machine, where there are no tokens."""
    with client_of(create_app(sqlite_service)) as client:
        yield client
