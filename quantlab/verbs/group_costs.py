"""What each group of nodes costs in int8, measured for a tune and kept in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from quantlab._util.files import write_whole
from quantlab._util.reporter import Reporter
from quantlab._util.scratch import temporary_folder
from quantlab.data.calibration import CalibrationImages
from quantlab.errors import QuantizeError
from quantlab.evaluate.proxy import Proxy
from quantlab.inspect.sensitivity import GroupProbe
from quantlab.model.large import serialized
from quantlab.model.model import Model
from quantlab.quantize.groups import Group, kernel_groups
from quantlab.quantize.prepare import prepare
from quantlab.recipe import Recipe
from quantlab.tune.front import Front
from quantlab.tune.reverted_groups import Reverted, reverted_groups
from quantlab.tune.trials import Trial
from quantlab.verbs.cached_results import remembered

SCORE_IMAGES = 64
"""Calibration images on which a recipe's cheap score is taken, spread over all of them."""
TIMED_GROUPS = 8
"""So many reverted groups are timed by plain files."""


class CheapScore:
    """The KL of int8 files to fp32 on some calibration images: a recipe's score before anything is
    evaluated."""

    def __init__(self, model: Model, images: CalibrationImages, threads: int) -> None:
        self._model, self._images, self._threads = model, images, threads

    @cached_property
    def proxy(self) -> Proxy:
        """fp32's answers on these images."""
        inputs = self._images.crops.inputs(self._rows, self._model.input)
        return Proxy(self._model, inputs, self._threads)

    @property
    def _rows(self) -> slice:
        """SCORE_IMAGES of the calibration images, spread over all of them."""
        step = max(1, len(self._images) // SCORE_IMAGES)
        return slice(0, step * SCORE_IMAGES, step)

    def __call__(self, path: Path) -> float:
        """Mean KL of fp32 to the file's answers, in nats."""
        int8 = Model.load(path)
        known = remembered(
            "distance",
            (self._model, int8),
            self._images.crops,
            self._rows,
            lambda: self.proxy.distance(int8).kl,
        )
        return float(known)


class GroupCosts:
    """What each group of nodes costs in int8 (KL, nats), by the last ranking; each is on disk as
    soon as it was measured, so that a resumed tune goes on where it was. ``front`` is the last
    front of speed against accuracy that was made of them."""

    def __init__(self, model: Model, score: CheapScore, folder: Path, reporter: Reporter) -> None:
        self._model, self._score, self._folder, self._reporter = model, score, folder, reporter
        self._costs: dict[str, float] = {}
        self.front: Front | None = None

    def ranking(self, recipe: Recipe) -> list[tuple[Group, float]]:
        """Every group with what it costs alone in int8, the most first (see
        ``inspect.sensitivity``)."""
        path = self._folder / f"sensitivity-{recipe.digest}.json"
        self._costs = json.loads(path.read_text()) if path.is_file() else {}
        probe, costs = GroupProbe(self._score.proxy, recipe), self._costs
        missing = [group for group in probe.groups if group.name not in costs]
        if missing:
            with self._reporter.progress("Measuring sensitivity", len(missing)) as advance:
                for i, group in enumerate(missing):
                    costs[group.name] = probe.alone(group).kl
                    write_whole(path, json.dumps(costs, indent=1) + "\n")
                    advance(i + 1, group.name)
        ranked = [(group, costs[group.name]) for group in probe.groups]
        return sorted(ranked, key=lambda pair: (-pair[1], pair[0].name))

    def front_of(self, recipe: Recipe) -> Front:
        """The recipe's placements from fast to accurate, by the table of costs and by what each
        group costs alone (see ``ranking``)."""
        errors = {group.name: max(cost, 0.0) for group, cost in self.ranking(recipe)}
        path = self._folder / f"front-{recipe.digest}.json"
        if path.is_file():
            self.front = Front.model_validate_json(path.read_bytes())
        else:
            points = GroupProbe(self._score.proxy, recipe).variants.front(errors)
            self.front = Front(start=recipe, points=points)
            write_whole(path, self.front.model_dump_json(indent=1) + "\n")
        return self.front

    def recall(self) -> None:
        """Load the last ranking and the last front from the folder."""
        if (last := self._last("sensitivity-*.json")) is not None:
            self._costs = json.loads(last.read_text())
        if (last := self._last("front-*.json")) is not None:
            self.front = Front.model_validate_json(last.read_bytes())

    def _last(self, pattern: str) -> Path | None:
        return max(self._folder.glob(pattern), key=lambda path: path.stat().st_mtime, default=None)

    def reverted(self, chosen: Trial, trials: Sequence[Trial]) -> tuple[Reverted, ...]:
        """The groups that the chosen recipe keeps in fp32, with the gains and costs measured so
        far."""
        groups = kernel_groups(prepare(self._model.proto())) if chosen.recipe.exclude else ()
        return reverted_groups(chosen, trials, groups, self._costs)

    def with_times(
        self,
        recipe: Recipe,
        reverted: Sequence[Reverted],
        milliseconds: Callable[[Sequence[Path]], Sequence[float]],
    ) -> tuple[Reverted, ...]:
        """Time the groups whose cost in time no two trials give, by plain files, TIMED_GROUPS at
        most. ``milliseconds`` times files side by side."""
        wanted = [group.nodes for group in reverted if group.time is None][:TIMED_GROUPS]
        try:
            times = self._times(recipe, wanted, milliseconds) if wanted else {}
        except QuantizeError as error:
            self._reporter.warn(f"What stays in fp32 was not timed: {error.problem}")
            return tuple(reverted)
        return tuple(
            group.model_copy(update={"time": times[group.nodes], "time_by": "plain files"})
            if group.nodes in times
            else group
            for group in reverted
        )

    def _times(
        self,
        recipe: Recipe,
        wanted: Sequence[tuple[str, ...]],
        milliseconds: Callable[[Sequence[Path]], Sequence[float]],
    ) -> dict[tuple[str, ...], float]:
        """How much longer the recipe's plain file takes than those with one group more in int8."""
        variants = GroupProbe(self._score.proxy, recipe).variants
        with temporary_folder() as folder:
            paths: list[Path] = []
            for nodes in [(), *wanted]:
                paths.append(folder / f"{len(paths)}.onnx")
                kept = [node for node in recipe.exclude if node not in nodes]
                write_whole(paths[-1], serialized(variants.without(kept), "a file to time"))
            whole, *others = milliseconds(paths)
        return {nodes: whole / int8 - 1 for nodes, int8 in zip(wanted, others, strict=True)}
