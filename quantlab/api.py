"""quantlab as a library: plain functions over models, images and results.

Models are taken as a path, as the bytes of an ONNX file, as ``onnx.ModelProto`` or as ``Model``
(``ModelLike``). Images are taken as a path or a URL of anything in docs/data.md, as ``Dataset``, as
arrays ``(images, labels)``, and as a sequence or an iterable of pairs ``(image, label)`` or of
mappings with ``image`` and ``label``, as torch, Hugging Face and TensorFlow have them
(``ImagesLike``). An image is a PIL image, uint8 pixels [h, w, 3], [h, w] or [3, h, w], or an
encoded file; floats [3, h, w] are ready inputs, which the model is given as they are.

Nothing is written but the cache (``QUANTLAB_CACHE``), unless ``run_dir`` names a folder in which a
run folder is kept, as the command line's ``--runs-dir`` does. Nothing is printed: ``progress`` is
told how far the work is, and what a user should not miss is a ``QuantlabWarning``. No environment
variable and no ``quantlab.yaml`` chooses models, images or options. An argument that cannot be is a
``QuantlabError`` before anything is read.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict, Unpack, overload

import onnx

from quantlab._util.paths import is_url
from quantlab._util.reporter import Advance, Reporter
from quantlab._util.scratch import temporary_folder
from quantlab.bench.harness import Isolation
from quantlab.bench.measurement import BenchResult
from quantlab.bench.queueing import LoadResult
from quantlab.bench.setup import SECONDS
from quantlab.bench.throughput import ThroughputResult
from quantlab.cluster.executor import INLINE
from quantlab.compare.compare import compare as compare_answers
from quantlab.compare.comparison import Comparison
from quantlab.data.dataset import Dataset
from quantlab.data.labels import check_labels
from quantlab.data.preprocess import Pipeline, Ready, get_pipeline, ready
from quantlab.data.readers import open_dataset
from quantlab.data.readers.memory import Indexed, read
from quantlab.errors import DataError
from quantlab.evaluate.accuracy import is_guessing
from quantlab.evaluate.custom import MetricFunction
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.criterion import Criterion
from quantlab.gate.metrics import metrics_of
from quantlab.gate.notation import (
    USUAL,
    for_tuning,
    parse_criterion,
    parse_decline,
    warn_of_old_spellings,
)
from quantlab.gate.rules import DEFAULT_RULES, Decision, Rule, check_rules, decide, parse_rule
from quantlab.gate.sequential import watch
from quantlab.gate.verdict import Verdict
from quantlab.gate.verdict import judge as judge_criterion
from quantlab.inspect.inspection import Inspection
from quantlab.inspect.layers import LayerReport
from quantlab.inspect.output_scales import OperatorScale
from quantlab.inspect.portability import Portability
from quantlab.inspect.preprocessing_audit import Audit
from quantlab.inspect.sensitivity import Sensitivity
from quantlab.inspect.stored import StoredCheck
from quantlab.inspect.target_rules import TargetReport
from quantlab.model.kinds import Layout, OutputKind, RuntimeName, with_runtime
from quantlab.model.model import Model, file_name
from quantlab.recipe import Recipe
from quantlab.report.preprocessing_audit import guessing_error
from quantlab.runs.run import Run
from quantlab.tune.choices import EarlyStopChoice, IncStrategy, Pick, Strategy
from quantlab.tune.search import StopReason
from quantlab.tune.trials import Trial, pareto_front
from quantlab.verbs import bench as bench_verb
from quantlab.verbs import compare as compare_verb
from quantlab.verbs import evaluate as evaluate_verb
from quantlab.verbs import gate as gate_verb
from quantlab.verbs import inputs
from quantlab.verbs import inspect as inspect_verb
from quantlab.verbs import quantize as quantize_verb
from quantlab.verbs import tune as tune_verb
from quantlab.verbs.arguments import checked, options_of, without_flags
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.shared import InputOptions
from quantlab.verbs.publish import Failed, R, publish, succeeded
from quantlab.verbs.where import in_other_runtime

if TYPE_CHECKING:
    from pandas import DataFrame
    from typing_extensions import TypeIs

ModelLike: TypeAlias = Model | Path | str | bytes | onnx.ModelProto
"""What is taken for a model."""
ImagesLike: TypeAlias = Dataset | Path | str | tuple[Any, Any] | Indexed | Iterable[Any]
"""What is taken for images: see the module's description."""
PipelineLike: TypeAlias = Pipeline | Mapping[str, Any] | Path | str
"""A pipeline, its name, its fields, or a YAML file of them."""
SizeLike: TypeAlias = int | str | tuple[int, int]
"""Pixels of a square image's side; or height and width, also as "48x192"."""


class QuantlabWarning(UserWarning):
    """What a user should not miss: an assumed pipeline, images left out, images that flatter.

    Examples:
        >>> import warnings
        >>> from quantlab import QuantlabWarning
        >>> warnings.simplefilter("error", QuantlabWarning)  # to be stopped by them
    """


class Progress(Protocol):
    """A function that receives the progress of the work.

    Examples:
        >>> from quantlab import bench
        >>> from quantlab.testing import example_model
        >>> def show(step, done, total, note):
        ...     print(f"{step}: {done} of {total}")
        >>> result = bench(example_model(), rounds=2, seconds=0.05, progress=show)
        Timing: 1 of 2
        Timing: 2 of 2
    """

    def __call__(self, step: str, done: int, total: int, note: str, /) -> None:
        """``done`` of ``total`` parts (0: not known) of ``step`` are made; ``note`` is the estimate
        so far, in words."""


@dataclass(frozen=True, eq=False)
class TuneResult:
    """The result of ``tune``.

    ``model`` is the best int8 model (``best`` its trial), ``comparison`` sets it beside fp32 on the
    evaluation images and ``verdict`` judges that. ``trials`` are all that was tried; ``pareto``
    those that no other one beats in decline, speed and size together. ``stop`` says why no more was
    tried. ``folder`` is the run folder, where one was asked for.

    Examples:
        >>> from quantlab import tune
        >>> from quantlab.testing import example_images, example_model
        >>> result = tune(
        ...     example_model(), example_images(), evaluation=example_images(seed=1),
        ...     pipeline="torchvision", max_decline="50%", max_trials=1, timing=False,
        ... )
        >>> result.model.is_quantized, result.best in result.trials
        (True, True)
        >>> list(result.trials_frame().recipe)
        ['qdq']
    """

    model: Model
    verdict: Verdict
    comparison: Comparison
    best: Trial
    trials: tuple[Trial, ...]
    stop: StopReason
    folder: Path | None = None

    @property
    def pareto(self) -> tuple[Trial, ...]:
        """The trials that no other one beats in decline, speed and size together."""
        return tuple(pareto_front(self.trials))

    def trials_frame(self) -> DataFrame:
        """All trials.

        Returns:
            One row a trial: ``number``, ``recipe``, ``status``, ``top1``, ``decline`` (a fraction
            of fp32's accuracy), ``agreement``, ``kl`` (nats), ``speedup`` (fp32 / int8), ``meets``,
            ``size_bytes``, ``seconds``, ``front``, ``chosen`` and ``error``.
        """
        from quantlab.report.frames import trials_frame

        return trials_frame(self.trials, self.best)

    def _repr_html_(self) -> str:
        from quantlab.report.notebook import tune_html

        return tune_html(self.comparison, self.verdict, self.trials, self.best)


@checked
def quantize(
    model: ModelLike,
    calibration: ImagesLike,
    *,
    recipe: Recipe | str | None = None,
    target: str | None = None,
    pipeline: PipelineLike | None = None,
    layout: Layout | None = None,
    output_kind: OutputKind | None = None,
    output_name: str | None = None,
    size: SizeLike | None = None,
    runtime: RuntimeName | None = None,
    seed: int | None = None,
    max_bad: float = 0.01,
    force: bool = False,
    threads: int = 0,
    executor: str = INLINE,
    run_dir: Path | str | None = None,
    progress: Progress | Reporter | None = None,
) -> Model:
    """Quantize a model by one recipe, without a search.

    Args:
        model: the fp32 model.
        calibration: images from which the recipe draws its sample, by default one of each class and
            at least 300; labels are needed for that only.
        recipe: a Recipe, the path of a YAML file, or the name of a published model's recipe;
            default: ``Recipe()``.
        target: where the model is to run, "x86", "openvino", "tensorrt" and so on
            (docs/targets.md), in the place of the recipe's.
        pipeline: the preprocessing; default: that of the model's metadata or of the published model
            with the same bytes, else torchvision, with a warning. Ready inputs need none.
        layout: of the model's input, "NCHW" or "NHWC", where what is detected is wrong.
        output_kind: of the model's output, "logits" or "probabilities", likewise.
        output_name: the output that is judged, of several; default: the first of classes.
        size: of images in pixels, where the model leaves it free: 224, or "48x192" or (48, 192) for
            height and width; default: 224.
        runtime: what runs models, "onnxruntime" or "openvino"; default: the Model's own, which is
            onnxruntime.
        seed: of the sample, in the recipe's place.
        max_bad: the share of images, 0 to 1, that may be unreadable.
        force: return also a model whose answers are unrelated to fp32's.
        threads: cores to use, 0 for all; these change no answer.
        executor: who looks at the calibration images: ``inline``, ``process:N`` or
            ``dask://HOST:PORT``.
        run_dir: a folder in which a run folder is kept.
        progress: is told how far the work is.

    Returns:
        The int8 model; ``Model.save`` writes it. The same model, images and recipe give the same
        bytes.

    Raises:
        ModelError: the model cannot be read, or is quantized already.
        DataError: the images cannot be read.
        RecipeError: there is no such recipe or pipeline.
        QuantizeError: the recipe's engine cannot quantize the model, or what it made answers
            nothing like it.

    Source:
        Jacob et al. 2018, "Quantization and training of neural networks for efficient
        integer-arithmetic-only inference"; docs/engine.md names those of each part of a recipe.

    Examples:
        >>> from quantlab import Recipe, quantize
        >>> from quantlab.testing import example_images, example_model
        >>> int8 = quantize(
        ...     example_model(), example_images(), recipe=Recipe(ranges="mse"),
        ...     pipeline="torchvision",
        ... )
        >>> int8.name, int8.is_quantized
        ('tiny.int8', True)
        >>> int8.save("tiny.int8.onnx").name
        'tiny.int8.onnx'
    """
    reporter = reporter_of(progress)
    spec = options_of(quantize_verb.QuantizeOptions, locals(), model="", output=Path())
    fp32 = inputs.require_fp32(_classifier(model, spec), "quantize")
    found = _found(calibration, fp32, reporter, max_bad=max_bad, need_labels=False)
    through = _pipeline(pipeline, fp32, found, reporter)
    chosen = quantize_verb.find_recipe(recipe, target).changed(spec.changes)
    asked = {"model": fp32.name, "calibration": found.dataset.root, "recipe": chosen.name}
    with _recorded("quantize", run_dir, reporter, asked) as run:
        made = quantize_verb.quantize(
            fp32, chosen, found, through, spec, reporter, f"{fp32.title}.int8"
        )
        if made.error is None:
            quantize_verb.warn_of_speed(made.int8, reporter)
            made = replace(made, output=made.int8)
        return _published(made, run, reporter).int8


@checked
def tune(
    model: ModelLike,
    calibration: ImagesLike,
    *,
    evaluation: ImagesLike | None = None,
    max_decline: str = "1%",
    criterion: Criterion | str | None = None,
    tolerance: float = 0.0,
    recipe: Recipe | str | None = None,
    target: str | None = None,
    strategy: Strategy = "ladder",
    engines: Sequence[str] = ("quantlab",),
    inc_strategy: IncStrategy | None = None,
    space: Mapping[str, Sequence[Any]] | None = None,
    storage: str | None = None,
    pipeline: PipelineLike | None = None,
    layout: Layout | None = None,
    output_kind: OutputKind | None = None,
    output_name: str | None = None,
    size: SizeLike | None = None,
    runtime: Literal["onnxruntime", "openvino", "auto"] | None = None,
    images_per_class: int | None = None,
    calibration_size: int | None = None,
    seed: int = 0,
    budget: float = 300.0,
    max_trials: int | None = None,
    target_speedup: float | None = None,
    early_stop: EarlyStopChoice = "search",
    pick: Pick = "best",
    timing: bool = True,
    bench: Mapping[str, Any] | None = None,
    audit: bool = True,
    allow_overlap: bool = False,
    max_bad: float = 0.01,
    threads: int = 0,
    provider: str | None = None,
    batch_size: int | None = None,
    split: str | None = None,
    fold_preprocess: bool = False,
    executor: str = INLINE,
    run_dir: Path | str | None = None,
    progress: Progress | Reporter | None = None,
) -> TuneResult:
    """Find the best int8 model: by meets the criterion, then speed, then fidelity.

    Args:
        model: the fp32 model.
        calibration: images to calibrate on; without ``evaluation`` those that are not needed judge.
        evaluation: images to judge on, with labels unless the criterion needs none.
        max_decline: how much top-1 may be lost: "1%" of the fp32 accuracy, "0.5pp" of all images.
        criterion: in its place, such as "top5.decline <= 0.5pp", "kl <= 0.01", "agreement >= 96%".
        tolerance: what a measured loss may exceed the limit by, in the loss's unit.
        recipe: the only recipe to set out from, instead of the ladder's.
        target: where the model is to run: every recipe that is tried suits it.
        strategy: how recipes are searched, see docs/tune.md.
        engines: whose recipes are tried: "quantlab", "ort", "inc", "nncf".
        inc_strategy: with the engine "inc" alone: Neural Compressor's own search.
        space: for the strategies that search one: a recipe's fields with the values to try.
        storage: an Optuna storage URL that several machines share.
        pipeline: as for ``quantize``.
        layout: as for ``quantize``.
        output_kind: as for ``quantize``.
        output_name: as for ``quantize``.
        size: as for ``quantize``.
        runtime: as for ``quantize``; "auto" makes files for both and chooses the best.
        images_per_class: calibration images of each class; by default one, and more where that
            makes fewer than 300 in all.
        calibration_size: or so many in all.
        seed: of the sample and of the search.
        budget: seconds after which no further recipe is tried.
        max_trials: and after so many evaluations.
        target_speedup: and once a model meets the criterion at so many times fp32's speed.
        early_stop: what may end as soon as it surely meets the criterion: "search" (trials; the
            comparison is on all images), "report" (also that), "off".
        pick: which trial becomes the model.
        timing: whether models are timed (``False``: all count as equally fast).
        bench: how the best model is timed in the end: ``batch_sizes``, ``rounds``, ``seconds`` and
            ``threads``.
        audit: whether a wrong pipeline is looked for, and warned of.
        allow_overlap: whether an image may both calibrate and judge.
        max_bad: the share of images, 0 to 1, that may be unreadable.
        threads: cores to use, 0 for all; these change no answer.
        provider: an ONNX Runtime execution provider, by default the CPU's.
        batch_size: images a call of the model; default: tried out.
        split: calls side by side times threads of each, such as "4x2"; default: tried out.
        fold_preprocess: whether the model itself normalizes the pixels.
        executor: who evaluates: ``inline``, ``process:N`` or ``dask://HOST:PORT``.
        run_dir: a folder in which a run folder with all trials and the report is kept.
        progress: is told how far the work is.

    Returns:
        The best model, its comparison with fp32, the verdict, and all trials. Ctrl-C ends the
        search and returns the best so far.

    Raises:
        ModelError, DataError, RecipeError: as ``quantize``.
        QuantizeError: no recipe gave a model.

    Examples:
        >>> from quantlab import tune
        >>> from quantlab.testing import example_images, example_model
        >>> result = tune(
        ...     example_model(), example_images(), evaluation=example_images(seed=1),
        ...     pipeline="torchvision", criterion="agreement >= 50%", max_trials=1, timing=False,
        ... )
        >>> result.verdict.status, result.stop
        ('pass', 'max-trials')
        >>> result.model.save("tiny.int8.onnx").name
        'tiny.int8.onnx'
    """
    reporter = reporter_of(progress)
    warn_of_old_spellings(criterion, stacklevel=2)
    judged = _for_tuning(criterion, max_decline, tolerance)
    spec = options_of(tune_verb.TuneOptions, locals(), model="", recipe=recipe)
    fp32 = inputs.require_fp32(_classifier(model, spec), "tune")
    asked = {"model": fp32.name, "criterion": judged.written}

    def subject() -> tune_verb.Subject:
        first = _found(calibration, fp32, reporter, max_bad=max_bad, need_labels=False)
        same = evaluation is None or evaluation is calibration
        labels = judged.needs_labels
        if same and labels and first.unfit is not None:
            raise first.unfit
        other = first if evaluation is None or same else evaluation
        second = (
            other
            if isinstance(other, LocatedDataset)
            else _found(other, fp32, reporter, max_bad=max_bad, need_labels=labels)
        )
        through = _pipeline(pipeline, fp32, first, reporter)
        if through != _pipeline(through, fp32, second, reporter):
            raise DataError("calibration and evaluation images are not of one kind.")
        return tune_verb.Subject(fp32, through, first, second, audit=not first.dataset.ready)

    with temporary_folder() as work, _recorded("tune", run_dir, reporter, asked) as run:
        output = work / f"{file_name(fp32.title)}.int8.onnx"
        folder = work / "run" if run is None else run.folder
        folder.mkdir(exist_ok=True)
        tuned = tune_verb.tune(spec, judged, subject, output, folder, reporter)
        with tune_verb.resumable(folder):
            found = _published(tuned, run, reporter)
        return TuneResult(
            model=quantize_verb.int8_of(fp32, output.read_bytes(), f"{fp32.title}.int8"),
            verdict=found.verdict,
            comparison=found.comparison,
            best=found.best,
            trials=tuple(found.outcome.trials),
            stop=found.outcome.stop,
            folder=None if run is None else run.folder,
        )


@checked
def evaluate(
    model: ModelLike,
    images: ImagesLike,
    *,
    pipeline: PipelineLike | None = None,
    layout: Layout | None = None,
    output_kind: OutputKind | None = None,
    output_name: str | None = None,
    size: SizeLike | None = None,
    runtime: RuntimeName | None = None,
    max_bad: float = 0.01,
    threads: int = 0,
    provider: str | None = None,
    batch_size: int | None = None,
    split: str | None = None,
    fold_preprocess: bool = False,
    executor: str = INLINE,
    run_dir: Path | str | None = None,
    progress: Progress | Reporter | None = None,
) -> Predictions:
    """What a model answers on all images.

    Args:
        model: fp32 or int8.
        images: with labels where the accuracy is asked for.
        pipeline: as for ``quantize``.
        layout: as for ``quantize``.
        output_kind: as for ``quantize``.
        output_name: as for ``quantize``.
        size: as for ``quantize``.
        runtime: as for ``quantize``.
        max_bad: the share of images, 0 to 1, that may be unreadable.
        threads: cores to use, 0 for all; these change no answer.
        provider: an ONNX Runtime execution provider, by default the CPU's.
        batch_size: images a call of the model; default: tried out.
        split: calls side by side times threads of each, such as "4x2"; default: tried out.
        fold_preprocess: whether the model itself normalizes the pixels.
        executor: who evaluates: ``inline``, ``process:N`` or ``dask://HOST:PORT``.
        run_dir: a folder in which a run folder is kept.
        progress: is told how far the work is.

    Returns:
        One row of outputs an image, float32 [n, classes], in the order of the images;
        ``Predictions.accuracy`` has top-1 and top-5. Known answers come from the cache.

    Raises:
        ModelError: the model cannot be read or run.
        DataError: the images cannot be read, or their labels do not fit the model.
        RecipeError: there is no such pipeline.

    Examples:
        >>> from quantlab import evaluate
        >>> from quantlab.testing import example_images, example_model
        >>> answers = evaluate(example_model(), example_images(), pipeline="torchvision")
        >>> answers.outputs.shape, answers.accuracy.top1.n
        ((32, 4), 32)
    """
    reporter = reporter_of(progress)
    spec = options_of(evaluate_verb.EvaluateOptions, locals(), model="")
    loaded = _classifier(model, spec)
    found = _found(images, loaded, reporter, max_bad=max_bad)
    through = _pipeline(pipeline, loaded, found, reporter)
    asked = {"model": loaded.name, "images": found.dataset.root}
    with _recorded("evaluate", run_dir, reporter, asked) as run:
        _, evaluated = evaluate_verb.evaluate(loaded, found, through, spec, reporter)
        return _published(evaluated, run, reporter).answers


@overload
def compare(
    fp32: Predictions,
    int8: Predictions,
    *,
    class_names: Sequence[str] | None = None,
    metrics: Mapping[str, MetricFunction] | None = None,
    seed: int = 0,
) -> Comparison: ...


@overload
def compare(
    fp32: ModelLike,
    int8: ModelLike,
    images: ImagesLike,
    *,
    pipeline: PipelineLike | None = None,
    layout: Layout | None = None,
    output_kind: OutputKind | None = None,
    output_name: str | None = None,
    size: SizeLike | None = None,
    runtime: RuntimeName | None = None,
    fp32_runtime: RuntimeName | None = None,
    timing: bool = True,
    batch_sizes: Sequence[int] = (1,),
    rounds: int | None = None,
    early_stop: bool = False,
    class_names: Sequence[str] | None = None,
    metrics: Mapping[str, MetricFunction] | None = None,
    seed: int = 0,
    max_bad: float = 0.01,
    threads: int = 0,
    provider: str | None = None,
    batch_size: int | None = None,
    split: str | None = None,
    fold_preprocess: bool = False,
    executor: str = INLINE,
    criterion: Criterion | str = USUAL,
    run_dir: Path | str | None = None,
    progress: Progress | Reporter | None = None,
) -> Comparison: ...


@checked
def compare(
    fp32: Predictions | ModelLike,
    int8: Predictions | ModelLike,
    images: ImagesLike | None = None,
    *,
    pipeline: PipelineLike | None = None,
    layout: Layout | None = None,
    output_kind: OutputKind | None = None,
    output_name: str | None = None,
    size: SizeLike | None = None,
    runtime: RuntimeName | None = None,
    fp32_runtime: RuntimeName | None = None,
    timing: bool = True,
    batch_sizes: Sequence[int] = (1,),
    rounds: int | None = None,
    early_stop: bool = False,
    class_names: Sequence[str] | None = None,
    metrics: Mapping[str, MetricFunction] | None = None,
    seed: int = 0,
    max_bad: float = 0.01,
    threads: int = 0,
    provider: str | None = None,
    batch_size: int | None = None,
    split: str | None = None,
    fold_preprocess: bool = False,
    executor: str = INLINE,
    criterion: Criterion | str = USUAL,
    run_dir: Path | str | None = None,
    progress: Progress | Reporter | None = None,
) -> Comparison:
    """Set two models side by side, image by image.

    Of two Predictions this is a pure function; two models are evaluated on the ``images`` and timed
    in turns first, for which all arguments but ``class_names``, ``metrics`` and ``seed`` are.

    Args:
        fp32: the fp32 model, or its answers.
        int8: the int8 model, or its answers.
        images: what models are evaluated on.
        pipeline: as for ``quantize``.
        layout: as for ``quantize``.
        output_kind: as for ``quantize``.
        output_name: as for ``quantize``.
        size: as for ``quantize``.
        runtime: as for ``quantize``.
        fp32_runtime: of the fp32 model, where that is another: the gain of the runtime is then
            told apart from quantization's.
        timing: whether the models are timed.
        batch_sizes: at which they are timed.
        rounds: of timing; default: as many as fit into ten seconds, 8 to 15.
        early_stop: evaluate both in turns, in random order, until the ``criterion`` certainly holds
            or does not (5%, at any time): judge the comparison with ``anytime=True`` then.
        class_names: in index order; default: those of the images, where they have any.
        metrics: your own, by name: a function of outputs float32 [n, classes] and labels int64 [n]
            or None that gives a score an image, float [n], higher is better.
        seed: of the bootstrap and of the order of timing.
        max_bad: the share of images, 0 to 1, that may be unreadable.
        threads: cores to use, 0 for all; for timing 0 is one.
        provider: an ONNX Runtime execution provider, by default the CPU's.
        batch_size: images a call of the model; default: tried out.
        split: calls side by side times threads of each, such as "4x2"; default: tried out.
        fold_preprocess: whether the model itself normalizes the pixels.
        executor: who evaluates: ``inline``, ``process:N`` or ``dask://HOST:PORT``.
        criterion: what the report of ``run_dir`` judges, and what ``early_stop`` waits for; for one
            between runtimes int8 runs in the other, too.
        run_dir: a folder in which a run folder with the report is kept.
        progress: is told how far the work is.

    Returns:
        Accuracy, fidelity, classes, changed images, and speed, with paired 95% intervals. Of two
        Predictions speed and size are not known.

    Raises:
        DataError: the two are not of the same images, or not of the same classes.
        ModelError, RecipeError: as ``evaluate``.

    Source:
        Tango 1998 and Tang, Tang & Chan 2003 for the paired intervals; docs/statistics.md names
        them all.

    Examples:
        >>> from quantlab import compare, evaluate, quantize
        >>> from quantlab.testing import example_images, example_model
        >>> fp32, images = example_model(), example_images()
        >>> int8 = quantize(fp32, example_images(seed=1), pipeline="torchvision")
        >>> a, b = (evaluate(model, images, pipeline="torchvision") for model in (fp32, int8))
        >>> comparison = compare(a, b)
        >>> models = compare(fp32, int8, images, timing=False, pipeline="torchvision")
        >>> (models.top1, models.fidelity) == (comparison.top1, comparison.fidelity)
        True
    """
    if isinstance(fp32, Predictions) and isinstance(int8, Predictions):
        if images is not None:
            raise DataError("answers are compared as they are.", "Leave the images out.")
        return compare_answers(fp32, int8, class_names=class_names, metrics=metrics, seed=seed)
    if isinstance(fp32, Predictions) or isinstance(int8, Predictions):
        raise DataError(
            "a model cannot be compared with answers.", "Give two models, or evaluate both first."
        )
    warn_of_old_spellings(criterion, stacklevel=2)
    if images is None:
        raise DataError("two models are compared on images.", "Give them: compare(fp32, int8, …).")
    reporter = reporter_of(progress)
    judged = _criterion(criterion)
    spec = options_of(compare_verb.CompareOptions, locals(), fp32="", int8="")
    models, found, through = _pair(fp32, int8, images, pipeline, spec, [judged], reporter)
    if class_names is not None:
        found = found.of(replace(found.dataset, class_names=tuple(class_names)))
    test = watch(judged) if early_stop else None
    with _recorded("compare", run_dir, reporter, _asked(models, found)) as run:
        there = in_other_runtime(models[1], judged)
        side = compare_verb.side_by_side(
            models, found, through, spec, reporter, metrics, test, there
        )
        if run is not None:
            made = compare_verb.judge_models(side, models, found, spec, judged)
            publish(made, run, reporter)
    return side.comparison


def _pair(
    fp32: ModelLike,
    int8: ModelLike,
    images: ImagesLike,
    pipeline: PipelineLike | None,
    spec: compare_verb.CompareOptions,
    criteria: Sequence[Criterion],
    reporter: Reporter,
) -> tuple[tuple[Model, Model], LocatedDataset, Pipeline]:
    """Both models, loaded, and the images, opened. Raises ModelError, DataError, RecipeError."""
    models = _classifier(fp32, spec, spec.fp32_runtime), _classifier(int8, spec)
    compare_verb.check_comparable(*models, "Give the fp32 model first.")
    labels = any(each.needs_labels for each in criteria)
    found = _found(images, models[0], reporter, max_bad=spec.max_bad, need_labels=labels)
    return models, found, _pipeline(pipeline, models[0], found, reporter, models[1])


def _asked(models: tuple[Model, Model], found: LocatedDataset) -> dict[str, str]:
    """What a record says was compared."""
    return {"fp32": models[0].name, "int8": models[1].name, "images": found.dataset.root}


def judge(
    comparison: Comparison, criterion: Criterion | str = USUAL, *, anytime: bool = False
) -> Verdict:
    """Judge a comparison by the whole 95% interval of what was lost.

    Args:
        comparison: of ``compare``.
        criterion: what must hold: "top1.decline <= 1%" (of the fp32 accuracy), "top5.decline <=
            0.5pp" (percentage points), "class.decline <= 10pp", "agreement >= 96%", "kl <= 0.01"
            (nats), "latency.p50.ratio <= 0.6" (int8 / fp32), "size <= 4MB", "portable" (the same
            answers on CPUs without VNNI), "module:function.decline <= 1%" for a metric of your own;
            "runtime.agreement >= 99%" and "runtime.kl <= 0.001" (ONNX Runtime beside OpenVINO) of
            models that were compared with it as their ``criterion``, or by ``gate``.
        anytime: the images ended because of what was seen of them (a sequential test).

    Returns:
        ``pass`` when even the interval's worse end is within the limit, ``fail`` when even the
        better one is beyond it, else ``inconclusive``, with the number of images that would decide.

    Raises:
        RecipeError: the criterion cannot be read, or the comparison lacks its metric.

    Source:
        Tango 1998, Statistics in Medicine 17:891; Tang, Tang & Chan 2003, Statistics in Medicine
        22:1217 (docs/statistics.md).

    Examples:
        >>> from quantlab import compare, judge
        >>> from quantlab.testing import fake_predictions
        >>> pair = [fake_predictions(2000, 10, rate, seed=0) for rate in (0, 0.02)]
        >>> comparison = compare(*pair)
        >>> judge(comparison, "top1.decline <= 5%").status, judge(comparison, "kl <= 0.001").status
        ('pass', 'fail')
        >>> verdict = judge(comparison, "top1.decline <= 1%")
        >>> verdict.status, verdict.images_needed
        ('inconclusive', 22186)
    """
    warn_of_old_spellings(criterion)
    _check_reference(comparison)
    return judge_criterion(comparison, _criterion(criterion), anytime=anytime)


@checked
def gate(
    subject: Comparison | ModelLike | Sequence[ModelLike],
    rules: Sequence[Rule | str] | Rule | str = DEFAULT_RULES,
    *,
    images: ImagesLike | None = None,
    baseline: Path | str | None = None,
    allow_isa_change: bool = False,
    pipeline: PipelineLike | None = None,
    layout: Layout | None = None,
    output_kind: OutputKind | None = None,
    output_name: str | None = None,
    size: SizeLike | None = None,
    runtime: RuntimeName | None = None,
    fp32_runtime: RuntimeName | None = None,
    rounds: int | None = None,
    seed: int = 0,
    max_bad: float = 0.01,
    threads: int = 0,
    provider: str | None = None,
    batch_size: int | None = None,
    split: str | None = None,
    fold_preprocess: bool = False,
    executor: str = INLINE,
    run_dir: Path | str | None = None,
    progress: Progress | Reporter | None = None,
) -> Decision:
    """Judge a comparison, two models, or a model beside its baseline by several rules, as one
    decision.

    Args:
        subject: a Comparison, or two models, fp32 and int8, to be compared on ``images``; those are
            timed where a rule limits the latency. With ``baseline`` one model.
        rules: what must hold, as for ``judge``; after a comma ``required``, ``advisory`` or
            ``off``. Rules of the latency are advisory unless they say otherwise.
        images: what models are evaluated on.
        baseline: the file of what was accepted (``quantlab baseline update``), in fp32's place.
        allow_isa_change: judge also on another kind of CPU than the baseline's.
        pipeline: as for ``quantize``; for a baseline by default its own.
        layout: as for ``quantize``.
        output_kind: as for ``quantize``.
        output_name: as for ``quantize``.
        size: as for ``quantize``.
        runtime: as for ``quantize``.
        fp32_runtime: as for ``compare``.
        rounds: of timing.
        seed: of the bootstrap.
        max_bad: the share of images, 0 to 1, that may be unreadable.
        threads: cores to use, 0 for all; these change no answer.
        provider: an ONNX Runtime execution provider, by default the CPU's.
        batch_size: images a call of the model; default: tried out.
        split: calls side by side times threads of each, such as "4x2"; default: tried out.
        fold_preprocess: whether the model itself normalizes the pixels.
        executor: who evaluates: ``inline``, ``process:N`` or ``dask://HOST:PORT``.
        run_dir: a folder in which a run folder with the report is kept, of models.
        progress: is told how far the work is.

    Returns:
        The decision and each rule's verdict. A wrong failure or a wrong pass has a chance of at
        most 2.5%, however many rules there are.

    Raises:
        RecipeError: a rule cannot be read, or none is left to judge.
        DataError, ModelError: as ``compare``; the baseline is of other images.
        RecordError: the baseline cannot be read.
        IsaChangeError: it is of another kind of CPU.

    Source:
        Berger 1982, Technometrics 24:295, for passing; Holm 1979, Scandinavian Journal of
        Statistics 6:65, for failing.

    Examples:
        >>> from quantlab import compare, gate
        >>> from quantlab.testing import fake_predictions
        >>> pair = [fake_predictions(2000, 10, rate, seed=0) for rate in (0, 0.02)]
        >>> decision = gate(compare(*pair), ["top1.decline <= 5%", "kl <= 0.001, advisory"])
        >>> decision.status, [judged.verdict.status for judged in decision.judged]
        ('pass', ['pass', 'fail'])
    """
    given = [rules] if isinstance(rules, Rule | str) else rules
    warn_of_old_spellings(*given, stacklevel=2)
    parsed = check_rules(r if isinstance(r, Rule) else parse_rule(r) for r in given)
    if isinstance(subject, Comparison):
        if run_dir is not None:
            raise DataError("of a comparison there is no run.", "Give two models, or no run_dir.")
        _check_reference(subject)
        return decide(subject, parsed)
    if images is None:
        raise DataError("two models are judged on images.", "Give images=…")
    spec = options_of(gate_verb.GateOptions, locals())
    reporter = reporter_of(progress)
    if baseline is not None:
        if not _is_one(subject):
            raise DataError("a baseline stands in the place of fp32.", "Give the int8 model alone.")
        accepted = gate_verb.accept(Path(baseline), reporter, allow_isa_change=allow_isa_change)
        model = _classifier(subject, spec)
        found = _found(images, model, reporter, max_bad=max_bad)
        through = accepted.pipeline(model, pipeline)
        asked = {"int8": model.name, "baseline": str(baseline), "images": found.dataset.root}
        with _recorded("gate", run_dir, reporter, asked) as run:
            gated = gate_verb.gate_by_baseline(
                model, accepted, found, through, parsed, spec, reporter
            )
            return _published(gated, run, reporter).decision
    if _is_one(subject) or len(subject) != 2:
        raise DataError("a gate judges a comparison or two models.", "Give (fp32, int8).")
    compared = gate_verb.compare_options(spec, parsed)
    fp32, int8 = subject
    others = compared.others
    models, found, through = _pair(fp32, int8, images, pipeline, compared, others, reporter)
    with _recorded("gate", run_dir, reporter, _asked(models, found)) as run:
        metrics, there = metrics_of(*others), in_other_runtime(models[1], *others)
        side = compare_verb.side_by_side(
            models, found, through, compared, reporter, metrics, there=there
        )
        judged = compare_verb.judge_models(side, models, found, compared, compared.judged)
        return _published(gate_verb.gate_of(judged, parsed), run, reporter).decision


def _is_one(models: ModelLike | Sequence[ModelLike]) -> TypeIs[ModelLike]:
    return isinstance(models, Model | Path | str | bytes | onnx.ModelProto)


class _Timing(TypedDict, total=False):
    """What all kinds of benchmarks take."""

    layout: Layout | None
    output_name: str | None
    size: SizeLike | None
    runtime: RuntimeName | None
    batch_sizes: Sequence[int]
    rounds: int | None
    seconds: float
    seed: int
    provider: str | None
    run_dir: Path | str | None
    progress: Progress | Reporter | None


@overload
def bench(
    models: ModelLike | Sequence[ModelLike],
    *,
    threads: int = 1,
    isolation: Isolation = "fresh",
    **options: Unpack[_Timing],
) -> BenchResult: ...


@overload
def bench(
    models: ModelLike | Sequence[ModelLike],
    *,
    instances: int,
    cores_per_instance: int | None = None,
    **options: Unpack[_Timing],
) -> ThroughputResult: ...


@overload
def bench(
    models: ModelLike | Sequence[ModelLike],
    *,
    rates: Sequence[float],
    instances: int | None = None,
    cores_per_instance: int | None = None,
    threads: int = 1,
    **options: Unpack[_Timing],
) -> LoadResult: ...


@checked
def bench(
    models: ModelLike | Sequence[ModelLike],
    *,
    layout: Layout | None = None,
    output_name: str | None = None,
    size: SizeLike | None = None,
    runtime: RuntimeName | None = None,
    batch_sizes: Sequence[int] = (1,),
    rounds: int | None = None,
    seconds: float = SECONDS,
    threads: int = 1,
    seed: int = 0,
    provider: str | None = None,
    isolation: Isolation = "fresh",
    instances: int | None = None,
    cores_per_instance: int | None = None,
    rates: Sequence[float] = (),
    run_dir: Path | str | None = None,
    progress: Progress | Reporter | None = None,
) -> BenchResult | ThroughputResult | LoadResult:
    """Time models side by side, in turns of milliseconds, in processes of their own.

    Args:
        models: one or several; the first is measured twice, to show what is noise.
        layout: as for ``quantize``.
        output_name: as for ``quantize``.
        size: as for ``quantize``.
        runtime: as for ``quantize``.
        batch_sizes: images a run.
        rounds: of fresh processes; default: as many as fit into ``seconds``, 8 to 15.
        seconds: that a batch size may take.
        threads: of each run; 0 for all cores.
        seed: of the input and of the order.
        provider: an ONNX Runtime execution provider, by default the CPU's.
        isolation: "fresh" processes every round, or "shared" by all rounds; of latency alone.
        instances: of each model, at work side by side: their images a second are measured.
        cores_per_instance: of each of these; default: one, or ``threads`` under a load.
        rates: requests a second that are offered to each model: how long they wait is measured.
        run_dir: a folder in which a run folder is kept.
        progress: is told how far the work is.

    Returns:
        Every run's milliseconds, one Measurement a model and batch size; with ``instances`` one
        Throughput, with ``rates`` one Load a rate.

    Raises:
        ModelError: a model cannot run at a batch size.
        QuantlabError: the machine cannot meet the settings, or a process died.

    Source:
        Georges, Buytaert & Eeckhout 2007, "Statistically rigorous Java performance evaluation", for
        fresh processes (docs/bench.md).

    Examples:
        >>> from quantlab import bench
        >>> from quantlab.testing import example_model
        >>> result = bench(example_model(), rounds=2, seconds=0.05)
        >>> result.measurements[0][0].p50 > 0
        True
    """
    reporter = reporter_of(progress)
    spec = options_of(bench_verb.BenchOptions, locals(), models=())
    loaded = [_classifier(model, spec) for model in ([models] if _is_one(models) else models)]
    asked = {"models": ", ".join(model.name for model in loaded)}
    with _recorded("bench", run_dir, reporter, asked) as run:
        return _published(bench_verb.measure(loaded, spec, reporter), run, reporter).result


class _Reading(TypedDict, total=False):
    """What all views take."""

    layout: Layout | None
    output_kind: OutputKind | None
    output_name: str | None
    size: SizeLike | None
    runtime: RuntimeName | None
    run_dir: Path | str | None
    progress: Progress | Reporter | None


class _Looking(_Reading, total=False):
    """What the views of images take."""

    pipeline: PipelineLike | None
    count: int | None
    max_bad: float
    threads: int


@overload
def inspect(
    model: ModelLike,
    images: ImagesLike | None = None,
    *,
    view: Literal["inspect"] = "inspect",
    **options: Unpack[_Looking],
) -> Inspection: ...


@overload
def inspect(
    model: ModelLike,
    *,
    view: Literal["quantization"],
    **options: Unpack[_Reading],
) -> tuple[OperatorScale, ...]: ...


@overload
def inspect(
    model: ModelLike,
    *,
    view: Literal["target"],
    target: str,
    **options: Unpack[_Reading],
) -> TargetReport: ...


@overload
def inspect(
    model: ModelLike,
    *,
    view: Literal["test-data"],
    test_data: Path | str,
    **options: Unpack[_Reading],
) -> StoredCheck: ...


@overload
def inspect(
    model: ModelLike,
    images: ImagesLike,
    *,
    view: Literal["portability"],
    **options: Unpack[_Looking],
) -> Portability: ...


@overload
def inspect(
    model: ModelLike,
    images: ImagesLike,
    *,
    view: Literal["layers"],
    int8: ModelLike,
    **options: Unpack[_Looking],
) -> LayerReport: ...


@overload
def inspect(
    model: ModelLike,
    images: ImagesLike,
    *,
    view: Literal["sensitivity"],
    **options: Unpack[_Looking],
) -> Sensitivity: ...


@overload
def inspect(
    model: ModelLike,
    images: ImagesLike,
    *,
    view: Literal["preprocess-audit"],
    published: float | None = None,
    **options: Unpack[_Looking],
) -> Audit: ...


@checked
def inspect(
    model: ModelLike,
    images: ImagesLike | None = None,
    *,
    view: Literal[
        "inspect",
        "quantization",
        "portability",
        "layers",
        "sensitivity",
        "preprocess-audit",
        "test-data",
        "target",
    ] = "inspect",
    int8: ModelLike | None = None,
    target: str | None = None,
    test_data: Path | str | None = None,
    pipeline: PipelineLike | None = None,
    layout: Layout | None = None,
    output_kind: OutputKind | None = None,
    output_name: str | None = None,
    size: SizeLike | None = None,
    runtime: RuntimeName | None = None,
    count: int | None = None,
    max_bad: float = 0.01,
    published: float | None = None,
    threads: int = 0,
    run_dir: Path | str | None = None,
    progress: Progress | Reporter | None = None,
) -> (
    Inspection
    | tuple[OperatorScale, ...]
    | Portability
    | LayerReport
    | Sensitivity
    | Audit
    | StoredCheck
    | TargetReport
):
    """Look into a model.

    Args:
        model: what is looked into.
        images: for the views that need some.
        view: "inspect": inputs, operators, MACs, what ONNX Runtime really runs. "quantization":
            each operator's output scale and zero point. "portability": what saturates on CPUs
            without VNNI. "layers": where ``int8`` departs from ``model``. "sensitivity": what each
            group of nodes costs in int8. "preprocess-audit": which pipeline the model was trained
            for. "test-data": whether the model gives the outputs stored beside it. "target": where
            an int8 model breaches the rules of ``target``.
        int8: the int8 version of ``model``, for "layers".
        target: for "target" its name, such as "tensorrt" (docs/targets.md).
        test_data: for "test-data" a ``test_data_set_0``, or the folder above.
        pipeline: as for ``quantize``.
        layout: as for ``quantize``.
        output_kind: as for ``quantize``.
        output_name: as for ``quantize``.
        size: as for ``quantize``.
        runtime: as for ``quantize``.
        count: of images, drawn at random; each view has its own default.
        max_bad: the share of images, 0 to 1, that may be unreadable.
        published: a top-1 as a fraction, which the right pipeline should reach.
        threads: cores to use, 0 for all.
        run_dir: a folder in which a run folder is kept.
        progress: is told how far the work is.

    Returns:
        What the view is of; frozen, with ``model_dump(mode="json")``.

    Raises:
        ModelError: the model is not one that the view is of.
        DataError: the view needs images, or labels.

    Examples:
        >>> from quantlab import inspect
        >>> from quantlab.testing import example_model
        >>> found = inspect(example_model())
        >>> found.num_classes, found.op_census["Conv"], found.macs
        (4, 3, 213056)
    """
    reporter = reporter_of(progress)
    spec = options_of(inspect_verb.InspectOptions, locals(), model="")
    loaded = _classifier(model, spec)

    def labelled() -> tuple[LocatedDataset, Pipeline]:
        if images is None:
            raise DataError(f"the view {view} needs images.", "Give them after the model.")
        found = _found(images, loaded, reporter, max_bad=max_bad)
        return found, _pipeline(pipeline, loaded, found, reporter)

    def other() -> Model:
        if int8 is None:
            raise DataError("the view layers needs the int8 model.", "Give int8=…")
        return _classifier(int8, spec)

    sources = inspect_verb.Sources(
        lambda: inspect_verb.decoded(loaded, *labelled(), spec, reporter), labelled, other
    )
    given = images is not None
    with _recorded("inspect", run_dir, reporter, {"model": loaded.name, "view": view}) as run:
        made = inspect_verb.inspect(loaded, sources, spec, reporter, given=given)
        found = _published(made, run, reporter).value
    return next((each for each in vars(found).values() if each is not None), ())


@checked
def fetch(
    name: str,
    *,
    from_dir: Path | str | None = None,
    progress: Progress | Reporter | None = None,
) -> Path:
    """Get a published model or dataset by its name, checked by its digest.

    Args:
        name: one that ``quantlab recipes`` lists, such as "mobilenetv2-12" or "photos".
        from_dir: a folder that is asked before the network.
        progress: is told how far the work is, in bytes.

    Returns:
        Its path in the cache folder, which the other functions take.

    Raises:
        RecipeError: there is no such name.
        FetchError: no source gave it.

    Examples:
        >>> from quantlab import QuantlabError, fetch
        >>> try:
        ...     fetch("mobilenetv2-13")
        ... except QuantlabError as error:
        ...     print(error.remedy.split(" Known")[0])
        Did you mean mobilenetv2-12?
    """
    folder = None if from_dir is None else Path(from_dir)
    return inputs.fetch_with_progress(name.removesuffix(".onnx"), reporter_of(progress), folder)


class _Reporter:
    """A Reporter that passes progress to a function and warns by Python's ``warnings``."""

    def __init__(self, progress: Progress | None) -> None:
        self.warnings: list[str] = []
        self._progress = progress

    def say(self, text: str) -> None:
        """Print nothing."""

    def warn(self, text: str) -> None:
        """Issue a QuantlabWarning that points at the line which called the library."""
        text = without_flags(text)
        self.warnings.append(text)
        warnings.warn(text, QuantlabWarning, stacklevel=_outside())

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """Pass progress on to the function."""
        if self._progress is None:
            yield lambda done, note: None
        else:
            tell = self._progress
            yield lambda done, note: tell(label, done, total, note)


def _outside() -> int:
    """The number of stack frames between ``warn`` and the caller of quantlab."""
    here, depth = str(Path(__file__).parent), 1
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(here) or "contextlib" in frame.f_code.co_filename
    ):
        frame, depth = frame.f_back, depth + 1
    return depth


def reporter_of(progress: Progress | Reporter | None) -> Reporter:
    """The Reporter to use: the one given, or one that passes progress to a function."""
    return progress if isinstance(progress, Reporter) else _Reporter(progress)


def _criterion(criterion: Criterion | str) -> Criterion:
    """The criterion itself. Raises RecipeError."""
    return parse_criterion(criterion) if isinstance(criterion, str) else criterion


def _for_tuning(criterion: Criterion | str | None, max_decline: str, tolerance: float) -> Criterion:
    """What a tune holds to. Raises RecipeError."""
    if criterion is None:
        return parse_decline(max_decline, tolerance=tolerance)
    found = for_tuning(_criterion(criterion))
    return found.model_copy(update={"tolerance": tolerance}) if tolerance else found


def _classifier(
    model: ModelLike, options: InputOptions, runtime: RuntimeName | None = None
) -> Model:
    """Raises ModelError, also for what is no image classifier."""
    named = None
    if isinstance(model, str):
        model, named = with_runtime(model)
    chosen = options.model_copy(update={"runtime": named or runtime or options.runtime})
    return inputs.read_as(Model.of(model), chosen).check_classifier()


def _check_reference(comparison: Comparison) -> None:
    """Raises DataError when fp32 is no better than guessing: nothing can be judged by it."""
    fp32 = comparison.fp32
    if comparison.same_file or fp32.top1 is None:
        return
    if is_guessing(fp32.top1, comparison.num_classes):
        raise guessing_error(
            fp32.name, f"{fp32.name}.onnx", fp32.top1, comparison.num_classes, None, looked=False
        )


def _found(
    images: ImagesLike,
    model: Model,
    reporter: Reporter,
    *,
    max_bad: float = 0.01,
    need_labels: bool = True,
) -> LocatedDataset:
    """The images, opened or taken in; without labels that do not fit where none are needed. Raises
    DataError."""
    held = None if isinstance(images, Dataset | str | Path) else read(images)

    def opened(labelled: bool) -> Dataset:
        if isinstance(images, str | Path):
            place = images if isinstance(images, str) and is_url(images) else Path(images)
            with inputs.fetching(place, reporter) as progress:
                return open_dataset(
                    place, num_classes=model.num_classes, labelled=labelled, progress=progress
                )
        dataset = images if isinstance(images, Dataset) else held
        assert dataset is not None
        if not labelled:
            return replace(dataset, labels=None)
        if dataset.labels is not None:
            check_labels(dataset.labels, model.num_classes, dataset.names)
        return dataset

    return inputs.found_by(opened, "given", max_bad, reporter, need_labels=need_labels)


def _pipeline(
    named: PipelineLike | None,
    model: Model,
    found: LocatedDataset,
    reporter: Reporter,
    other: Model | None = None,
) -> Pipeline:
    """The one that is named; of ready inputs none; else the one that a model is known for."""
    sides = model.input.sides
    if named is None and found.dataset.ready:
        return ready(sides)
    known = named or inputs.known_pipeline(model)
    known = known or (None if other is None else inputs.known_pipeline(other))
    if known is None:
        reporter.warn(
            f"No pipeline is known for {model.name}: torchvision is assumed (pipeline= names "
            "another)."
        )
    through = get_pipeline(known or "torchvision", size=sides)
    if isinstance(through, Ready) and not found.dataset.ready:
        raise DataError(
            f"{model.name} was made with ready inputs, and {found.dataset.root} holds images.",
            "Give ready inputs (floats [3, h, w]), or name a pipeline.",
        )
    return through


def _call(verb: str, asked: Mapping[str, str]) -> str:
    return f"quantlab.{verb}({', '.join(f'{key}={value!r}' for key, value in asked.items())}, …)"


@contextmanager
def _recorded(
    verb: str, run_dir: Path | str | None, reporter: Reporter, asked: dict[str, str]
) -> Iterator[Run | None]:
    """A run folder where one is asked for."""
    if run_dir is None:
        yield None
        return
    with Run(verb, dict(asked), _call(verb, asked), Path(run_dir)) as run:
        try:
            yield run
        finally:
            run.record.warnings = reporter.warnings


def _published(result: R | Failed, run: Run | None, reporter: Reporter) -> R:
    """The result itself, left in the run folder where there is one. Raises its error."""
    return succeeded(result) if run is None else publish(result, run, reporter)
