"""quantlab bench"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.options import PATH, given, job, pick, run_options

if TYPE_CHECKING:
    AnyParam = click.ParamType[Any]
else:
    AnyParam = click.ParamType  # click before 8.4 gives it no type argument


class Several(AnyParam):
    """One value or several with commas: ``1,8,256``."""

    def __init__(self, kind: AnyParam) -> None:
        self.kind, self.name = kind, kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A tuple."""
        return tuple(self.kind.convert(word, param, ctx) for word in str(value).split(","))


def _flat(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """The values of an option that was given several times."""
    return tuple(item for part in value for item in part)


@click.command("bench", short_help="Latency and throughput of models, interleaved in one run.")
@click.argument("models", nargs=-1, required=True)
@click.option(
    "--batch",
    "-b",
    "batch_sizes",
    type=Several(click.IntRange(1)),
    metavar="N,N,...",
    multiple=True,
    default=("1",),
    show_default=True,
    callback=_flat,
    help="Batch sizes: 1,8,256, or the option several times.",
)
@click.option("--rounds", type=click.IntRange(2), help="Default: as many as the time allows.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=25.0,
    show_default=True,
    help="For each batch size or rate, about.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--instances", "-i", type=click.IntRange(1), help="So many processes at once.")
@click.option(
    "--cores-per-instance", type=click.IntRange(1), help="CPUs and threads of each.  [default: 1]"
)
@click.option(
    "--rate",
    "rates",
    type=Several(click.FloatRange(0, min_open=True)),
    metavar="N,N,...",
    multiple=True,
    callback=_flat,
    help="Offered load in images/s: latency when requests come at random.",
)
@click.option("--provider", help="Execution provider: cpu, openvino, cuda, ... for all models.")
@click.option(
    "--export",
    "exports",
    type=PATH,
    multiple=True,
    help="Also write FILE.json (github-action-benchmark), FILE.csv or FILE.md.",
)
@click.option(
    "--profile", is_flag=True, help="Then where the time goes, by operator, and why not faster."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@run_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Time MODELS side by side; the first one is measured against itself as well (A/A)."""
    from quantlab.jobs.bench import BenchSpec, bench_job
    from quantlab.jobs.profile import ProfileSpec, profile_job
    from quantlab.report.bench import bench_page
    from quantlab.report.profile import profile_summary

    if params["cores_per_instance"] and not params["instances"]:
        raise click.UsageError("--cores-per-instance needs --instances.")
    if params["instances"] and "threads" in given(ctx):
        raise click.UsageError("With --instances, --cores-per-instance gives the threads.")
    if params["profile"] and params["provider"]:
        raise click.UsageError("--profile is of the CPU's kernels: leave --provider out.")
    profiles = None
    with job("bench", params) as (run, talk):
        found = bench_job(BenchSpec(**pick(params, BenchSpec)), run, talk)
        if params["profile"]:
            profiles = profile_job(ProfileSpec(**pick(params, ProfileSpec)), run, talk)
    if not params["as_json"]:
        click.echo(bench_page(found.result, found.ratios))
        if profiles:
            click.echo(f"\n{profile_summary(profiles)}")
