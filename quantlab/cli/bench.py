"""quantlab bench"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.options import (
    SIZE_HELP,
    FilePath,
    Name,
    compat_option,
    force_option,
    given,
    pick,
    recorded_run,
    run_options,
)
from quantlab.verbs import roles

if TYPE_CHECKING:
    AnyParam = click.ParamType[Any]
else:
    AnyParam = click.ParamType  # click before 8.4 gives it no type argument


class Several(AnyParam):
    """An option's values, separated by commas: ``1,8,256``."""

    def __init__(self, kind: AnyParam) -> None:
        self.kind, self.name = kind, kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A tuple."""
        return tuple(self.kind.convert(word, param, ctx) for word in str(value).split(","))


def _flat(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Join the values of an option that was given several times."""
    return tuple(item for part in value for item in part)


@click.command(
    "bench", cls=Verb, short_help="Latency and throughput of models, interleaved in one run."
)
@click.argument("models", nargs=-1, type=Name(roles.MODEL))
@click.option("--input_model", type=Name(roles.MODEL), help="One more of MODELS.")
@click.option(
    "--batch",
    "--batch_size",
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
@click.option("--processes", "-p", type=click.IntRange(1), help="Times --instances so many.")
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
@click.option("--size", type=click.IntRange(1), help=SIZE_HELP)
@compat_option
@click.option(
    "--mode",
    type=click.Choice(["performance", "accuracy"]),
    default="performance",
    show_default=True,
    help="accuracy: quantlab evaluate, with the next two.",
)
@click.option(
    "--dataset_location", type=FilePath(roles.OTHER_DATA), help="With --mode accuracy: images."
)
@click.option(
    "--label_path", type=FilePath(roles.FILE), help="With --mode accuracy: `name label` a line."
)
@click.option(
    "--export",
    "exports",
    type=FilePath(roles.WRITES_EXPORT),
    multiple=True,
    help="Also write FILE.json (github-action-benchmark), FILE.csv or FILE.md.",
)
@click.option(
    "--profile", is_flag=True, help="Then where the time goes, by operator, and why not faster."
)
@force_option
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@run_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Time MODELS side by side; the first one is measured against itself as well (A/A)."""
    _complete(ctx, params)
    if params["mode"] == "accuracy":
        _evaluate(ctx, params)
    else:
        _measure(params)


def _complete(ctx: click.Context, params: dict[str, Any]) -> None:
    """The options that stand for others become these. Raises UsageError for what does not fit."""
    params["models"] += (params["input_model"],) if params["input_model"] else ()
    if not params["models"]:
        raise click.UsageError("Missing argument 'MODELS...'.")
    if params["processes"]:
        params["instances"] = (params["instances"] or 1) * params["processes"]
    if params["compat"] and (params["instances"] or params["rates"]):
        raise click.UsageError("--compat inc is of one instance: leave --instances, --rate out.")
    if params["cores_per_instance"] and not params["instances"]:
        raise click.UsageError("--cores-per-instance needs --instances.")
    if params["instances"] and "threads" in given(ctx):
        raise click.UsageError("With --instances, --cores-per-instance gives the threads.")
    if params["profile"] and params["provider"]:
        raise click.UsageError("--profile is of the CPU's kernels: leave --provider out.")


def _measure(params: dict[str, Any]) -> None:
    from quantlab.bench.measurement import BenchResult
    from quantlab.compat import inc_performance
    from quantlab.report.bench import bench_page
    from quantlab.report.profile import profile_summary
    from quantlab.verbs.bench import BenchOptions, bench_job
    from quantlab.verbs.profile import ProfileOptions, profile_job
    from quantlab.verbs.publish import publish

    profiles = None
    with recorded_run("bench", params) as (run, reporter):
        found = publish(
            bench_job(BenchOptions(**pick(params, BenchOptions)), reporter), run, reporter
        )
        if params["profile"]:
            asked = ProfileOptions(**pick(params, ProfileOptions))
            profiles = publish(profile_job(asked, reporter, found.facts()), run, reporter).value
    if params["as_json"]:
        return
    if params["compat"] and isinstance(found.result, BenchResult):
        click.echo(inc_performance(found.result))
    else:
        click.echo(bench_page(found.result, found.ratios))
    if profiles:
        click.echo(f"\n{profile_summary(profiles)}")


def _evaluate(ctx: click.Context, params: dict[str, Any]) -> None:
    """--mode accuracy is another verb, with these of its options."""
    from quantlab.cli.evaluate import command as evaluate

    words = [*params["models"], "--batch-size", str(params["batch_sizes"][0])]
    for flag, name in _OF_EVALUATE.items():
        words += [flag, str(params[name])] if name in given(ctx) else []
    words += [flag for flag, name in (("--json", "as_json"), ("--quiet", "quiet")) if params[name]]
    with evaluate.make_context("evaluate", words, parent=ctx.parent) as other:
        evaluate.invoke(other)


_OF_EVALUATE = {
    "--data": "dataset_location",
    "--list": "label_path",
    "--compat": "compat",
    "--provider": "provider",
    "--size": "size",
    "--runs-dir": "runs_dir",
}
