"""Two runs side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from quantlab.runs.index import Filter
from quantlab.serve.access import MayRead
from quantlab.serve.api.common import RunsOf
from quantlab.serve.web import views
from quantlab.serve.web.common import Text, page
from quantlab.serve.web.routes.runs import TO_COMPARE

router = APIRouter(include_in_schema=False)


@router.get("/compare")
def compare_page(
    request: Request,
    runs: RunsOf,
    _: MayRead,
    run: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006
    old: Text = "",
    new: Text = "",
) -> Response:
    """What changed between two runs: ``old`` and ``new``, or two picked in a list, the newest of
    which comes first."""
    listed = runs.entries(Filter(limit=TO_COMPARE))
    rows = [views.run_row(entry) for entry in listed]
    pair = (old, new) if old and new else tuple(reversed(run)) if len(run) == 2 else None
    wrong = f"Tick two runs, not {len(run)}." if run and pair is None else ""
    if pair is None:
        first = old or new or (run[0] if run else "")
        return page(
            request, "compare.html.j2", status=422 if wrong else 200, rows=rows, pair=None,
            sides=None, view=None, wrong=wrong, first=first,
        )  # fmt: skip
    sides = [views.run_row(runs.get(name).entry) for name in pair]
    view = views.compare_view(runs.different(*pair))
    return page(
        request, "compare.html.j2", rows=rows, pair=pair, sides=sides, view=view, wrong="",
        first=pair[0],
    )  # fmt: skip
