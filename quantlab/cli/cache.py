"""quantlab cache"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import options_from, recorded_run


@click.command(
    "cache",
    cls=Verb,
    short_help="What is kept of images and answers, and emptying it.",
    options="small:CacheOptions",
)
def command(**params: Any) -> None:
    """List (ls) or remove (clear) decoded images, fetched datasets, quantized files and models'
    answers in the cache folder.

    Fetched models stay. QUANTLAB_CACHE names the folder, QUANTLAB_CACHE_SIZE its limit (10GB).
    """
    from quantlab.report.text import cache_cleared, cache_listing
    from quantlab.verbs.cache import CacheOptions, list_or_clear
    from quantlab.verbs.publish import publish

    with recorded_run("cache", params) as (run, reporter):
        result = publish(list_or_clear(options_from(params, CacheOptions)), run, reporter).value
    if params["as_json"]:
        return
    if params["action"] == "clear":
        print_result(cache_cleared(result.rows, result.stuck, result.folder))
    else:
        print_result(cache_listing(result.rows, result.folder, result.limit))
