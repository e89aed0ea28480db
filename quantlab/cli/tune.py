"""quantlab tune"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import given, options_from, recorded_run, resumed


@click.command(
    "tune",
    cls=Verb,
    short_help="Find the best int8 file: faithful first, then as fast as any.",
    options="tune:TuneOptions",
)
@click.pass_context
def command(ctx: click.Context, /, **params: Any) -> None:
    """Calibrate, quantize by a ladder of recipes, judge and time each, keep the best.

    The best file so far is always on disk, also after Ctrl-C. The order: meets the criterion, then
    speed, then fidelity to the fp32 model.
    """
    from quantlab.gate.notation import USUAL, parse_decline, spelled_now
    from quantlab.report.text import tune_summary
    from quantlab.runs.record import load_record
    from quantlab.verbs.config import Loaded, load, resolve, source_name
    from quantlab.verbs.pick import only_picks
    from quantlab.verbs.publish import publish, write_artifacts
    from quantlab.verbs.settings import settings_files
    from quantlab.verbs.tune import TuneOptions, resumable, tune_named_model

    loaded, now = Loaded(), given(ctx)
    if {"criterion", "max_decline"} <= now.keys():
        raise click.UsageError("Give --criterion or --max-decline, not both.")
    if params["resume"] is None:
        loaded = load(params["config"])
        params |= resolve(TuneOptions, now, loaded.config, source_name(params["config"]))
        params["rules"] = loaded.config.rules.model_dump()
    else:
        params = resumed(ctx, params) | {"config": params["resume"]}
        held = spelled_now(params["criterion"] or USUAL)
        most = now.get("max_decline")
        params["criterion"] = held if most is None else parse_decline(most).written
        if "engine" in now:
            params["engines"] = ()
    if params["model"] is None:
        raise click.UsageError(
            "Missing argument 'MODEL', and no quantlab.yaml names a model; or go on with a run by "
            "--resume RUN."
        )
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
    spec = options_from(params, TuneOptions, space=space, source=source)
    with recorded_run("tune", params, folder=folder) as (run, reporter):
        if before is not None and picking:
            run.record.source = before.id
        write_artifacts(run, settings_files(run.record, run.folder, loaded, reporter))
        tuned = tune_named_model(spec, run.folder, reporter)
        with resumable(run.folder):
            result = publish(tuned, run, reporter)
    if not params["as_json"]:
        places = {"int8 model": result.output}
        print_result(
            tune_summary(
                result.comparison,
                result.verdict,
                result.rows,
                result.missed,
                places,
                result.ended,
                zoo=params["compat"] == "zoo",
            )
        )
    if result.interrupted or params["gate"]:
        ctx.exit(result.exit_code)
