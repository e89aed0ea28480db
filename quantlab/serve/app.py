"""The service as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI

from quantlab import __version__
from quantlab.serve import problems, responses
from quantlab.serve.api.answers import Replies
from quantlab.serve.api.common import PREFIX
from quantlab.serve.api.events import Streams
from quantlab.serve.api.router import routes as api
from quantlab.serve.guard import Guard
from quantlab.serve.metrics import Metrics
from quantlab.serve.runs import Runs
from quantlab.serve.service import Service
from quantlab.serve.uploads import Uploads
from quantlab.serve.web.router import routes as pages

DESCRIPTION = """\
Quantize ONNX image classifiers to int8 on the server's machines, judge what that cost, and watch it
over time.

A job is a quantlab command line: upload a model, name a dataset, `POST /api/v1/jobs`, and follow
its events. Errors are problem details by RFC 9457. Lists come in pages; `next` is the address of
the next one. Times are ISO 8601 in UTC.
"""


def create_app(service: Service) -> FastAPI:
    """The API and the pages of a service. Raises UnavailableError where its database does not
    answer."""
    runs = Runs(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with runs:
            yield

    app = FastAPI(
        routes=[*api, *pages],  # as they are: what is included is built again for each application
        title="quantlab",
        version=__version__,
        description=DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        separate_input_output_schemas=False,
    )
    app.state.service, app.state.runs = service, runs
    app.state.uploads, app.state.streams = Uploads(service), Streams()
    app.state.answers = Replies(service.database)
    app.state.metrics = Metrics(service)
    app.add_middleware(Guard, service=service, metrics=app.state.metrics)
    responses.install(app)
    app.openapi = partial(_document, app.openapi)  # type: ignore[method-assign]
    return app


def _document(generate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The OpenAPI document; problems have one media type, which FastAPI does not know of."""
    document = generate()
    for path in document["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                content = response.get("content", {})
                if problems.MEDIA_TYPE in content:
                    content.pop("application/json", None)
    return document
