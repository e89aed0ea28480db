"""quantlab tune"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.options import (
    Duration,
    FilePath,
    Location,
    Name,
    Share,
    data_options,
    evaluation_options,
    executor_option,
    force_option,
    given,
    model_options,
    pick,
    recorded_run,
    resumed,
    run_options,
)
from quantlab.verbs import roles

STRATEGIES = (
    "ladder",
    "sensitivity",
    "grid",
    "random",
    "tpe",
    "exhaustive",
    "basic",
    "conservative",
)


@click.command(
    "tune", cls=Verb, short_help="Find the best int8 file: faithful first, then as fast as any."
)
@click.option(
    "--config",
    type=FilePath(roles.FILE),
    help="Default: quantlab.yaml here. Neural Compressor YAML works too.",
)
@click.option(
    "--model",
    "--input_model",
    "model",
    type=Name(roles.MODEL),
    help="A .onnx file, or a published model's name.",
)
@data_options
@click.option(
    "--eval-data",
    type=Location(roles.OTHER_DATA),
    help="Images to judge on; default: part of --data.",
)
@click.option("--eval-list", type=FilePath(roles.FILE), help="List file of --eval-data.")
@click.option(
    "--recipe",
    type=Name(roles.FILE),
    help="Try only this recipe: a YAML file or a published model's name.",
)
@click.option(
    "--output",
    "--output_model",
    "output",
    type=FilePath(roles.WRITES_INT8),
    help="Default: <model>.int8.onnx here.",
)
@force_option
@click.option(
    "--max-decline",
    default="1%",
    show_default=True,
    help="Accepted top-1 decline: 1% of fp32's accuracy, or 0.5pp points.",
)
@click.option(
    "--images-per-class",
    type=click.IntRange(1),
    help="For calibration. Default: one, and at least 300 in all, where there are so many.",
)
@click.option("--calibration-size", type=click.IntRange(1), help="Instead of --images-per-class.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--budget", type=Duration(), default="5m", show_default=True)
@click.option(
    "--criterion",
    help="Instead of --max-decline: 'top5.decline <= 1%', 'agreement >= 96%', 'kl <= 0.01', ...",
)
@click.option(
    "--quant_format",
    type=click.Choice(["QDQ", "QOperator", "default"], case_sensitive=False),
    help="Try only recipes of this format.",
)
@click.option("--tolerance", type=Share(), default=0.0, help="Slack in the limit while searching.")
@click.option("--strategy", type=click.Choice(STRATEGIES), default="ladder", show_default=True)
@click.option(
    "--engine",
    default="quantlab",
    show_default=True,
    help="quantlab, ort, inc, nncf, or an installed one.",
)
@click.option(
    "--inc-strategy",
    type=click.Choice(["basic", "bayesian", "exhaustive"]),
    help="With --engine inc: let Neural Compressor search in its own way.",
)
@click.option("--max-trials", type=click.IntRange(1), help="Evaluations at most.")
@click.option("--target-speedup", type=click.FloatRange(min=0), help="Stop when it is reached.")
@click.option(
    "--storage",
    type=Name(roles.ADDS_ROWS),
    help="An Optuna storage URL that several machines share.",
)
@click.option("--resume", type=FilePath(roles.FOLDER), help="Go on with this run folder.")
@click.option(
    "--pick",
    type=click.Choice(["best", "fastest", "smallest", "most-accurate"]),
    default="best",
    show_default=True,
    help="Which trial to write.",
)
@click.option("--no-bench", is_flag=True, help="Leave the timing out.")
@click.option("--no-audit", is_flag=True, help="No look at whether the preprocessing is right.")
@click.option("--allow-overlap", is_flag=True, help="Judge also on calibration images.")
@click.option("--gate", is_flag=True, help="Exit with the verdict: 0 pass, 1 fail, 3 inconclusive.")
@executor_option
@evaluation_options
@model_options
@run_options
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Calibrate, quantize by a ladder of recipes, judge and time each, keep the best.

    The best file so far is always on disk, also after Ctrl-C. The order: meets the criterion, then
    speed, then fidelity to the fp32 model.
    """
    from quantlab.gate.notation import USUAL, spelled_now
    from quantlab.report.files import MARKDOWN
    from quantlab.report.text import tune_summary
    from quantlab.runs.record import load_record
    from quantlab.verbs.config import Loaded, effective, load
    from quantlab.verbs.pick import only_picks
    from quantlab.verbs.publish import publish, write_artifacts
    from quantlab.verbs.settings import settings_files
    from quantlab.verbs.tune import TuneOptions, resumable, tune_job

    loaded, now = Loaded(), given(ctx)
    if {"criterion", "max_decline"} <= now.keys():
        raise click.UsageError("Give --criterion or --max-decline, not both.")
    if params["resume"] is None:
        loaded = load(params["config"])
        params |= effective(loaded.config, now)
    else:
        params = resumed(ctx, params) | {"config": params["resume"]}
        params["criterion"] = spelled_now(now.get("max_decline", params["criterion"] or USUAL))
        if "engine" in now:
            params["engines"] = ()
    if params["model"] is None:
        raise click.UsageError("Give --model MODEL, or --resume RUN to go on with a run.")
    engines = params.get("engines") or [params["engine"]]
    if params["inc_strategy"] and not params["recipe"] and "inc" not in engines:
        raise click.UsageError("--inc-strategy goes with --engine inc.")
    if params["quant_format"] not in (None, "default"):
        formats = {"format": (params["quant_format"].lower(),)}
        params["search"] = {**(params.get("search") or {}), **formats}
    before = None if params["resume"] is None else load_record(params["resume"])
    picking = before is not None and only_picks(before, now)
    source, folder = (params["resume"], None) if picking else (None, params["resume"])
    space = params.get("search") or None
    spec = TuneOptions(**pick(params, TuneOptions), space=space, source=source)
    with recorded_run("tune", params, folder=folder) as (run, reporter):
        if before is not None and picking:
            run.record.source = before.id
        write_artifacts(run, settings_files(run.record, run.folder, loaded, reporter))
        tuned = tune_job(spec, run.folder, reporter)
        with resumable(run.folder):
            result = publish(tuned, run, reporter)
    if not params["as_json"]:
        places = {"int8 model": result.output, "Report": run.folder / MARKDOWN}
        click.echo(
            tune_summary(
                result.comparison,
                result.verdict,
                result.rows,
                result.missed,
                places,
                result.ended,
            )
        )
    if result.interrupted or params["gate"]:
        ctx.exit(result.exit_code)
