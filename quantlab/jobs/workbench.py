"""Workbench: what all trials of one tune share, and how one trial is made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.bench.measurement import BenchResult
from quantlab.comparison import Comparison
from quantlab.config import BenchConditions
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops
from quantlab.errors import OutputError, QuantlabError
from quantlab.evaluate.custom import metrics_of
from quantlab.evaluate.metrics import kl_divergence, logits_of
from quantlab.evaluate.predictions import Predictions
from quantlab.gate import Criterion, judge
from quantlab.jobs.bench import BenchSpec, timed
from quantlab.jobs.compare import compared
from quantlab.jobs.evaluate import predict
from quantlab.jobs.inputs import Found
from quantlab.jobs.quantize import quantized
from quantlab.model import Model
from quantlab.quantize import Engine, get_engine
from quantlab.quantize.prepare import prepare
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner
from quantlab.sequential import Decision, early_stop
from quantlab.store import write_whole
from quantlab.talk import Talk
from quantlab.tune.groups import Group, kernel_groups
from quantlab.tune.ledger import Ledger
from quantlab.tune.search import Proposal
from quantlab.tune.trials import Trial, scores

SCORE_IMAGES = 64
"""Calibration images on which a recipe's cheap score is taken, spread over all of them."""
CERTAIN_FAILURE: tuple[Decision, ...] = ("fail",)
TRIAL_TIMING = BenchConditions(rounds=10, seconds=2.0)
"""A trial's own timing; the best one is timed at length in the end."""


@dataclass
class Workbench:
    """One tune's model, images, baseline and limits. ``bench=False`` leaves timing out."""

    model: Model
    criterion: Criterion
    calibration: Found
    images: CalibrationImages
    evaluation: Found
    crops: Crops
    baseline: Predictions
    ledger: Ledger
    talk: Talk
    threads: int = 0
    seed: int = 0
    bench: bool = True
    others: Callable[[], list[Trial]] = list
    engines: dict[str, Engine] = field(default_factory=dict)

    def attempt(self, number: int, proposal: Proposal, known: Trial | None) -> Trial:
        """Quantize, score, and where asked evaluate and time. What the recipe or the engine does
        wrong becomes a failed trial. Raises OutputError, which is nobody's fault but the disk's."""
        start = time.monotonic()
        recipe = proposal.recipe
        self.talk.say(
            f"Trial {number}: {recipe.name}{f' ({proposal.note})' if proposal.note else ''}"
        )
        trial = Trial(number=number, recipe=recipe, status="failed", seconds=0, note=proposal.note)
        if known is None and (elsewhere := self._elsewhere(recipe)) is not None:
            self.talk.say("  done on another machine")
            return elsewhere.model_copy(update={"number": number})
        try:
            trial = known if known is not None else self._scored(trial)
            if proposal.evaluate:
                trial = self._evaluated(trial)
        except OutputError:
            raise
        except QuantlabError as error:
            trial = trial.model_copy(update={"status": "failed", "error": str(error)})
        except Exception as error:  # an engine may raise anything
            text = f"{recipe.engine} crashed: {type(error).__name__}: {error}"
            trial = trial.model_copy(update={"status": "failed", "error": text})
        self.talk.say(f"  {trial_line(trial)}")
        seconds = trial.seconds + time.monotonic() - start
        return trial.model_copy(update={"seconds": round(seconds, 3)})

    def _elsewhere(self, recipe: Recipe) -> Trial | None:
        return next((t for t in self.others() if t.digest == recipe.digest), None)

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
        timed = whole and self.bench
        timing = self.time(int8, TRIAL_TIMING) if timed else None
        comparison = self.compare(int8, answers, timing)
        found = scores(comparison, judge(comparison, self.criterion))
        if whole:
            answers.save(self.ledger.predictions_path(trial.digest))
            return trial.model_copy(update={"status": "done", "scores": found})
        found = found.model_copy(update={"meets": False, "status": "fail"})
        return trial.model_copy(update={"status": "stopped", "scores": found})

    def quantize(self, recipe: Recipe) -> bytes:
        """The recipe's file. Raises QuantizeError, or whatever the engine raises."""
        engine = self.engines.setdefault(recipe.engine, get_engine(recipe.engine))
        return quantized(self.model, recipe, self.images, engine)

    def model_file(self, trial: Trial) -> Path:
        """The trial's file; made again when it was made on another machine."""
        path = self.ledger.model_path(trial.sha256 or "")
        if not path.is_file():
            path = self.ledger.model_path(self.ledger.store_model(self.quantize(trial.recipe)))
        return path

    def load(self, path: Path, name: str) -> Model:
        """A trial's file as a Model that gives what the fp32 model gives."""
        model = Model.load(path).with_overrides(
            layout=self.model.layout, output_kind=self.model.output_kind
        )
        return replace(model, label=name)

    def predict(self, int8: Model) -> Predictions:
        """The quantized model's answers on the evaluation images, in random order until it is
        certain (at 5%, at any moment) that it does not meet the criterion, or on all of them."""
        n = len(self.crops)
        stop = early_stop(self.criterion, self.baseline, total=n, on=CERTAIN_FAILURE)
        order = np.random.default_rng(self.seed).permutation(n)
        early = None if stop is None else (order, stop)
        return predict(int8, self.crops, self.talk, self.threads, early=early)

    def time(self, int8: Model, conditions: BenchConditions) -> BenchResult:
        """fp32 and int8 interleaved in one run; a fixed batch size is kept to."""
        fixed = self.model.input.batch
        spec = BenchSpec(
            models=(),
            batch_sizes=(fixed,) if fixed else conditions.batch_sizes,
            rounds=conditions.rounds,
            seconds=conditions.seconds,
            threads=conditions.threads or self.threads or 1,
            seed=self.seed,
        )
        return timed([self.model, int8], spec, self.talk)

    def compare(self, int8: Model, answers: Predictions, timing: BenchResult | None) -> Comparison:
        """int8 beside fp32."""
        return compared(
            (self.model, int8),
            (self.baseline, answers),
            timing,
            self.evaluation.dataset.class_names,
            self.seed,
            metrics_of(self.criterion),
        )

    def proxy(self, path: Path) -> float:
        """Mean KL of fp32 to the file's answers on some calibration images, in nats."""
        return self._divergence(Model.load(path))

    def _divergence(self, quantized_model: Model | onnx.ModelProto) -> float:
        answers = self._logits(quantized_model)
        return float(kl_divergence(self._reference, answers).mean())

    @cached_property
    def _score_inputs(self) -> NDArray[np.generic]:
        crops = self.images.crops
        step = max(1, len(crops) // SCORE_IMAGES)
        chosen = crops.array[::step][:SCORE_IMAGES]
        return crops.pipeline.to_input(chosen, self.model.input)

    @cached_property
    def _reference(self) -> NDArray[np.float32]:
        return self._logits(self.model)

    def _logits(self, model: Model | onnx.ModelProto) -> NDArray[np.float32]:
        inputs = self._score_inputs
        with Runner(model, threads=self.threads) as run:
            parts = [run(inputs[i : i + 8]) for i in range(0, len(inputs), 8)]
        outputs = np.concatenate(parts)
        return logits_of(outputs) if self.model.output_kind == "probabilities" else outputs

    def ranking(self, recipe: Recipe) -> list[tuple[Group, float]]:
        """Every group with what leaving it in fp32 gains (KL, nats), the most first.

        Measured leave-one-out on some calibration images, with plain ranges and nearest weights
        (see ``Variants``), and kept in the run folder group by group, so that a resumed tune goes
        on where it was.
        """
        from quantlab.quantize.engine.variants import Variants

        path = self.ledger.folder / f"sensitivity-{recipe.digest}.json"
        gains: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
        groups = kernel_groups(prepare(self.model.proto()))
        if not all(group.name in gains for group in groups):
            variants = Variants(
                self.model, recipe, _Inputs(self._score_inputs, self.model.input.batch or 8)
            )
            base = self._divergence(variants.without(recipe.exclude))
            with self.talk.progress("Measuring sensitivity", len(groups)) as advance:
                for i, group in enumerate(groups):
                    if group.name not in gains:
                        changed = variants.without((*recipe.exclude, *group.nodes))
                        gains[group.name] = base - self._divergence(changed)
                        write_whole(path, json.dumps(gains, indent=1) + "\n")
                    advance(i + 1, group.name)
        return sorted(
            ((g, gains[g.name]) for g in groups), key=lambda pair: (-pair[1], pair[0].name)
        )


@dataclass(frozen=True)
class _Inputs:
    """An array of inputs as a Calibration."""

    images: NDArray[np.generic]
    step: int

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        starts = range(0, len(self.images), self.step)
        return (self.images[i : i + self.step] for i in starts)


def trial_line(trial: Trial) -> str:
    """One line about a trial while the tune is running."""
    if trial.status == "failed":
        return f"failed: {(trial.error or '').splitlines()[0]}"
    found = trial.scores
    if found is None:
        return f"KL {trial.proxy:.4f} on calibration images"
    top1 = "" if found.top1 is None else f"top-1 {found.top1:.2%}, "
    kl = "" if found.kl is None else f", KL {found.kl:.4f}"
    speed = "" if found.speedup is None else f", {found.speedup:.2f}x fp32"
    early = f" (stopped after {found.images} images)" if trial.status == "stopped" else ""
    return f"{top1}agreement {found.agreement:.2%}{kl}{speed}{early}"
