"""quantlab compare"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import given, options_from, recorded_run


@click.command(
    "compare",
    cls=Verb,
    short_help="What int8 lost and gained, with a verdict.",
    options="compare:CompareOptions",
)
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Compare INT8 with FP32 on the same images: accuracy, fidelity, latency, size.

    INT8 may be another device's answers instead: a folder of results named after the images, or
    one file of them (docs/evaluate.md). Then nothing is timed.

    Exits with the verdict: 0 pass, 1 regression, 3 inconclusive.
    """
    from quantlab.report.text import compare_summary
    from quantlab.verbs.compare import CompareOptions, compare_named_models
    from quantlab.verbs.device import compare_device_answers, is_answers
    from quantlab.verbs.publish import publish

    if missing := [name.upper() for name in ("fp32", "int8") if params[name] is None]:
        raise click.UsageError(f"Missing argument '{missing[0]}', and no quantlab.yaml names it.")
    if params["criterion"] and "max_decline" in given(ctx):
        raise click.UsageError("Give --criterion or --max-decline, not both.")
    with recorded_run("compare", params) as (run, reporter):
        spec = options_from(params, CompareOptions)
        if is_answers(Path(spec.int8)):
            compared = compare_device_answers(spec, reporter)
        else:
            compared = compare_named_models(spec, reporter, run.record.command)
        result = publish(compared, run, reporter)
    if not params["as_json"]:
        print_result(
            compare_summary(
                result.comparison,
                result.verdict,
                result.context.early,
                zoo=params["compat"] == "zoo",
            )
        )
    ctx.exit(result.exit_code)
