"""compare: two models on the same images, side by side, with a verdict."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quantlab._util.reporter import Reporter
from quantlab.bench.measurement import BenchResult
from quantlab.compare.compare import compare, with_speeds
from quantlab.compare.comparison import Comparison, Macs
from quantlab.compare.origin import origin_of
from quantlab.compare.pairing import Named, check_order, check_related, lead_of
from quantlab.compare.speeds import runtime_gains
from quantlab.data.crops import Crops
from quantlab.data.preprocess import Pipeline
from quantlab.errors import DataError, ModelError
from quantlab.evaluate.custom import MetricFunction
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.criterion import Criterion
from quantlab.gate.metrics import metrics_of
from quantlab.gate.sequential import PairedEarlyStop, watch
from quantlab.gate.verdict import Verdict, judge
from quantlab.inspect.counts import node_macs
from quantlab.inspect.int8_share import int8_share
from quantlab.inspect.speed_formats import slow_format
from quantlab.model.model import Model
from quantlab.quantize.placement import read_placement
from quantlab.quantize.stamp import SOURCE_KEY, calibrated_on
from quantlab.report.advice import unfinished
from quantlab.report.comparison_export import export_comparison
from quantlab.report.context import ReportContext
from quantlab.report.export import check_exports
from quantlab.report.pays_off import worth
from quantlab.report.placement import slower_in_int8
from quantlab.report.text import compare_summary
from quantlab.report.where import where_line
from quantlab.verbs import inputs
from quantlab.verbs.bench import BenchOptions, timed
from quantlab.verbs.cached_results import known_macs
from quantlab.verbs.evaluate import crops_and_answers, predict
from quantlab.verbs.inputs import LocatedDataset, model_facts
from quantlab.verbs.options.compare import CompareOptions as CompareOptions
from quantlab.verbs.preprocessing_audit import check_reference
from quantlab.verbs.publish import Artifact, PageConditions, VerbResult, comparison_report
from quantlab.verbs.sequential_evaluation import SequentialEvaluation, predict_until_certain
from quantlab.verbs.where import in_other_runtime, other_answers, where

EXCLUDED, REVERTED = "excluded by the recipe", "reverted by the tune"


@dataclass(frozen=True)
class SideBySide:
    """Two models on the same images, and what the comparison was made from; if asked for, after how
    many images a verdict was certain."""

    comparison: Comparison
    predictions: tuple[Predictions, ...]
    timing: BenchResult | None
    crops: Crops
    early: SequentialEvaluation | None = None


@dataclass(frozen=True)
class Compared(VerbResult):
    """Two models side by side with their Verdict: what every verb that compares ends with;
    ``exports`` are files that are to have the figures.

    ``subject`` are the facts of what was compared, ``context`` is what the report says beside the
    comparison.
    """

    side: SideBySide
    verdict: Verdict
    subject: Mapping[str, Any]
    context: ReportContext
    exports: tuple[Path, ...] = ()

    @property
    def comparison(self) -> Comparison:
        """What was judged."""
        return self.side.comparison

    @property
    def exit_code(self) -> int:
        """The verdict's."""
        return self.verdict.exit_code

    def facts(self) -> dict[str, Any]:
        """What was compared, the results, and what the report says in its first lines."""
        end, early = self.context.unfinished, self.side.early
        pays = worth(self.comparison, self.context.trials)
        first = ("" if end is None else unfinished(end), pays, where_line(self.comparison.where))
        stopped = {} if early is None else {"early_stop": early.facts()}
        return {**self.subject, **results(self.comparison, self.verdict, *first), **stopped}

    def artifacts(self, conditions: PageConditions) -> Iterable[Artifact]:
        """What the comparison was computed from, and the report."""
        yield from answer_files(self.side.predictions, self.side.timing)
        context = conditions.complete(self.context)
        yield from comparison_report(self.comparison, self.verdict, context, self.side.crops)

    def deliver(self, conditions: PageConditions, reporter: Reporter) -> None:
        """Export the figures."""
        for path in self.exports:
            page = compare_summary(self.comparison, self.verdict, self.context.early)
            export_comparison(path, self.comparison, page)
            reporter.say(f"Wrote {path}")


def compare_named_models(spec: CompareOptions, reporter: Reporter, command: str = "") -> Compared:
    """Evaluate the named models (with ``early_stop`` until the verdict is certain), time both,
    compare, judge. An error about their order proposes the ``command`` with them exchanged."""
    check_exports(spec.exports)
    judged = (spec.judged, *spec.others)
    test = watch(spec.judged) if spec.early_stop else None
    metrics = metrics_of(*judged)
    named = ((spec.fp32, spec.fp32_runtime), (spec.int8, None))
    models = [inputs.find_model(text, spec, reporter, runtime) for text, runtime in named]
    check_comparable(models[0], models[1], _exchanged(command, spec.fp32, spec.int8))
    pipeline = inputs.find_pipeline(models[0], spec, reporter)
    found = inputs.find_evaluation_data(
        spec, models[0], reporter, need_labels=any(each.needs_labels for each in judged)
    )
    there = in_other_runtime(models[1], *judged)
    side = side_by_side(models, found, pipeline, spec, reporter, metrics, test, there)
    return judge_models(side, models, found, spec, spec.judged)


def side_by_side(
    models: Sequence[Model],
    found: LocatedDataset,
    pipeline: Pipeline,
    spec: CompareOptions,
    reporter: Reporter,
    metrics: Mapping[str, MetricFunction] | None = None,
    test: PairedEarlyStop | None = None,
    there: Model | None = None,
) -> SideBySide:
    """Evaluate fp32 and int8 (with a ``test`` until it is certain), and ``there`` int8 in the other
    runtime, time both, compare."""
    if not models[1].is_ir and (sentence := slow_format(models[1].proto().graph)):
        reporter.warn(sentence)
    early = None
    one_file = models[0].sha256 == models[1].sha256
    predictions: Sequence[Predictions]
    with spec.executing(reporter) as execution:  # closed before anything is timed
        if test is None:
            crops, fp32 = crops_and_answers(models[0], found, pipeline, spec, reporter, execution)
            check_reference(models[0], crops, fp32, reporter, spec.threads, unchanged=one_file)
            predictions = [fp32, predict(models[1], crops, reporter, execution)]
        else:
            crops = inputs.load_images(found, pipeline, spec, reporter, execution.sharded)
            early = predict_until_certain(models, crops, test, reporter, execution, spec.seed)
            predictions = early.predictions
            check_reference(
                models[0], crops, predictions[0], reporter, spec.threads, unchanged=one_file
            )
        other = other_answers(predictions[1], there, crops, reporter, execution, spec.seed)
    warn_of_calibration_images(models[1], crops, reporter)
    names = found.dataset.class_names
    comparison = compared(models, predictions, None, names, spec.seed, metrics)
    first = {
        "lead": _lead(models, comparison, predictions),
        "where": where(models[1], crops, execution, other),
    }
    comparison = comparison.model_copy(update=first)
    timing = None
    if comparison.same_file:
        reporter.say("One file takes as long as itself: nothing is timed.")
    elif not spec.no_bench:
        timing = timed(with_fp32_there(*models), bench_spec(spec), reporter)
        fp32_times, int8_times, *_ = timing.measurements
        comparison = with_speeds(comparison, fp32_times, int8_times, timing.noise)
        comparison = with_runtime_gains(comparison, models[0], models[1], timing)
    inputs.check_all_unchanged(models)
    return SideBySide(comparison, tuple(predictions), timing, crops, early)


def with_fp32_there(fp32: Model, int8: Model) -> list[Model]:
    """Both models, and behind them fp32 in int8's runtime, where that is another that runs it."""
    moved = [fp32.with_overrides(runtime=int8.runtime)] if _can_move(fp32, int8) else []
    return [fp32, int8, *moved]


def _can_move(fp32: Model, int8: Model) -> bool:
    return fp32.runtime != int8.runtime and not fp32.is_ir


def with_runtime_gains(
    comparison: Comparison, fp32: Model, int8: Model, timing: BenchResult
) -> Comparison:
    """The comparison with what of its speedups is the runtime's; ``timing`` is of
    ``with_fp32_there``."""
    if not _can_move(fp32, int8):
        return comparison
    own, quantized, there = timing.measurements[:3]
    gains = runtime_gains(own, there, quantized, (fp32.runtime, int8.runtime))
    return comparison.model_copy(update={"runtime_gains": gains})


def judge_models(
    side: SideBySide,
    models: Sequence[Model],
    found: LocatedDataset,
    spec: CompareOptions,
    criterion: Criterion,
) -> Compared:
    """Two models side by side, judged."""
    subject = {
        "models": [model_facts(model) for model in models],
        "data": inputs.data_facts(found, side.crops),
        "providers": list(spec.execution.providers),
    }
    context = int8_context(models[1], found, side.crops)
    judged = judge_side(side, criterion, subject, context, spec.others)
    return replace(judged, exports=spec.exports)


def int8_context(int8: Model, found: LocatedDataset, crops: Crops) -> ReportContext:
    """What a report says of an int8 file and of the images that it was evaluated on."""
    return ReportContext(
        data=inputs.data_words(found, crops),
        recipe=inputs.stamped_recipe(int8),
    )


def judge_side(
    side: SideBySide,
    criterion: Criterion,
    subject: Mapping[str, Any],
    context: ReportContext,
    others: Sequence[Criterion] = (),
) -> Compared:
    """Judge by the criterion. ``others`` are all that a gate judges: the report's verdict is on one
    of them."""
    early = side.early
    verdict = judge(side.comparison, criterion, anytime=early is not None and early.decided)
    alone = (
        f"This page judges the {verdict.criterion.title} alone; gate.md has the gate's decision."
    )
    context = replace(
        context,
        problems=side.crops.problems,
        warnings=(alone,) if {*others} - {verdict.criterion} else (),
        early="" if early is None else early.sentence,
    )
    return Compared(side, verdict, subject, context)


def check_comparable(fp32: Model, int8: Model, remedy: str) -> None:
    """Raises DataError when the two do not take images of one size, differ in their classes, or
    stand in the wrong order, which the ``remedy`` is for."""
    sizes = {(m.input.height, m.input.width) for m in (fp32, int8)}
    if len(sizes) > 1 or fp32.num_classes != int8.num_classes:
        raise DataError(
            f"{fp32.path.name} and {int8.path.name} differ in image size or number of classes.",
            "Compare a model with its own quantized version.",
        )
    check_order(named(fp32), named(int8), remedy)


def named(model: Model) -> Named:
    """The model with what its file states about itself."""
    source = model.metadata.get(SOURCE_KEY, "")
    return Named(model.path.name, model.sha256, model.is_quantized, source)


def _exchanged(command: str, first: str, second: str) -> str:
    """The command with the two models in the right order."""
    words = shlex.split(command)
    if not {first, second} <= set(words):
        return f"Exchange the two: {second} is the fp32 model and {first} the int8 one."
    other = {first: second, second: first}
    return f"Exchange the two: {shlex.join(other.get(word, word) for word in words)}"


def _lead(
    models: Sequence[Model], comparison: Comparison, answers: Sequence[Predictions]
) -> tuple[str, ...]:
    """What the two models are to each other, where a reader should know it first. Raises DataError
    for unrelated ones."""
    (fp32, int8), (first, second) = models, answers
    pair = named(fp32), named(int8)
    apart = check_related(
        *pair,
        comparison,
        (first, second),
        lambda: (
            None if fp32.is_ir or int8.is_ir else origin_of(fp32.proto().graph, int8.proto().graph)
        ),
    )
    return (*lead_of(*pair), *([apart] if apart else []), *_of_two_runtimes(fp32, int8))


def _of_two_runtimes(fp32: Model, int8: Model) -> Iterator[str]:
    if fp32.runtime != int8.runtime:
        yield (
            f"fp32 ran in {fp32.runtime} and int8 in {int8.runtime}: what differs is the "
            "quantization's and the runtime's together."
        )


def warn_of_calibration_images(int8: Model, crops: Crops, reporter: Reporter) -> None:
    """Warn when evaluation images were used to calibrate the int8 model."""
    used = calibrated_on(int8.metadata, crops.digests)
    if used:
        reporter.warn(
            f"{used} of these {len(crops)} images calibrated {int8.path.name}: they flatter it."
        )


def bench_spec(spec: CompareOptions) -> BenchOptions:
    """Latency is measured on one thread unless threads are given: the least noisy figure."""
    return BenchOptions(
        models=(),
        batch_sizes=spec.batch_sizes,
        rounds=spec.rounds,
        threads=spec.threads or 1,
        provider=spec.provider,
        seed=spec.seed,
    )


def compared(
    models: Sequence[Model],
    predictions: Sequence[Predictions],
    timing: BenchResult | None,
    class_names: Sequence[str] | None,
    seed: int,
    metrics: Mapping[str, MetricFunction] | None = None,
    asked: Collection[str] | None = None,
) -> Comparison:
    """``compare`` of fp32 and int8 with their files' sizes, int8's MACs (see ``macs_of``), the
    speedup that was predicted of it and, where measured, their speeds."""
    found = compare(
        *predictions,
        fp32_speed=timing.measurements[0] if timing else None,
        int8_speed=timing.measurements[1] if timing else None,
        noise=timing.noise if timing else None,
        fp32_bytes=models[0].size_bytes,
        int8_bytes=models[1].size_bytes,
        class_names=class_names,
        metrics=metrics,
        macs=macs_of(models[1], asked),
        seed=seed,
    )
    placement = read_placement(models[1].metadata)
    speedup = None if placement is None else placement.speedup
    return found.model_copy(update={"predicted_speedup": speedup})


def macs_of(int8: Model, asked: Collection[str] | None = None) -> Macs | None:
    """The model's MACs by what computes them; None when it does not run on a blank image, and for
    OpenVINO IR.

    ``asked`` are the nodes that a tune was asked to exclude: the others that its recipe excludes
    it has reverted itself.
    """
    if int8.is_ir:
        return None
    stamped = inputs.stamped_recipe(int8).get("exclude")
    excluded = [x for x in stamped if isinstance(x, str)] if isinstance(stamped, list) else []
    mine = excluded if asked is None else asked
    reasons = {name: EXCLUDED if name in mine else REVERTED for name in excluded}
    if (placement := read_placement(int8.metadata)) is not None:
        reasons.update((n, slower_in_int8(slower)) for n, slower in placement.left.items())
    proto = int8.proto()
    try:
        macs = known_macs(int8, lambda: node_macs(proto, int8.input))
    except ModelError:
        return None
    return int8_share(proto.graph, macs, reasons, runtime=int8.runtime)


def answer_files(
    predictions: Sequence[Predictions], timing: BenchResult | None
) -> Iterable[Artifact]:
    """What a comparison was computed from: the answers and the raw latencies."""
    for kind, answers in zip(("fp32", "int8"), predictions, strict=True):
        yield Artifact(f"{kind}_predictions", f"{kind}-predictions.npz", answers.save)
    if timing is not None:
        yield Artifact("measurements", "measurements.json", timing.save)


def results(comparison: Comparison, verdict: Verdict, *first: str) -> dict[str, object]:
    """The results for the record: all figures but the raw samples, which are artifacts, and the
    sentences that stand ``first``."""
    samples = {"speeds": {"__all__": {"fp32": {"samples"}, "int8": {"samples"}}}}
    return {
        "verdict": verdict.model_dump(mode="json"),
        "said_first": [sentence for sentence in first if sentence],
        "comparison": comparison.model_dump(mode="json", exclude=samples),
    }
