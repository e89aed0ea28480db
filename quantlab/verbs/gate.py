"""gate: rules over a comparison, one decision, and its outputs for a pull request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quantlab._util.files import check_writable, write_whole
from quantlab._util.reporter import Reporter
from quantlab.compare.compare import compare
from quantlab.compare.comparison import Where
from quantlab.compare.pairing import Named, check_related
from quantlab.data.crops import Crops
from quantlab.data.preprocess import Pipeline, get_pipeline
from quantlab.errors import OutputError, QuantlabError, RecipeError
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.baseline import (
    Baseline,
    check_same_images,
    check_same_isa,
    check_same_pipeline,
    decide_unpaired,
    is_accepted_file,
    load_answers,
    load_baseline,
)
from quantlab.gate.metrics import metrics_of
from quantlab.gate.rules import Decision, Rule, decide, parse_rules
from quantlab.model.model import Model
from quantlab.report.gate import (
    GateContext,
    benchmark_json,
    comment,
    failure_page,
    junit,
    junit_error,
)
from quantlab.report.pays_off import worth
from quantlab.report.verdict import spelling
from quantlab.report.where import where_line
from quantlab.runtime.environment import environment
from quantlab.verbs import inputs
from quantlab.verbs.compare import (
    Compared,
    CompareOptions,
    SideBySide,
    compare_named_models,
    int8_context,
    judge_side,
    macs_of,
    named,
    warn_of_calibration_images,
)
from quantlab.verbs.config import Config, load_config, settled
from quantlab.verbs.device import compare_device_answers, is_answers
from quantlab.verbs.evaluate import crops_and_answers
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.gate import GateOptions as GateOptions
from quantlab.verbs.preprocessing_audit import check_accepted
from quantlab.verbs.publish import Artifact, Failed, PageConditions, Returned, VerbResult, text_file
from quantlab.verbs.where import in_other_runtime, other_answers, where

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


@dataclass(frozen=True)
class GateOutputs:
    """The files that a gate is asked to write; the ``summary`` is added to."""

    junit: Path | None = None
    comment: Path | None = None
    summary: Path | None = None
    benchmark_json: Path | None = None

    def check(self) -> None:
        """Raises OutputError for a file that could not be written in the end."""
        for path in (self.junit, self.comment, self.benchmark_json):
            if path is not None:
                check_writable(path)

    def write(self, page: str, xml: str, trend: str | None) -> None:
        """Write what was asked for. Other steps have written into the summary."""
        texts = ((self.comment, page), (self.junit, xml), (self.benchmark_json, trend))
        for path, text in texts:
            if path is not None and text is not None:
                write_whole(path, text)
        if self.summary is not None:
            try:
                with self.summary.open("a", encoding="utf-8") as file:
                    file.write(page)
            except OSError as error:
                raise OutputError(f"cannot write {self.summary}: {error.strerror}.") from error


@dataclass(frozen=True)
class Gated(VerbResult):
    """The decision, and what it is about: ``evidence`` is the comparison, or a baseline's model."""

    decision: Decision
    context: GateContext
    evidence: VerbResult
    outputs: GateOutputs = GateOutputs()

    @property
    def exit_code(self) -> int:
        """The decision's."""
        return self.decision.exit_code

    def facts(self) -> dict[str, Any]:
        """The evidence and the decision."""
        return {**self.evidence.facts(), "gate": self.decision.model_dump(mode="json")}

    def artifacts(self, conditions: PageConditions) -> Iterable[Artifact]:
        """The evidence's, and the comment."""
        yield from self.evidence.artifacts(conditions)
        page = comment(self.decision, self._complete(conditions))
        yield text_file("gate", "gate.md", page)

    def deliver(self, conditions: PageConditions, reporter: Reporter) -> None:
        """Write the outputs."""
        about = self.decision, self._complete(conditions)
        self.outputs.write(comment(*about), junit(*about), benchmark_json(*about))

    def _complete(self, conditions: PageConditions) -> GateContext:
        notes = (*self.context.notes, *conditions.warnings)
        return replace(self.context, command=conditions.command, notes=notes)


@dataclass(frozen=True)
class NotGated(Failed):
    """Nothing could be judged, which everybody who waits for a decision is told."""

    error: QuantlabError
    subject: str
    outputs: GateOutputs

    def deliver(self, conditions: PageConditions, reporter: Reporter) -> None:
        """Write the outputs: a comment of an earlier run must not stand as if it were of this."""
        page = failure_page(self.error, self.subject, conditions.command)
        self.outputs.write(page, junit_error(self.error, self.subject), None)


@dataclass(frozen=True)
class JudgedPair:
    """What is judged, and against what: the first model, or a baseline in its place."""

    int8: str
    fp32: str | None = None
    baseline: Path | None = None


def gate_named_models(spec: GateOptions, reporter: Reporter, command: str = "") -> Gated | NotGated:
    """Compare the named models, or one with a baseline, and decide by the rules. An error about
    their order proposes the ``command`` with them exchanged."""
    usual = os.environ.get(SUMMARY_VARIABLE)
    summary = spec.summary or (Path(usual) if usual else None)
    outputs = GateOutputs(spec.junit, spec.comment, summary, spec.benchmark_json)
    outputs.check()
    subject = Path(spec.models[-1]).stem if spec.models else "the configured model"
    try:
        config = load_config(spec.config)
        rules = parse_rules(spec.require or config.rules.require)
        for text in () if spec.require else config.rules.require:
            if sentence := spelling(text):
                reporter.warn(sentence)
        target = _target(spec, config)
        subject = Path(target.int8).stem
        if target.baseline is None:
            gated = _against_model(spec, target, rules, reporter, command)
        else:
            gated = _against_baseline(spec, target.int8, target.baseline, rules, reporter)
    except QuantlabError as error:
        return NotGated(error, subject, outputs)
    return replace(gated, outputs=outputs)


def _target(spec: GateOptions, config: Config) -> JudgedPair:
    """From the models that were named, else from the configuration. Raises RecipeError."""
    if len(spec.models) == 2:
        if spec.baseline is not None:
            raise RecipeError(
                "a baseline stands in the place of FP32, and both were given.",
                "Give one: quantlab gate FP32 INT8, or quantlab gate INT8 --baseline FILE",
            )
        return JudgedPair(spec.models[1], fp32=spec.models[0])
    baseline = spec.baseline or config.rules.baseline
    if spec.models and baseline is None:
        raise RecipeError(
            f"{spec.models[0]} has nothing to be compared with.",
            "Give FP32 INT8, or INT8 --baseline FILE, or a configuration (docs/gate.md).",
        )
    if spec.models:
        return JudgedPair(spec.models[0], baseline=baseline)
    if config.model is None and (config.output is None or baseline is None):
        raise RecipeError(
            "the gate does not know which models to compare.",
            "Give FP32 INT8, or name them in quantlab.yaml: model and output.",
        )
    int8 = str(config.output or f"{Path(config.model or '').stem}.int8.onnx")
    return JudgedPair(int8, baseline=baseline) if baseline else JudgedPair(int8, fp32=config.model)


def judged_rules(rules: Iterable[Rule]) -> list[Rule]:
    """Those that are not off."""
    return [rule for rule in rules if rule.level != "off"]


def _against_model(
    spec: GateOptions, target: JudgedPair, rules: tuple[Rule, ...], reporter: Reporter, command: str
) -> Gated:
    """``quantlab compare``, then the rules. Latency is only measured where a rule asks for it."""
    named = {"fp32": target.fp32 or "", "int8": target.int8}
    given = compare_options(spec, rules).model_copy(update=named)
    if is_answers(Path(target.int8)):
        return gate_of(compare_device_answers(given, reporter), rules)
    return gate_of(compare_named_models(given, reporter, command), rules)


def compare_options(spec: GateOptions, rules: Iterable[Rule]) -> CompareOptions:
    """The comparison that the rules need, of models that are not named yet."""
    judged = judged_rules(rules)
    shared = {k: v for k, v in spec.model_dump().items() if k in CompareOptions.model_fields}
    return CompareOptions(
        **shared,
        fp32="",
        int8="",
        criterion=next((r.text for r in judged if r.criterion.for_tuning), None),
        no_bench=not any(rule.criterion.needs_timing for rule in judged),
        others=tuple(rule.criterion for rule in judged),
    )


def gate_of(compared: Compared, rules: tuple[Rule, ...]) -> Gated:
    """The decision on two models side by side."""
    comparison = compared.comparison
    context = GateContext(
        subject=comparison.int8.name,
        reference=comparison.fp32.name,
        images=comparison.n,
        conditions=_conditions(
            compared.subject["data"]["root"], comparison.data_digest, comparison.pipeline
        ),
        notes=comparison.notes,
        pays=worth(comparison),
        lead=comparison.lead,
        where=where_line(comparison.where),
    )
    return Gated(decide(comparison, rules), context, compared)


def _against_baseline(
    spec: GateOptions, int8: str, path: Path, rules: tuple[Rule, ...], reporter: Reporter
) -> Gated:
    """The named model beside what the baseline accepted."""
    accepted = accept(path, reporter, allow_isa_change=spec.allow_isa_change)
    model = inputs.find_model(int8, spec, reporter)
    named = settled(spec).pipeline
    pipeline = accepted.pipeline(model, named)
    found = inputs.find_evaluation_data(spec, model, reporter)
    return gate_by_baseline(model, accepted, found, pipeline, rules, spec, reporter)


@dataclass(frozen=True)
class Accepted:
    """A baseline with its answers, None where these are not beside it."""

    path: Path
    baseline: Baseline
    answers: Predictions | None

    def pipeline(
        self, model: Model, named: Pipeline | str | Path | Mapping[str, Any] | None
    ) -> Pipeline:
        """The one that is named or known; else the baseline's own. Raises DataError for another
        than the baseline's."""
        chosen = named or inputs.known_pipeline(model) or dict(self.baseline.pipeline)
        found = get_pipeline(chosen, size=model.input.sides)
        check_same_pipeline(self.baseline, found.model_dump(mode="json"), self.path)
        return found


def accept(path: Path, reporter: Reporter, *, allow_isa_change: bool) -> Accepted:
    """Read a baseline. Raises RecordError, and IsaChangeError for one of another kind of CPU unless
    that is allowed; what else differs is said."""
    baseline = load_baseline(path)
    accepted, here = Accepted(path, baseline, load_answers(baseline, path)), environment()
    if not allow_isa_change:
        check_same_isa(baseline, here["isa"], path)
    elif here["isa"] != baseline.isa:
        reporter.warn(
            f"The baseline was made with {baseline.isa} instructions, here are {here['isa']}."
        )
    older = [
        f"{name} {version} there and {here[name]} here"
        for name, version in baseline.versions.items()
        if name in here and here[name] != version
    ]
    if older:
        reporter.warn(f"Other versions than the baseline's: {', '.join(older)}.")
    return accepted


def gate_by_baseline(
    model: Model,
    accepted: Accepted,
    found: LocatedDataset,
    pipeline: Pipeline,
    rules: tuple[Rule, ...],
    spec: GateOptions,
    reporter: Reporter,
) -> Gated:
    """The decision on the model's answers beside the baseline's, image by image where those are at
    hand."""
    baseline, path = accepted.baseline, accepted.path
    check_same_images(baseline, found.dataset.digest, len(found.dataset), path)
    there = in_other_runtime(model, *(rule.criterion for rule in judged_rules(rules)))
    with spec.executing(reporter) as execution:
        crops, now = crops_and_answers(model, found, pipeline, spec, reporter, execution)
        check_accepted(baseline, path, model, crops, now, spec.threads)
        other = other_answers(now, there, crops, reporter, execution, spec.seed)
    holds = where(model, crops, execution, other)
    warn_of_calibration_images(model, crops, reporter)
    model.check_unchanged()
    subject = {
        "models": [inputs.model_facts(model)],
        "baseline": baseline.model_dump(mode="json"),
        "data": inputs.data_facts(found, crops),
        "providers": list(spec.execution.providers),
    }
    context = GateContext(
        subject=model.name,
        reference=f"the baseline {baseline.model.name}",
        images=len(now),
        conditions=_conditions(found.dataset.root, crops.dataset_digest, now.pipeline),
        where=where_line(holds),
    )
    if accepted.answers is not None:
        compared = _paired(accepted.answers, now, model, found, crops, rules, spec, subject, holds)
        context = replace(context, lead=compared.comparison.lead)
        return Gated(decide(compared.comparison, rules), context, compared)
    same_file = is_accepted_file(baseline, model.sha256, environment())
    if not same_file:
        reporter.warn(
            f"The answers that {path.name} was made from are not beside it: accuracies are "
            "compared by their intervals, which decides less."
        )
    decision = decide_unpaired(
        baseline, now.accuracy, model.size_bytes, rules, accepted_file=same_file, where=holds
    )
    subject["where"] = holds.model_dump(mode="json")
    answers = Artifact("int8_predictions", "int8-predictions.npz", now.save)
    return Gated(decision, context, Returned(now, subject, (answers,)))


def _paired(
    before: Predictions,
    now: Predictions,
    model: Model,
    found: LocatedDataset,
    crops: Crops,
    rules: tuple[Rule, ...],
    spec: GateOptions,
    subject: Mapping[str, Any],
    holds: Where,
) -> Compared:
    """The model's answers beside the accepted ones, judged by the first rule."""
    judging = judged_rules(rules)
    comparison = compare(
        before,
        now,
        int8_bytes=model.size_bytes,
        class_names=found.dataset.class_names,
        metrics=metrics_of(*(rule.criterion for rule in judging)),
        macs=macs_of(model),
        seed=spec.seed,
    )
    accepted = Named(f"the baseline {before.model_name}", before.model_sha256, quantized=False)
    apart = check_related(accepted, named(model), comparison, (before, now), lambda: None)
    update = {"lead": (apart,) if apart else (), "where": holds}
    comparison = comparison.model_copy(update=update)
    first = next((rule for rule in judging if rule.criterion.for_tuning), judging[0])
    side = SideBySide(comparison, (before, now), None, crops)
    context, criteria = int8_context(model, found, crops), [rule.criterion for rule in judging]
    return judge_side(side, first.criterion, subject, context, criteria)


def _conditions(root: str, digest: str, pipeline: Mapping[str, object]) -> dict[str, str]:
    here = environment()
    return {
        "Images": f"{root}, digest {digest[:16]}",
        "Preprocessing": str(pipeline.get("name", "own")),
        "CPU": f"{here['cpu']} ({here['isa']})",
        "Versions": f"quantlab {here['quantlab']}, onnxruntime {here['onnxruntime']}",
    }
