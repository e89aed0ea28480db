"""TrialRunner: quantize, score, evaluate and time the recipes of one tune."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab._util.reporter import Reporter
from quantlab._util.timeline import Timeline
from quantlab.bench.measurement import BenchResult
from quantlab.cluster.execution import ShardedExecution
from quantlab.compare.comparison import Comparison
from quantlab.compare.speeds import is_exact, told_apart
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops
from quantlab.errors import (
    ClusterError,
    OutputError,
    QuantlabError,
    disk_is_full,
)
from quantlab.evaluate.evaluator import predictions_of
from quantlab.evaluate.outputs import new_outputs
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.criterion import Criterion
from quantlab.gate.metrics import metrics_of
from quantlab.gate.sequential import StopDecision, early_stop
from quantlab.gate.verdict import judge
from quantlab.model.kinds import RuntimeName
from quantlab.model.model import Model
from quantlab.quantize import Engine
from quantlab.recipe import Recipe
from quantlab.tune.search import Proposal
from quantlab.tune.study import SharedStudy
from quantlab.tune.trial_store import TrialStore
from quantlab.tune.trials import Trial, scores
from quantlab.verbs.bench import BenchOptions, timed
from quantlab.verbs.compare import compared, with_fp32_there, with_runtime_gains
from quantlab.verbs.evaluate import predict, remember
from quantlab.verbs.group_costs import CheapScore
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.tune import BenchConditions
from quantlab.verbs.prefetch import MadeAhead
from quantlab.verbs.quantize import engine_of, quantized, telling

TRIAL_TIMING = BenchConditions(rounds=20, seconds=4.0)
"""A trial's own timing, at most; where it is not exact, the best is timed at length in the end."""


@dataclass(frozen=True)
class Prepared:
    """What all trials of a tune have in common: fp32 with its answers (``baseline``), the images
    that calibrate and those that judge, and what is judged.

    ``sampling`` is a recipe with the calibration sample that all trials have; ``asked`` are the
    nodes that the user's recipes exclude.
    """

    model: Model
    criterion: Criterion
    calibration: LocatedDataset
    sampling: Recipe
    images: CalibrationImages
    evaluation: LocatedDataset
    crops: Crops
    baseline: Predictions
    asked: frozenset[str]
    runtime_by_target: bool = False

    def runtime_of(self, recipe: Recipe) -> RuntimeName:
        """What runs the recipe's file: with ``runtime_by_target`` that of the recipe's target."""
        known: dict[str, RuntimeName] = {"openvino": "openvino"} if self.runtime_by_target else {}
        return known.get(recipe.target, self.model.runtime)


class RecipeFiles:
    """The int8 files of recipes: made here or taken from a prefetcher, and kept in a TrialStore."""

    def __init__(
        self,
        prepared: Prepared,
        store: TrialStore,
        execution: ShardedExecution,
        reporter: Reporter,
        prefetcher: MadeAhead | None,
        engines: dict[str, Engine],
        timeline: Timeline,
    ) -> None:
        self._timeline = timeline
        self._prepared, self._store, self._prefetcher = prepared, store, prefetcher
        self._engines, self._execution, self._reporter = engines, execution, reporter

    def store(self, recipe: Recipe) -> Path:
        """Make the recipe's file. Raises QuantizeError, or whatever the engine raises."""
        return self._store.model_path(self._store.store_model(self._content(recipe)))

    def _content(self, recipe: Recipe) -> bytes:
        if self._prefetcher is not None and (made := self._prefetcher.take(recipe)) is not None:
            return made
        if recipe.engine not in self._engines:
            self._engines[recipe.engine] = engine_of(
                recipe.engine, self._execution.sharded, self._reporter
            )
        engine = self._engines[recipe.engine]
        with (
            telling(engine, recipe, self._reporter),
            self._timeline.step(f"quantizing by {recipe.name}"),
        ):
            return quantized(self._prepared.model, recipe, self._prepared.images, engine)

    def of(self, trial: Trial) -> Path:
        """The trial's file; made again when it was made on another machine."""
        path = self._store.model_path(trial.sha256 or "")
        return path if path.is_file() else self.store(trial.recipe)

    def load(self, path: Path, name: str, recipe: Recipe | None = None) -> Model:
        """A file as a Model that gives what the fp32 model gives, run as the recipe wants it."""
        found = replace(Model.load(path).like(self._prepared.model), label=name)
        if recipe is None:
            return found
        return found.with_overrides(runtime=self._prepared.runtime_of(recipe))


@dataclass(frozen=True)
class TrialRunner:
    """Quantizes, scores, evaluates and times recipes, one after the other.

    ``study`` is where other machines' trials are, None for a tune of this machine alone;
    ``bench=False`` leaves timing out. ``stop_on`` are the decisions that end an evaluation before
    all images were seen.
    """

    prepared: Prepared
    files: RecipeFiles
    score: CheapScore
    store: TrialStore
    study: SharedStudy | None
    execution: ShardedExecution
    reporter: Reporter
    timeline: Timeline
    seed: int = 0
    bench: bool = True
    stop_on: tuple[StopDecision, ...] = ("pass", "fail")
    _timings: dict[str, BenchResult] = field(default_factory=dict)

    def attempt(self, number: int, proposal: Proposal, known: Trial | None) -> Trial:
        """Quantize, score, and if asked evaluate and time a recipe. An error of the recipe or the
        engine becomes a failed trial. Raises OutputError, or OSError for a full disk, which is no
        fault of the recipe; ClusterError when workers cannot be reached."""
        start = time.monotonic()
        recipe = proposal.recipe
        note = f" ({proposal.note})" if proposal.note else ""
        again = "" if known is None else ", on the evaluation images"
        self.reporter.say(f"Trial {number}: {recipe.name}{note}{again}")
        trial = Trial(number=number, recipe=recipe, status="failed", seconds=0, note=proposal.note)
        if known is None and (elsewhere := self._trial_of_other_machine(recipe)) is not None:
            self.reporter.say("  done on another machine")
            return elsewhere.model_copy(update={"number": number})
        if self.study is not None:
            self.study.claim(recipe.digest)
        try:
            trial = known if known is not None else self._scored(trial)
            if proposal.evaluate:
                trial = self._evaluated(trial)
        except (OutputError, ClusterError):
            raise
        except QuantlabError as error:
            trial = trial.model_copy(update={"status": "failed", "error": str(error)})
        except Exception as error:  # an engine may raise anything
            if disk_is_full(error):
                raise
            text = f"{recipe.engine} crashed: {type(error).__name__}: {error}"
            trial = trial.model_copy(update={"status": "failed", "error": text})
        self.reporter.say(f"  {trial_line(trial)}")
        seconds = trial.seconds + time.monotonic() - start
        return trial.model_copy(update={"seconds": round(seconds, 3)})

    def _trial_of_other_machine(self, recipe: Recipe) -> Trial | None:
        """The trial that another machine finished; what fails there may succeed here."""
        others = [] if self.study is None else self.study.others()
        same = (t for t in others if t.digest == recipe.digest)
        return next((t for t in same if t.status != "failed"), None)

    def _scored(self, trial: Trial) -> Trial:
        path = self.files.store(trial.recipe)
        facts = {"sha256": path.stem, "size_bytes": path.stat().st_size, "status": "scored"}
        with self.timeline.step(f"{trial.recipe.name} scored on calibration images"):
            return trial.model_copy(update={**facts, "proxy": self.score(path)})

    def _evaluated(self, trial: Trial) -> Trial:
        int8 = self.files.load(self.files.of(trial), trial.recipe.name, trial.recipe)
        answers, decision = self.predict(int8)
        whole = len(answers) == len(self.prepared.crops)
        passed = decision == "pass" and not whole
        timing = self._time_trial(trial, int8) if whole or passed else None
        comparison = self.compare(int8, answers, timing)
        found = scores(comparison, judge(comparison, self.prepared.criterion))
        if whole or passed:
            answers.save(self.store.predictions_path(trial.digest))
        if whole:
            return trial.model_copy(update={"status": "done", "scores": found})
        found = found.model_copy(
            update={
                "meets": passed,
                "status": "pass" if passed else "fail",
                "excess": min(0.0, found.excess) if passed else found.excess,
            }
        )
        return trial.model_copy(update={"status": "stopped", "scores": found})

    def _time_trial(self, trial: Trial, int8: Model) -> BenchResult | None:
        """fp32 and int8 in turns, and fp32 in int8's runtime where that is another."""
        if not self.bench:
            return None
        models = with_fp32_there(self.prepared.model, int8)
        with self.timeline.step(f"{trial.recipe.name} timed"):
            timing = self._timed(models, TRIAL_TIMING)
        self._timings[trial.digest] = timing
        return timing

    def predict(self, int8: Model) -> tuple[Predictions, StopDecision | None]:
        """The quantized model's answers on the evaluation images, in random order until it
        certainly meets or fails the criterion (at 5%, at any time), or on all of them; and that
        decision, if there is one."""
        tuned = self.prepared
        stop = early_stop(tuned.criterion, tuned.baseline, on=self.stop_on)
        early = None if stop is None else (self._order, stop)
        with self.timeline.step(f"{int8.name} evaluated"):
            answers = predict(int8, tuned.crops, self.reporter, self.execution, early=early)
        return answers, None if stop is None else stop.decision

    @property
    def _order(self) -> NDArray[np.int64]:
        """The order in which trials see the evaluation images."""
        return np.random.default_rng(self.seed).permutation(len(self.prepared.crops))

    def known_answers(self, trial: Trial) -> Predictions | None:
        """The trial's answers on the images that its evaluation saw, the first of ``_order``; None
        of one made on another machine or in another order, or that failed."""
        path = self.store.predictions_path(trial.digest)
        if not trial.judged or not path.is_file():
            return None
        known = Predictions.load(path)
        digests = self.prepared.crops.digests
        seen = np.sort(self._order[: len(known)])
        return known if known.digests == tuple(digests[i] for i in seen) else None

    def all_answers(self, trial: Trial, int8: Model) -> Predictions:
        """The trial's answers on all images, those computed that are not known."""
        crops, known = self.prepared.crops, self.known_answers(trial)
        if known is not None and len(known) == len(crops):
            return known
        seen = 0 if known is None else len(known)
        order = self._order
        with self.timeline.step(f"{int8.name} evaluated on the rest"):
            rest = predict(int8, crops, self.reporter, self.execution, early=(order[seen:], _never))
        if known is None:
            return rest
        outputs = new_outputs(len(crops), int8.num_classes)
        outputs[np.sort(order[:seen])] = known.outputs
        outputs[np.sort(order[seen:])] = rest.outputs
        whole = predictions_of(int8, crops, outputs)
        remember(whole, int8, crops, self.execution)
        return whole

    def timing(self, trial: Trial, int8: Model, conditions: BenchConditions) -> BenchResult:
        """fp32 and int8 timed in turns, and fp32 in int8's runtime where that is another: as the
        trial was, where these conditions are the usual ones and its speed is known exactly."""
        made = self._timings.get(trial.digest)
        if made is not None and conditions == BenchConditions() and is_exact(made):
            return made
        with self.timeline.step(f"{int8.name} timed at length"):
            return self._timed(with_fp32_there(self.prepared.model, int8), conditions)

    def beside(self, int8: Model, other: RuntimeName) -> BenchResult:
        """int8 timed in its own and in the ``other`` runtime, in turns."""
        with self.timeline.step(f"{int8.name} timed in {other}"):
            return self._timed(
                [int8, int8.with_overrides(runtime=other)], TRIAL_TIMING, costs=False
            )

    def milliseconds(self, paths: Sequence[Path]) -> list[float]:
        """The median time of each file, all timed in turns."""
        models = [self.files.load(path, path.stem) for path in paths]
        return [
            found.p50 for found, *_ in self._timed(models, TRIAL_TIMING, costs=False).measurements
        ]

    def _timed(
        self, models: Sequence[Model], conditions: BenchConditions, *, costs: bool = True
    ) -> BenchResult:
        """Time the models in turns, at the model's fixed batch size if it has one."""
        fixed = self.prepared.model.input.batch
        spec = BenchOptions(
            models=(),
            batch_sizes=(fixed,) if fixed else conditions.batch_sizes,
            rounds=conditions.rounds,
            seconds=conditions.seconds,
            threads=conditions.threads or self.execution.threads or 1,
            seed=self.seed,
            provider=self.execution.providers[0],
            isolation="shared",
        )
        return timed(models, spec, self.reporter, told_apart, costs=costs)

    def compare(self, int8: Model, answers: Predictions, timing: BenchResult | None) -> Comparison:
        """Compare int8 with fp32."""
        tuned = self.prepared
        found = compared(
            (tuned.model, int8),
            (tuned.baseline, answers),
            timing,
            tuned.evaluation.dataset.class_names,
            self.seed,
            metrics_of(tuned.criterion),
            tuned.asked,
        )
        if timing is None or len(timing.measurements) < 3:
            return found
        return with_runtime_gains(found, tuned.model, int8, timing)


def _never(*_: object) -> bool:
    """A stop test that sees all images."""
    return False


def trial_line(trial: Trial) -> str:
    """One line about a trial while the tune is running."""
    if trial.status == "failed":
        return f"failed: {(trial.error or '').splitlines()[0]}"
    found = trial.scores
    if found is None:
        return f"KL {trial.proxy:.4f} on calibration images"
    top1 = "" if found.top1 is None else f"top-1 {found.top1:.2%}, "
    kl = "" if found.kl is None else f", KL {found.kl:.4f} on evaluation images"
    speed = "" if found.speedup is None else f", {found.speedup:.2f}x fp32"
    sure = "meets" if found.meets else "fails"
    early = f" (surely {sure}, after {found.images} images)" if trial.status == "stopped" else ""
    return f"{top1}agreement {found.agreement:.2%}{kl}{speed}{early}"
