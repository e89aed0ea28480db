"""The options of ``quantlab gate``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from quantlab.verbs import roles
from quantlab.verbs.options.option import Option, Stored, Words
from quantlab.verbs.options.shared import (
    MODEL_FLAGS,
    MOST_ROUNDS,
    DataOptions,
    Force,
    Fp32Runtime,
    OpenReport,
    PlainSeed,
    Rounds,
    RunOptions,
    ShardedOptions,
)

_holds = partial(Option, group="What must hold")
_writes = partial(Option, group="Output", local=True)


class GateOptions(DataOptions, ShardedOptions, RunOptions):
    """The options of ``quantlab gate``. ``models`` is fp32 and int8, int8 alone with a baseline, or
    nothing, when the configuration names them."""

    COMMAND = "gate"
    EXAMPLES = (
        "quantlab gate mobilenetv2-12.onnx int8.onnx --data val --require 'top1.decline <= 1%'",
        "quantlab gate int8.onnx --baseline quantlab-baseline.yaml --data val --junit gate.xml",
    )

    models: Annotated[
        tuple[str, ...],
        Option(
            "Two models, or int8 alone with a baseline, or a configuration that names them.",
            argument=True,
            flags=MODEL_FLAGS,
            form_help="",
            metavar="[CONFIG | FP32 INT8 | INT8]",
            group="Model",
            role=roles.MODEL_OR_ANSWERS,
            remote=Stored("models"),
            most=2,
            needed=True,
            label="Model",
            main=True,
            boxes=2,
        ),
    ] = ()
    config: Annotated[
        Path | None,
        Option(
            "Beside models: a YAML file instead of quantlab.yaml.",
            group="Model",
            role=roles.FILE,
            local=True,
            main=True,
        ),
    ] = None
    require: Annotated[
        tuple[str, ...],
        _holds(
            "Such as 'top1.decline <= 1%' or 'kl <= 0.02, advisory'; may be given several times.",
            metavar="RULE",
            config="gate.require",
            flags=("--require", "--fail-if"),
            former=("fail_if",),
            remote=Annotated[tuple[Words, ...], Field(max_length=50)],
            reader="quantlab.gate.rules:parse_rules",
            label="Rules",
            form_help="One a line, such as top1.decline <= 1% or agreement >= 95%.",
            main=True,
        ),
    ] = ()
    baseline: Annotated[
        Path | None,
        _holds(
            "Accepted answers, in the place of the fp32 model.",
            role=roles.BASELINE_FILE,
            config="gate.baseline",
            remote=Stored("baselines"),
            form_help="Instead of an fp32 model.",
            main=True,
        ),
    ] = None
    allow_isa_change: Annotated[
        bool, _holds("Also on another kind of CPU than the baseline's.", remote=True)
    ] = False
    fp32_runtime: Fp32Runtime = None
    rounds: Annotated[
        Rounds | None,
        Option(
            "Of timing, where a rule is of latency.", group="Timing", remote=True, most=MOST_ROUNDS
        ),
    ] = None
    junit: Annotated[
        Path | None,
        _writes(
            "Write JUnit XML: a test case a rule.", role=roles.WRITES_JUNIT, job_file="junit.xml"
        ),
    ] = None
    comment: Annotated[
        Path | None,
        _writes(
            "Write the text of a pull-request comment.",
            role=roles.WRITES_COMMENT,
            job_file="comment.md",
        ),
    ] = None
    summary: Annotated[
        Path | None,
        _writes(
            "Add the same to this file.  [default: $GITHUB_STEP_SUMMARY, if any]",
            role=roles.ADDS_SUMMARY,
        ),
    ] = None
    benchmark_json: Annotated[
        Path | None,
        _writes(
            "Write figures for github-action-benchmark.",
            role=roles.WRITES_FIGURES,
            job_file="benchmark.json",
        ),
    ] = None
    force: Force = False
    annotations: Annotated[
        bool, Option("Print GitHub's ::error:: and ::warning:: lines.", group="Output", remote=True)
    ] = False
    open_report: OpenReport = False
    seed: PlainSeed = 0

    @staticmethod
    def exclusive(asked: Any) -> bool:
        """See Options. Only a rule that needs timing times."""
        from quantlab.gate.rules import parse_rule

        rules = [parse_rule(text) for text in asked.require]
        return any(rule.criterion.needs_timing for rule in rules if rule.level != "off")
