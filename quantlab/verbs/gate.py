"""gate: rules over a comparison, one decision, and its outputs for a pull request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from quantlab._util.files import check_writable, write_whole
from quantlab._util.reporter import Reporter
from quantlab.compare.compare import compare
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
from quantlab.gate.verdict import judge
from quantlab.model.model import Model
from quantlab.report.gate import (
    GateContext,
    benchmark_json,
    comment,
    failure_page,
    junit,
    junit_error,
)
from quantlab.report.verdict import spelling
from quantlab.report.worth import worth
from quantlab.runs.run import Run
from quantlab.verbs import inputs
from quantlab.verbs.audit import check_accepted
from quantlab.verbs.compare import (
    CompareOptions,
    compare_job,
    macs_of,
    named,
    results,
    save_artifacts,
    warn_of_calibration_images,
)
from quantlab.verbs.config import Config, load_config, settled
from quantlab.verbs.device import compare_device_job, is_answers
from quantlab.verbs.evaluate import crops_and_answers
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.gate import GateOptions as GateOptions
from quantlab.verbs.portability import portability_words
from quantlab.verbs.reports import context_of, report

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


@dataclass(frozen=True)
class Gated:
    """The decision, and what it is about."""

    decision: Decision
    context: GateContext


@dataclass(frozen=True)
class Target:
    """What is judged, and against what: the first model, or a baseline in its place."""

    int8: str
    fp32: str | None = None
    baseline: Path | None = None


def gate_job(spec: GateOptions, run: Run, reporter: Reporter) -> Gated:
    """Compare, decide, and write what was asked for, also when nothing could be judged.

    Raises QuantlabError, IsaChangeError for a baseline of another kind of CPU.
    """
    _check_outputs(spec)
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
            gated = _against_model(spec, target, rules, run, reporter)
        else:
            gated = _against_baseline(spec, target, target.baseline, rules, run, reporter)
    except QuantlabError as error:
        page = failure_page(error, subject, run.record.command)
        _write(spec, page, junit_error(error, subject), None)
        raise
    decision, context = gated.decision, gated.context
    page = comment(decision, context)
    write_whole(run.artifact("gate", "gate.md"), page)
    _write(spec, page, junit(decision, context), benchmark_json(decision, context))
    run.record.results["gate"] = decision.model_dump(mode="json")
    return gated


def _target(spec: GateOptions, config: Config) -> Target:
    """From the models that were named, else from the configuration. Raises RecipeError."""
    if len(spec.models) == 2:
        if spec.baseline is not None:
            raise RecipeError(
                "a baseline stands in the place of FP32, and both were given.",
                "Give one: quantlab gate FP32 INT8, or quantlab gate INT8 --baseline FILE",
            )
        return Target(spec.models[1], fp32=spec.models[0])
    baseline = spec.baseline or config.rules.baseline
    if spec.models and baseline is None:
        raise RecipeError(
            f"{spec.models[0]} has nothing to be compared with.",
            "Give FP32 INT8, or INT8 --baseline FILE, or a configuration (docs/gate.md).",
        )
    if spec.models:
        return Target(spec.models[0], baseline=baseline)
    if config.model is None and (config.output is None or baseline is None):
        raise RecipeError(
            "the gate does not know which models to compare.",
            "Give FP32 INT8, or name them in quantlab.yaml: model and output.",
        )
    int8 = str(config.output or f"{Path(config.model or '').stem}.int8.onnx")
    return Target(int8, baseline=baseline) if baseline else Target(int8, fp32=config.model)


def _against_model(
    spec: GateOptions, target: Target, rules: tuple[Rule, ...], run: Run, reporter: Reporter
) -> Gated:
    """``quantlab compare``, then the rules. Latency is only measured where a rule asks for it."""
    judged = [rule for rule in rules if rule.level != "off"]
    shared = {k: v for k, v in spec.model_dump().items() if k in CompareOptions.model_fields}
    given = CompareOptions(
        **shared,
        fp32=target.fp32 or "",
        int8=target.int8,
        criterion=next((r.text for r in judged if r.criterion.for_tuning), None),
        no_bench=not any(rule.criterion.needs_timing for rule in judged),
        others=tuple(rule.criterion for rule in judged),
    )
    job = compare_device_job if is_answers(Path(target.int8)) else compare_job
    comparison = job(given, run, reporter).comparison
    data = run.record.results["data"]
    context = GateContext(
        subject=comparison.int8.name,
        reference=comparison.fp32.name,
        images=comparison.n,
        command=run.record.command,
        conditions=_conditions(run, data["root"], comparison.data_digest, comparison.pipeline),
        notes=(*comparison.notes, *reporter.warnings),
        pays=worth(comparison),
        lead=comparison.lead,
    )
    return Gated(decide(comparison, rules), context)


def _against_baseline(
    spec: GateOptions,
    target: Target,
    path: Path,
    rules: tuple[Rule, ...],
    run: Run,
    reporter: Reporter,
) -> Gated:
    """The model's answers beside the baseline's, image by image where those are at hand."""
    baseline = load_baseline(path)
    before = load_answers(baseline, path)
    _check_isa(baseline, path, spec, run, reporter)
    model = inputs.find_model(target.int8, spec, reporter)
    pipeline = _pipeline(model, baseline, spec)
    check_same_pipeline(baseline, pipeline.model_dump(mode="json"), path)
    found = inputs.find_evaluation_data(spec, model, reporter)
    check_same_images(baseline, found.dataset.digest, len(found.dataset), path)
    with spec.executing(reporter) as execution:
        crops, now = crops_and_answers(model, found, pipeline, spec, reporter, execution)
        check_accepted(baseline, path, model, crops, now, spec.threads)
    warn_of_calibration_images(model, crops, reporter)
    model.check_unchanged()
    now.save(run.artifact("int8_predictions", "int8-predictions.npz"))
    run.record.results = {
        "models": [inputs.model_facts(model)],
        "baseline": baseline.model_dump(mode="json"),
        "data": inputs.data_facts(found, crops),
        "providers": list(spec.execution.providers),
    }
    lead: tuple[str, ...] = ()
    if before is None:
        accepted = is_accepted_file(baseline, model.sha256, run.record.environment)
        if not accepted:
            reporter.warn(
                f"The answers that {path.name} was made from are not beside it: accuracies are "
                "compared by their intervals, which decides less."
            )
        decision = decide_unpaired(
            baseline, now.accuracy, model.size_bytes, rules, accepted_file=accepted
        )
    else:
        decision, lead = _paired(before, now, model, found, crops, rules, spec, run, reporter)
    context = GateContext(
        subject=model.name,
        reference=f"the baseline {baseline.model.name}",
        images=len(now),
        command=run.record.command,
        conditions=_conditions(run, found.dataset.root, crops.dataset_digest, now.pipeline),
        notes=tuple(reporter.warnings),
        lead=lead,
    )
    return Gated(decision, context)


def _paired(
    before: Predictions,
    now: Predictions,
    model: Model,
    found: LocatedDataset,
    crops: Crops,
    rules: tuple[Rule, ...],
    spec: GateOptions,
    run: Run,
    reporter: Reporter,
) -> tuple[Decision, tuple[str, ...]]:
    """The decision image by image, with the usual report in the run folder, and what to say
    first."""
    judged = [rule for rule in rules if rule.level != "off"]
    comparison = compare(
        before,
        now,
        int8_bytes=model.size_bytes,
        class_names=found.dataset.class_names,
        metrics=metrics_of(*(rule.criterion for rule in judged)),
        macs=macs_of(model),
        seed=spec.seed,
    )
    accepted = Named(f"the baseline {before.model_name}", before.model_sha256, quantized=False)
    apart = check_related(accepted, named(model), comparison, (before, now), lambda: None)
    comparison = comparison.model_copy(update={"lead": (apart,) if apart else ()})
    decision = decide(comparison, rules)
    first = next((rule for rule in judged if rule.criterion.for_tuning), judged[0])
    verdict = judge(comparison, first.criterion)
    criteria, words = [rule.criterion for rule in judged], inputs.data_words(found, crops)
    context = replace(
        context_of(run, reporter, crops, words, verdict, criteria),
        recipe=inputs.stamped_recipe(model),
        portability=portability_words(model, crops),
    )
    report(run, comparison, verdict, context, crops)
    save_artifacts(run, (before, now), None)
    run.record.results |= results(comparison, verdict)
    return decision, comparison.lead


def _pipeline(model: Model, baseline: Baseline, spec: GateOptions) -> Pipeline:
    """The one that is named or known; else the baseline's own."""
    named = settled(spec).pipeline or inputs.known_pipeline(model)
    return get_pipeline(named or dict(baseline.pipeline), size=model.input.sides)


def _check_isa(
    baseline: Baseline, path: Path, spec: GateOptions, run: Run, reporter: Reporter
) -> None:
    """Raises IsaChangeError unless it is the same or allowed; what differs is said."""
    here = run.record.environment
    if not spec.allow_isa_change:
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


def _conditions(run: Run, root: str, digest: str, pipeline: Mapping[str, object]) -> dict[str, str]:
    here = run.record.environment
    return {
        "Images": f"{root}, digest {digest[:16]}",
        "Preprocessing": str(pipeline.get("name", "own")),
        "CPU": f"{here['cpu']} ({here['isa']})",
        "Versions": f"quantlab {here['quantlab']}, onnxruntime {here['onnxruntime']}",
    }


def _check_outputs(spec: GateOptions) -> None:
    """Raises OutputError for a file that could not be written in the end: asked before."""
    for path in (spec.junit, spec.comment, spec.benchmark_json):
        if path is not None:
            check_writable(path)


def _write(spec: GateOptions, page: str, xml: str, trend: str | None) -> None:
    """What was asked for. The step summary is added to: other steps have written into it."""
    for path, text in ((spec.comment, page), (spec.junit, xml), (spec.benchmark_json, trend)):
        if path is not None and text is not None:
            write_whole(path, text)
    summary = spec.summary or os.environ.get(SUMMARY_VARIABLE)
    if summary:
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(page)
        except OSError as error:
            raise OutputError(f"cannot write {summary}: {error.strerror}.") from error
