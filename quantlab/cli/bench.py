"""quantlab bench"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import given, options_from, recorded_run


@click.command(
    "bench",
    cls=Verb,
    short_help="Latency and throughput of models, interleaved in one run.",
    options="bench:BenchOptions",
)
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
    if not params["models"]:
        raise click.UsageError("Missing argument 'MODELS...', and no quantlab.yaml names a model.")
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
    from quantlab.verbs.bench import BenchOptions, bench_named_models
    from quantlab.verbs.profile import ProfileOptions, profile_named_models
    from quantlab.verbs.publish import publish

    profiles = None
    with recorded_run("bench", params) as (run, reporter):
        found = publish(
            bench_named_models(options_from(params, BenchOptions), reporter), run, reporter
        )
        if params["profile"]:
            asked = options_from(params, ProfileOptions)
            profiles = publish(
                profile_named_models(asked, reporter, found.facts()), run, reporter
            ).value
    if params["as_json"]:
        return
    if params["compat"] and isinstance(found.result, BenchResult):
        print_result(inc_performance(found.result))
    else:
        print_result(bench_page(found.result, found.ratios))
    if profiles:
        print_result(f"\n{profile_summary(profiles)}")


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
    "--layout": "layout",
    "--output-name": "output_name",
    "--size": "size",
    "--runs-dir": "runs_dir",
}
