"""Requests that schemathesis makes up from the OpenAPI document, valid ones and others.

QUANTLAB_FUZZ is the number of examples for each operation, scope and mode.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from clients import app_of
from holdings import RUN, accuracy, add_dataset, add_model, ask, leave_run
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import ParameterLocation as Place
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from waiting import HANGS

from quantlab.runs.index import _META as HISTORY
from quantlab.serve.db import META
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.tokens import SCOPES, Tokens
from quantlab.serve.uploads import Upload, Uploads
from quantlab.serve.watching import Watching

EXAMPLES = int(os.environ.get("QUANTLAB_FUZZ", "4"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SHA256 = "a" * 64


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "home"


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
)
def service(home: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Without a worker, with something of everything."""
    db = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    bounds = {"requests_a_minute": 10**9, "max_queued": 10**6}
    with Service.open(Settings(home=home, db=db, **bounds)) as opened:
        add_model(opened)
        add_dataset(opened)
        ask(opened)
        job = leave_run(opened, RUN, accuracy(), {"report.html": b"<p>", "a/b.json": b"{}"})
        opened.catalog.add_baseline("accepted", job.id, {"b.yaml": f"{job.folder}/b.yaml"})
        opened.catalog.add_recipe("mine", "name: mine\n")
        watch(opened)
        yield opened
        with opened.database.writing() as connection:
            META.drop_all(connection)
            HISTORY.drop_all(connection)


def watch(service: Service) -> None:
    """A monitor, a receiver and an alert."""
    watching = Watching(service.database)
    asked = {"verb": "evaluate", "model": "net", "data": "val"}
    how = {"schedule": "0 3 * * *", "on_version": True, "on_environment": True, "enabled": True}
    watching.add_receiver("net", "slack", "https://example.org/")
    watching.create("net", "local", request=asked, receivers=["net"], **how)
    watching.test("net")


@pytest.fixture(scope="module")
def known(service: Service) -> dict[str, str]:
    """What is there, by the names of path parameters."""
    upload = Uploads(service).begin("local", "new", 5, SHA256)
    assert isinstance(upload, Upload)
    job = service.queue.of_run(RUN).id
    names = {"name": "net", "model": "net", "upload": upload.id, "path": "a/b.json"}
    return {"job": job, "run": RUN, **names}


@pytest.fixture(scope="module")
def app(service: Service) -> Iterator[Any]:
    found = app_of(service)
    found.state.uploads = Uploads(service, lambda *_: {"classes": 4})
    yield found
    found.state.runs.close()


@pytest.fixture(scope="module")
def document(app: Any) -> Any:
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)


@pytest.fixture(scope="module")
def tokens(service: Service, document: Any) -> dict[str, str]:
    """By scope. From now on the service is not open any more."""
    return {scope: Tokens(service.database).create(scope, scope)[1] for scope in SCOPES}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.filterwarnings("ignore::Warning:schemathesis", "ignore::Warning:jsonschema")
def test_nothing_breaks_the_service(
    document: Any, tokens: dict[str, str], known: dict[str, str], scope: str, mode: GenerationMode
) -> None:
    headers = {"Authorization": f"Bearer {tokens[scope]}"}
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) >= 30
    checked = [check(operation, headers, known, mode) for operation in operations]
    assert sum(checked) >= 20


def check(operation: Any, headers: dict[str, str], known: dict[str, str], mode: Any) -> bool:
    """One operation, with what is there in some of the addresses; whether there was anything to
    make up."""
    cases = operation.as_strategy(generation_mode=mode)

    @seed(8)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, there=st.booleans())
    def each(case: Any, there: bool) -> None:
        if there and mode is GenerationMode.POSITIVE:
            case.path_parameters = {name: known[name] for name in case.path_parameters or {}}
        response = case.call(headers=headers, timeout=HANGS)
        checks = [*CHECKS, *([negative_data_rejection] if is_wrong(case) else [])]
        case.validate_response(response, checks=checks, headers=headers)

    try:
        each()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE
        return False
    return True


def is_wrong(case: Any) -> bool:
    """Whether it must be refused: not for a query that nobody asked for, as HTTP has it, nor for a
    header, since the token is put in its place."""
    declared = {each["name"] for each in case.operation.definition.raw.get("parameters", [])}
    wrong_query = case.meta.is_negative_at(Place.QUERY) and {*(case.query or {})} <= declared
    return wrong_query or any(map(case.meta.is_negative_at, (Place.BODY, Place.PATH)))


def test_nothing_was_written_beside_the_store(home: Path, tokens: dict[str, str]) -> None:
    """Runs after the others, over what they have left."""
    places = {path.name for path in home.iterdir()}
    allowed = {"server.db", "server.db-wal", "server.db-shm", "store", "work"}
    assert places <= allowed | {"secret-place", "net.onnx", "written"}
    assert {path.name for path in (home / "store").iterdir()} <= {"models", "jobs", "uploads"}
    assert not [path for path in (home / "work").rglob("*") if path.is_file()]
    assert {path.name for path in home.parent.iterdir()} == {"home"}
