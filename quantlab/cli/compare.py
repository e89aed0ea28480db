"""quantlab compare"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.options import (
    Name,
    data_options,
    evaluation_options,
    executor_option,
    given,
    model_options,
    pick,
    recorded_run,
    run_options,
)
from quantlab.verbs import roles


@click.command("compare", cls=Verb, short_help="What int8 lost and gained, with a verdict.")
@click.argument("fp32", type=Name(roles.MODEL))
@click.argument("int8", type=Name(roles.MODEL_OR_ANSWERS))
@data_options
@click.option(
    "--max-decline",
    default="1%",
    show_default=True,
    help="Accepted top-1 decline: 1% of fp32's accuracy, or 0.5pp points.",
)
@click.option(
    "--criterion",
    help="Instead of --max-decline: 'top5.decline <= 1%', 'agreement >= 96%', 'kl <= 0.01', ...",
)
@click.option(
    "--batch",
    "batch_sizes",
    type=click.IntRange(1),
    multiple=True,
    default=(1,),
    show_default=True,
    help="Batch sizes to time; may be given several times.",
)
@click.option("--rounds", type=click.IntRange(2), help="Of timing; see docs/bench.md.")
@click.option("--no-bench", is_flag=True, help="Leave the timing out.")
@click.option(
    "--early-stop",
    is_flag=True,
    help="Evaluate both in turns and stop once pass or fail is certain.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@executor_option
@evaluation_options
@model_options
@run_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Compare INT8 with FP32 on the same images: accuracy, fidelity, latency, size.

    INT8 may be another device's answers instead: a folder of results named after the images, or
    one file of them (docs/evaluate.md). Then nothing is timed.

    Exits with the verdict: 0 pass, 1 regression, 3 inconclusive.
    """
    from quantlab.report.text import compare_summary
    from quantlab.verbs.compare import CompareOptions, compare_job
    from quantlab.verbs.device import compare_device_job, is_answers
    from quantlab.verbs.publish import publish

    if params["criterion"] and "max_decline" in given(ctx):
        raise click.UsageError("Give --criterion or --max-decline, not both.")
    with recorded_run("compare", params) as (run, reporter):
        spec = CompareOptions(**pick(params, CompareOptions))
        if is_answers(Path(spec.int8)):
            compared = compare_device_job(spec, reporter)
        else:
            compared = compare_job(spec, reporter, run.record.command)
        result = publish(compared, run, reporter)
    if not params["as_json"]:
        click.echo(compare_summary(result.comparison, result.verdict, result.context.early))
    ctx.exit(result.exit_code)
