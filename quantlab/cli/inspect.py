"""quantlab inspect"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import given, options_from, recorded_run

_VIEWS = (
    "portability",
    "layers",
    "sensitivity",
    "preprocess-audit",
    "test-data",
    "quantization",
    "target",
)


@click.command(
    "inspect",
    cls=Verb,
    short_help="What is in a model: inputs, operators, int8 nodes, scales.",
    options="inspect:InspectOptions",
)
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Look into MODEL; into where INT8 departs from it with --layers.

    With --test-data it exits with 1 when the outputs are not the stored ones, with --target when
    the file breaches one of the target's rules.
    """
    from quantlab.report.text import inspected_summary
    from quantlab.verbs.inspect import InspectOptions, inspect_named_model
    from quantlab.verbs.publish import publish

    if "models" not in given(ctx) and params["fp32"]:
        params["models"] = params["models"][1:]
    if not params["models"]:
        raise click.UsageError("Missing argument 'MODEL', and no quantlab.yaml names a model.")
    if "models" not in given(ctx):
        params["models"] = params["models"][: 1 + params["layers"]]
    spec = options_from(params, InspectOptions, **_view(**params))
    with recorded_run("inspect", params) as (run, reporter):
        result = publish(inspect_named_model(spec, reporter), run, reporter)
    if not params["as_json"]:
        print_result(inspected_summary(result.value, scales=params["scales"], form=params["form"]))
    ctx.exit(result.exit_code)


def _view(**params: Any) -> dict[str, str | None]:
    """The models and what to show of them."""
    models, layers = params["models"], params["layers"]
    if params["fp32"] is not None:
        if not layers:
            raise click.UsageError("--fp32 goes with --layers.")
        models = (params["fp32"], *models)
    views = [name for name in _VIEWS if params[name.replace("-", "_")]]
    if len(views) > 1:
        raise click.UsageError(f"--{views[0]} and --{views[1]} are two views: give one of them.")
    if len(models) != 1 + layers:
        wanted = "two models, FP32 and INT8" if layers else "one model"
        raise click.UsageError(
            f"inspect{' --layers' if layers else ''} takes {wanted}, not {len(models)}."
        )
    view = views[0] if views else "inspect"
    if params["published"] is not None and view != "preprocess-audit":
        raise click.UsageError("--published goes with --preprocess-audit.")
    if params["form"] != "table" and view != "quantization":
        raise click.UsageError("--format goes with --quantization.")
    return {"model": models[0], "int8": models[1] if layers else None, "view": view}
