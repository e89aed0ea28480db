"""quantlab validate"""

from __future__ import annotations

from typing import Any

import click

from quantlab.cli.files import Verb
from quantlab.cli.output import print_result
from quantlab.cli.recorded_run import options_from, recorded_run


@click.command(
    "validate",
    cls=Verb,
    short_help="evaluate, by a YAML configuration, as MindCV has it.",
    options="validate:ValidateOptions",
)
def command(**params: Any) -> None:
    """Top-1 and top-5 of the configuration's model, images and preprocessing."""
    from quantlab.report.text import accuracy_summary
    from quantlab.verbs.evaluate import evaluate_named_model
    from quantlab.verbs.publish import publish
    from quantlab.verbs.validate import ValidateOptions, evaluation_of

    with recorded_run("validate", params) as (run, reporter):
        spec = evaluation_of(options_from(params, ValidateOptions))
        evaluated = publish(evaluate_named_model(spec, reporter), run, reporter)
    if not params["as_json"]:
        print_result(accuracy_summary(evaluated.accuracy, evaluated.images))
