from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from quantlab.errors import DataError, ModelError, OutputError, QuantlabError, RecordError
from quantlab.serve.db import UnavailableError
from quantlab.serve.objects import ObjectMissingError
from quantlab.serve.outgoing import NotSentError
from quantlab.serve.problems import Problem, TooFast, TooLargeError, status_of
from quantlab.serve.queue import (
    ConflictError,
    ForbiddenError,
    LeaseLostError,
    NotFoundError,
    TooManyError,
)
from quantlab.serve.responses import MOST_ERRORS, answer


def told(error: Exception) -> tuple[dict[str, Any], Any]:
    response = answer(error, "/api/v1/x")
    assert response.media_type == "application/problem+json"
    facts = json.loads(bytes(response.body))
    Problem.model_validate(facts)
    assert facts["status"] == response.status_code
    return facts, response


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFoundError("x."), 404),
        (ObjectMissingError("x."), 404),
        (ConflictError("x."), 409),
        (TooLargeError("x."), 413),
        (TooManyError("x."), 429),
        (TooFast(3), 429),
        (UnavailableError("x."), 503),
        (OutputError("x."), 503),
        (QuantlabError("x."), 422),
        (ModelError("x."), 422),
        (DataError("x."), 422),
        (RecordError("x."), 422),
    ],
)
def test_every_error_has_its_status(error: QuantlabError, status: int) -> None:
    assert status_of(error) == status


def test_no_error_of_the_package_is_forgotten() -> None:
    def kinds(kind: type[QuantlabError]) -> set[type[QuantlabError]]:
        return {kind}.union(*(kinds(each) for each in kind.__subclasses__()))

    found = {kind for kind in kinds(QuantlabError) if kind.__module__.startswith("quantlab.serve")}
    assert found <= {
        NotFoundError,
        ForbiddenError,
        NotSentError,  # of an alert, which no request waits for
        ObjectMissingError,
        ConflictError,
        TooLargeError,
        TooManyError,
        TooFast,
        UnavailableError,
        LeaseLostError,
    }


def test_problem_and_remedy_are_told() -> None:
    facts, _ = told(NotFoundError("there is no such model.", "Upload it."))
    assert facts == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no such model.",
        "remedy": "Upload it.",
        "instance": "/api/v1/x",
    }


@pytest.mark.parametrize("kind", [UnavailableError, OutputError])
def test_the_servers_own_places_are_for_the_log(
    kind: type[QuantlabError], caplog: pytest.LogCaptureFixture
) -> None:
    facts, response = told(kind("sqlite:////home/me/server.db is locked.", "Look there."))
    assert "/home/me" not in str(facts)
    assert "/home/me" in caplog.text
    assert int(response.headers["retry-after"]) >= 1


def test_who_is_too_fast_hears_how_long_to_wait() -> None:
    assert told(TooFast(7.6))[1].headers["retry-after"] == "8"
    assert told(TooFast(0.1))[1].headers["retry-after"] == "1"
    assert int(told(TooManyError("x."))[1].headers["retry-after"]) > 1


def test_what_is_not_valid_is_named_without_what_was_sent() -> None:
    error = {"type": "x", "loc": ("body", 3, "data"), "msg": "Field required", "input": "hunter2"}
    facts, _ = told(RequestValidationError([error] * 500))
    assert facts["errors"][0] == {"where": "body.3.data", "problem": "Field required"}
    assert len(facts["errors"]) == MOST_ERRORS
    assert "hunter2" not in str(facts)


def test_what_no_utf_8_can_hold_is_said_again_unharmed() -> None:
    facts, _ = told(NotFoundError("there is no \ud800 and no <b>."))
    assert facts["detail"] == "there is no \ud800 and no <b>."


def test_the_frameworks_own_errors_are_problems() -> None:
    facts, response = told(HTTPException(405, headers={"Allow": "GET"}))
    assert (facts["title"], facts["detail"]) == ("Method Not Allowed", "method not allowed.")
    assert response.headers["allow"] == "GET"


def test_what_nobody_expected_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        facts, _ = told(ZeroDivisionError("my secret"))
    assert facts["status"] == 500
    assert "secret" not in str(facts)
    assert "my secret" in caplog.text
