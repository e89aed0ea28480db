"""quantlab quantize"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import options_from, recorded_run


@click.command(
    "quantize",
    cls=Verb,
    short_help="One model, one recipe, one int8 file; no search.",
    options="quantize:QuantizeOptions",
)
def command(**params: Any) -> None:
    """Calibrate and quantize by one recipe."""
    from quantlab.model.model import whole_files
    from quantlab.verbs.publish import publish
    from quantlab.verbs.quantize import QuantizeOptions, quantize_named_model

    spec = options_from(params, QuantizeOptions)
    with recorded_run("quantize", params) as (run, reporter):
        made = publish(quantize_named_model(spec, reporter), run, reporter)
    if not params["as_json"] and made.output is not None:
        print_result(made.check.line)
        files = " and ".join(map(str, whole_files(made.output.path)))
        click.echo(f"Wrote {files} ({made.output.size_bytes / 1e6:.2f} MB)")
