"""Problems: the shape of an error by RFC 9457 (application/problem+json), and its status."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from quantlab.errors import OutputError, QuantlabError
from quantlab.serve.db import UnavailableError
from quantlab.serve.objects import ObjectMissingError
from quantlab.serve.queue import ConflictError, ForbiddenError, NotFoundError, TooManyError

MEDIA_TYPE = "application/problem+json"


class TooLargeError(QuantlabError):
    """More bytes than the service takes."""


class TooFast(TooManyError):
    """More requests than are let through; ``seconds`` from now on there is room again."""

    def __init__(self, seconds: float) -> None:
        super().__init__("there are too many requests.", f"Wait for {seconds:.0f} s.")
        self.seconds = seconds


class WrongField(BaseModel):
    """A part of the request that is wrong."""

    where: str = Field(examples=["body.data"])
    problem: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """An error by RFC 9457; ``remedy`` and ``errors`` are additions of its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "the service has no model called mobilenet.",
                    "remedy": "Upload it, or ask for what it has.",
                    "instance": "/api/v1/models/mobilenet",
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="what is wrong")
    remedy: str = Field("", description="how to mend it")
    instance: str = Field(description="the request's path")
    errors: list[WrongField] = Field(default=[], description="of a request that is not valid")


_STATUSES: tuple[tuple[type[QuantlabError], int], ...] = (
    (NotFoundError, 404),
    (ObjectMissingError, 404),
    (ForbiddenError, 403),
    (ConflictError, 409),
    (TooLargeError, 413),
    (TooManyError, 429),
    (UnavailableError, 503),
    (OutputError, 503),
)


def status_of(error: QuantlabError) -> int:
    """The status that tells it: 422 where it is neither known to be another's nor the server's."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 422)
