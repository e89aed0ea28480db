"""TrialRunner: quantize, score, evaluate and time the recipes of one tune."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from quantlab._util.reporter import Reporter
from quantlab.bench.measurement import BenchResult
from quantlab.cluster.execution import ShardedExecution
from quantlab.compare.comparison import Comparison
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops
from quantlab.errors import (
    ClusterError,
    OutputError,
    QuantlabError,
    disk_is_full,
)
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
from quantlab.verbs.evaluate import predict
from quantlab.verbs.group_costs import CheapScore
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.tune import BenchConditions
from quantlab.verbs.prefetch import RecipePrefetcher
from quantlab.verbs.quantize import engine_of, quantized, telling

CERTAIN_FAILURE: tuple[StopDecision, ...] = ("fail",)
TRIAL_TIMING = BenchConditions(rounds=10, seconds=2.0)
"""A trial's own timing; the best one is timed at length in the end."""


@dataclass(frozen=True)
class Prepared:
    """What all trials of a tune have in common: fp32 with its answers (``baseline``), the images
    that calibrate and those that judge, and what is judged.

    ``sampling`` is a recipe with the calibration sample that all trials have; ``asked`` are the
    nodes that the user's recipes exclude. Tunes of the same ``identity`` may share trials.
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
    identity: str
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
        prefetcher: RecipePrefetcher | None,
        engines: dict[str, Engine],
    ) -> None:
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
        with telling(engine, recipe, self._reporter):
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
    ``bench=False`` leaves timing out.
    """

    prepared: Prepared
    files: RecipeFiles
    score: CheapScore
    store: TrialStore
    study: SharedStudy | None
    execution: ShardedExecution
    reporter: Reporter
    seed: int = 0
    bench: bool = True

    def attempt(self, number: int, proposal: Proposal, known: Trial | None) -> Trial:
        """Quantize, score, and if asked evaluate and time a recipe. An error of the recipe or the
        engine becomes a failed trial. Raises OutputError, or OSError for a full disk, which is no
        fault of the recipe; ClusterError when workers cannot be reached."""
        start = time.monotonic()
        recipe = proposal.recipe
        self.reporter.say(
            f"Trial {number}: {recipe.name}{f' ({proposal.note})' if proposal.note else ''}"
        )
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
        return trial.model_copy(update={**facts, "proxy": self.score(path)})

    def _evaluated(self, trial: Trial) -> Trial:
        int8 = self.files.load(self.files.of(trial), trial.recipe.name, trial.recipe)
        answers = self.predict(int8)
        whole = len(answers) == len(self.prepared.crops)
        timing = self.time([int8], TRIAL_TIMING) if whole and self.bench else None
        comparison = self.compare(int8, answers, timing)
        found = scores(comparison, judge(comparison, self.prepared.criterion))
        if whole:
            answers.save(self.store.predictions_path(trial.digest))
            return trial.model_copy(update={"status": "done", "scores": found})
        found = found.model_copy(update={"meets": False, "status": "fail"})
        return trial.model_copy(update={"status": "stopped", "scores": found})

    def predict(self, int8: Model) -> Predictions:
        """The quantized model's answers on the evaluation images, in random order until it
        certainly fails the criterion (at 5%, at any time), or on all of them."""
        tuned, n = self.prepared, len(self.prepared.crops)
        stop = early_stop(tuned.criterion, tuned.baseline, on=CERTAIN_FAILURE)
        order = np.random.default_rng(self.seed).permutation(n)
        early = None if stop is None else (order, stop)
        return predict(int8, tuned.crops, self.reporter, self.execution, early=early)

    def all_answers(self, trial: Trial, int8: Model) -> Predictions:
        """The trial's answers on all images, computed again if it was stopped early or made on
        another machine."""
        path = self.store.predictions_path(trial.digest)
        if trial.status == "done" and path.is_file():
            return Predictions.load(path)
        return predict(int8, self.prepared.crops, self.reporter, self.execution)

    def time(self, int8: Sequence[Model], conditions: BenchConditions) -> BenchResult:
        """Time fp32 and int8 models in turns in one benchmark."""
        return self._timed([self.prepared.model, *int8], conditions)

    def in_turns(
        self, int8: Model, other: RuntimeName | None, conditions: BenchConditions
    ) -> BenchResult:
        """Time fp32 and int8, fp32 in int8's runtime where that is another, and int8 in the
        ``other`` runtime."""
        moved = [] if other is None else [int8.with_overrides(runtime=other)]
        return self._timed([*with_fp32_there(self.prepared.model, int8), *moved], conditions)

    def milliseconds(self, paths: Sequence[Path]) -> list[float]:
        """The median time of each file, all timed in turns."""
        models = [self.files.load(path, path.stem) for path in paths]
        return [found.p50 for found, *_ in self._timed(models, TRIAL_TIMING).measurements]

    def _timed(self, models: Sequence[Model], conditions: BenchConditions) -> BenchResult:
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
        return timed(models, spec, self.reporter)

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
    early = f" (stopped after {found.images} images)" if trial.status == "stopped" else ""
    return f"{top1}agreement {found.agreement:.2%}{kl}{speed}{early}"
