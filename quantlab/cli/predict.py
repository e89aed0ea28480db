"""quantlab predict"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import options_from, recorded_run


@click.command(
    "predict",
    cls=Verb,
    short_help="What a model says of single images.",
    options="predict:PredictOptions",
)
def command(**params: Any) -> None:
    """The best classes of each IMAGE by MODEL (a .onnx file or a published model's name)."""
    from quantlab.report.text import predict_summary
    from quantlab.verbs.predict import PredictOptions, predict_images
    from quantlab.verbs.publish import publish

    with recorded_run("predict", params) as (run, reporter):
        spec = options_from(params, PredictOptions)
        answers = publish(predict_images(spec, reporter), run, reporter).value
    if not params["as_json"]:
        print_result(predict_summary(answers))
