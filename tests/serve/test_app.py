"""The OpenAPI document."""

from __future__ import annotations

from typing import Any

import pytest
from clients import app_of, client_of, clients_of
from jsonschema import Draft202012Validator

from quantlab import __version__
from quantlab.serve.problems import MEDIA_TYPE
from quantlab.serve.requests import VERBS
from quantlab.serve.service import Service


@pytest.fixture
def document(sqlite_service: Service) -> dict[str, Any]:
    found: dict[str, Any] = client_of(app_of(sqlite_service)).get("/api/v1/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


def test_it_says_what_it_is(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == __version__


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    found = operations(document)
    assert len(found) >= 30
    for name, operation in found:
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        assert operation["operationId"], name
        assert all(response["description"] for response in operation["responses"].values()), name


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)


def test_only_health_needs_no_token(document: dict[str, Any]) -> None:
    without = {name for name, operation in operations(document) if not operation.get("security")}
    assert without == {"GET /api/v1/health"}
    (scheme,) = document["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def test_scopes_are_documented(document: dict[str, Any]) -> None:
    scopes = {
        name: next(iter(operation["security"][0].values()))
        for name, operation in operations(document)
        if operation.get("security")
    }
    assert scopes["GET /api/v1/audit"] == ["admin"]
    assert scopes["POST /api/v1/jobs"] == ["submit"]
    reading = [
        name
        for name in scopes
        if name.startswith("GET") and "audit" not in name and "receivers" not in name
    ]
    assert all(scopes[name] in (["read"], ["submit"]) for name in reading)


def test_problems_have_their_media_type_and_no_other(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400":
                assert list(response["content"]) == [MEDIA_TYPE], (name, status)
        assert {"422", "429", "503"} <= operation["responses"].keys()


def test_requests_of_all_verbs_are_there(document: dict[str, Any]) -> None:
    body = document["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["discriminator"]["mapping"]) == set(VERBS)


def test_all_schemas_are_valid_and_all_references_lead_somewhere(document: dict[str, Any]) -> None:
    def references(part: Any) -> set[str]:
        if isinstance(part, dict):
            own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
            return own.union(*(references(each) for each in part.values()))
        return set().union(*map(references, part)) if isinstance(part, list) else set()

    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    prefix = "#/components/schemas/"
    assert {reference.removeprefix(prefix) for reference in references(document)} <= set(schemas)


def test_pages_are_no_part_of_it(document: dict[str, Any]) -> None:
    assert all(path.startswith("/api/v1/") for path in document["paths"])


def test_nothing_is_fetched_from_elsewhere(sqlite_service: Service) -> None:
    """FastAPI's own pages would load scripts from other servers."""
    (client,) = clients_of(sqlite_service, "read")
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert client.get(path).status_code == 404
