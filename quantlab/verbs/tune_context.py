"""TuneContext: what all trials of one tune share; quantize, score, evaluate and time a trial."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from quantlab._util.files import write_whole
from quantlab._util.reporter import Reporter
from quantlab._util.scratch import temporary_folder
from quantlab.bench.measurement import BenchResult
from quantlab.cluster.execution import ALL_HERE, ShardedExecution
from quantlab.compare.comparison import Comparison
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops
from quantlab.errors import (
    ClusterError,
    OutputError,
    QuantizeError,
    QuantlabError,
    disk_is_full,
)
from quantlab.evaluate.predictions import Predictions
from quantlab.evaluate.proxy import Proxy
from quantlab.gate.criterion import Criterion
from quantlab.gate.metrics import metrics_of
from quantlab.gate.sequential import Decision, early_stop
from quantlab.gate.verdict import judge
from quantlab.inspect.sensitivity import GroupProbe
from quantlab.model.large import serialized
from quantlab.model.model import Model
from quantlab.quantize import Engine
from quantlab.quantize.groups import Group, kernel_groups
from quantlab.quantize.prepare import prepare
from quantlab.recipe import Recipe
from quantlab.tune.ledger import Ledger
from quantlab.tune.reverted import Reverted, reverted_groups
from quantlab.tune.search import Proposal
from quantlab.tune.trials import Trial, scores
from quantlab.verbs.bench import BenchOptions, timed
from quantlab.verbs.checks import remembered
from quantlab.verbs.compare import compared
from quantlab.verbs.evaluate import predict
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.tune import BenchConditions
from quantlab.verbs.prefetch import RecipePrefetcher
from quantlab.verbs.quantize import engine_of, quantized

SCORE_IMAGES = 64
"""Calibration images on which a recipe's cheap score is taken, spread over all of them."""
CERTAIN_FAILURE: tuple[Decision, ...] = ("fail",)
TIMED_GROUPS = 8
"""So many reverted groups are timed by plain files."""
TRIAL_TIMING = BenchConditions(rounds=10, seconds=2.0)
"""A trial's own timing; the best one is timed at length in the end."""


@dataclass
class TuneContext:
    """One tune's model, images, baseline and limits. ``bench=False`` leaves timing out;
    ``sampling`` is a recipe with the calibration sample that all trials have.

    Tunes of the same ``identity`` may share trials. ``costs`` is the last ranking: by group, what
    it costs in int8 (KL, nats). ``asked`` are the nodes that the user's recipe excludes.
    """

    model: Model
    criterion: Criterion
    calibration: LocatedDataset
    sampling: Recipe
    images: CalibrationImages
    evaluation: LocatedDataset
    crops: Crops
    baseline: Predictions
    ledger: Ledger
    reporter: Reporter
    execution: ShardedExecution = ALL_HERE
    seed: int = 0
    bench: bool = True
    identity: str = ""
    others: Callable[[], list[Trial]] = list
    busy: Callable[[], set[str]] = set
    claim: Callable[[str], None] = lambda digest: None
    prefetcher: RecipePrefetcher | None = None
    engines: dict[str, Engine] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()

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
        self.claim(recipe.digest)
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
        same = (t for t in self.others() if t.digest == recipe.digest)
        return next((t for t in same if t.status != "failed"), None)

    def _scored(self, trial: Trial) -> Trial:
        content = self.quantize(trial.recipe)
        sha256 = self.ledger.store_model(content)
        proxy = self.proxy(self.ledger.model_path(sha256))
        facts = {"sha256": sha256, "size_bytes": len(content), "proxy": proxy, "status": "scored"}
        return trial.model_copy(update=facts)

    def _evaluated(self, trial: Trial) -> Trial:
        int8 = self.load(self.model_file(trial), trial.recipe.name)
        answers = self.predict(int8)
        whole = len(answers) == len(self.crops)
        timing = self.time(int8, TRIAL_TIMING) if whole and self.bench else None
        comparison = self.compare(int8, answers, timing)
        found = scores(comparison, judge(comparison, self.criterion))
        if whole:
            answers.save(self.ledger.predictions_path(trial.digest))
            return trial.model_copy(update={"status": "done", "scores": found})
        found = found.model_copy(update={"meets": False, "status": "fail"})
        return trial.model_copy(update={"status": "stopped", "scores": found})

    def quantize(self, recipe: Recipe) -> bytes:
        """The recipe's file. Raises QuantizeError, or whatever the engine raises."""
        if self.prefetcher is not None and (content := self.prefetcher.take(recipe)) is not None:
            return content
        if recipe.engine not in self.engines:
            self.engines[recipe.engine] = engine_of(
                recipe.engine, self.execution.sharded, self.reporter
            )
        engine = self.engines[recipe.engine]
        return quantized(self.model, recipe, self.images, engine)

    def model_file(self, trial: Trial) -> Path:
        """The trial's file; made again when it was made on another machine."""
        path = self.ledger.model_path(trial.sha256 or "")
        if not path.is_file():
            path = self.ledger.model_path(self.ledger.store_model(self.quantize(trial.recipe)))
        return path

    def load(self, path: Path, name: str) -> Model:
        """A trial's file as a Model that gives what the fp32 model gives."""
        return replace(Model.load(path).like(self.model), label=name)

    def predict(self, int8: Model) -> Predictions:
        """The quantized model's answers on the evaluation images, in random order until it
        certainly fails the criterion (at 5%, at any time), or on all of them."""
        n = len(self.crops)
        stop = early_stop(self.criterion, self.baseline, on=CERTAIN_FAILURE)
        order = np.random.default_rng(self.seed).permutation(n)
        early = None if stop is None else (order, stop)
        return predict(int8, self.crops, self.reporter, self.execution, early=early)

    def time(self, int8: Model, conditions: BenchConditions) -> BenchResult:
        """Time fp32 and int8 in turns in one benchmark."""
        return self._timed([self.model, int8], conditions)

    def _timed(self, models: list[Model], conditions: BenchConditions) -> BenchResult:
        """Time the models in turns, at the model's fixed batch size if it has one."""
        fixed = self.model.input.batch
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
        return compared(
            (self.model, int8),
            (self.baseline, answers),
            timing,
            self.evaluation.dataset.class_names,
            self.seed,
            metrics_of(self.criterion),
            self.asked,
        )

    def proxy(self, path: Path) -> float:
        """Mean KL of fp32 to the file's answers on some calibration images, in nats."""
        int8 = Model.load(path)
        known = remembered(
            "distance",
            (self.model, int8),
            self.images.crops,
            self._few,
            lambda: self._proxy.distance(int8).kl,
        )
        return float(known)

    @property
    def _few(self) -> slice:
        """SCORE_IMAGES of the calibration images, spread over all of them."""
        step = max(1, len(self.images) // SCORE_IMAGES)
        return slice(0, step * SCORE_IMAGES, step)

    @cached_property
    def _proxy(self) -> Proxy:
        inputs = self.images.crops.inputs(self._few, self.model.input)
        return Proxy(self.model, inputs, self.execution.threads)

    def ranking(self, recipe: Recipe) -> list[tuple[Group, float]]:
        """Every group with what it costs alone in int8 (KL, nats), the most first.

        Measured on some calibration images (see ``inspect.sensitivity``), and kept in the run
        folder group by group, so that a resumed tune goes on where it was.
        """
        path = self.ledger.folder / f"sensitivity-{recipe.digest}.json"
        self.costs = json.loads(path.read_text()) if path.is_file() else {}
        probe, costs = GroupProbe(self._proxy, recipe), self.costs
        missing = [group for group in probe.groups if group.name not in costs]
        if missing:
            with self.reporter.progress("Measuring sensitivity", len(missing)) as advance:
                for i, group in enumerate(missing):
                    costs[group.name] = probe.alone(group).kl
                    write_whole(path, json.dumps(costs, indent=1) + "\n")
                    advance(i + 1, group.name)
        ranked = [(group, costs[group.name]) for group in probe.groups]
        return sorted(ranked, key=lambda pair: (-pair[1], pair[0].name))

    def recall_costs(self) -> None:
        """Load the costs of the last ranking from the run folder."""
        files = list(self.ledger.folder.glob("sensitivity-*.json"))
        if files:
            self.costs = json.loads(max(files, key=lambda path: path.stat().st_mtime).read_text())

    def reverted(self, chosen: Trial, trials: Sequence[Trial]) -> tuple[Reverted, ...]:
        """The groups that the chosen recipe keeps in fp32, with the gains and costs measured so
        far."""
        groups = kernel_groups(prepare(self.model.proto())) if chosen.recipe.exclude else ()
        return reverted_groups(chosen, trials, groups, self.costs)

    def with_times(self, recipe: Recipe, reverted: Sequence[Reverted]) -> tuple[Reverted, ...]:
        """Time the groups whose cost in time no two trials give, by plain files, TIMED_GROUPS at
        most."""
        wanted = [group.nodes for group in reverted if group.time is None][:TIMED_GROUPS]
        try:
            times = self._plain_times(recipe, wanted) if wanted else {}
        except QuantizeError as error:
            self.reporter.warn(f"What stays in fp32 was not timed: {error.problem}")
            return tuple(reverted)
        return tuple(
            group.model_copy(update={"time": times[group.nodes], "time_by": "plain files"})
            if group.nodes in times
            else group
            for group in reverted
        )

    def _plain_times(
        self, recipe: Recipe, wanted: Sequence[tuple[str, ...]]
    ) -> dict[tuple[str, ...], float]:
        """How much longer the recipe's plain file takes than those with one group more in int8."""
        variants = GroupProbe(self._proxy, recipe).variants
        with temporary_folder() as folder:
            models: list[Model] = []
            for nodes in [(), *wanted]:
                path = folder / f"{len(models)}.onnx"
                kept = [node for node in recipe.exclude if node not in nodes]
                write_whole(path, serialized(variants.without(kept), "a file to time"))
                models.append(self.load(path, path.stem))
            (whole, *_), *others = self._timed(models, TRIAL_TIMING).measurements
        pairs = zip(wanted, others, strict=True)
        return {nodes: whole.p50 / int8.p50 - 1 for nodes, (int8, *_) in pairs}


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
