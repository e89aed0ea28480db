"""quantlab bench"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.options import job, pick, run_options


@click.command("bench", short_help="Latency and throughput of models, interleaved in one run.")
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--batch",
    "batch_sizes",
    type=click.IntRange(1),
    multiple=True,
    default=(1,),
    show_default=True,
    help="May be given several times.",
)
@click.option("--rounds", type=click.IntRange(2), default=30, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@run_options
def command(**params: Any) -> None:
    """Time MODELS side by side; the first one is measured against itself as well (A/A)."""
    from quantlab.jobs.bench import BenchSpec, bench_job
    from quantlab.report.text import bench_summary

    with job("bench", params) as (run, talk):
        result = bench_job(BenchSpec(**pick(params, BenchSpec)), run, talk)
    if not params["as_json"]:
        rows = [(r.name, r.first, r.speed) for r in result.ratios]
        click.echo(bench_summary(result.result, rows))
