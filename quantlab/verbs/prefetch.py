"""Quantize ahead: files of recipes that a search will ask for, made by workers side by side or in a
thread."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from quantlab._util.reporter import Reporter
from quantlab._util.timeline import Timeline
from quantlab.cluster import opened_data
from quantlab.cluster.opened_data import SentModel, ShardImages
from quantlab.cluster.shards import Sharded
from quantlab.data.calibration import CalibrationImages
from quantlab.errors import ClusterError, QuantizeError, QuantlabError
from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.quantize.cached_files import ENGINES
from quantlab.recipe import Recipe
from quantlab.runtime.environment import one_thread
from quantlab.verbs.quantize import keep_file, known_file, made, quantized

if TYPE_CHECKING:
    from quantlab.quantize.engine import QuantlabEngine

Made = bytes | QuantlabError
"""A recipe's file, or why there is none."""
_LOOK = 0.1
"""Seconds between two looks at how far a file is."""


class MadeAhead(Protocol):
    """Files that are made before they are asked for."""

    def take(self, recipe: Recipe) -> bytes | None:
        """The recipe's file; None where it is not made ahead, or was taken before. Raises what its
        engine raised."""


class FirstFile:
    """The file of the recipe that a search asks for first, made in a thread, while fp32 is
    evaluated. Leaving its ``with`` block ends the thread."""

    def __init__(
        self,
        model: Model,
        images: CalibrationImages,
        recipe: Recipe,
        engine: QuantlabEngine,
        timeline: Timeline,
        reporter: Reporter,
    ) -> None:
        self._model, self._images, self._recipe, self._engine = model, images, recipe, engine
        self._timeline, self._reporter = timeline, reporter
        self._step, self._share, self._taken = "", 0.0, False
        engine.told = self._told
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="quantlab-quantizing")
        self._file = self._pool.submit(self._make)

    def take(self, recipe: Recipe) -> bytes | None:
        """See MadeAhead.take."""
        if self._taken or recipe.digest != self._recipe.digest:
            return None
        self._taken = True
        with self._reporter.progress(f"Quantizing by {recipe.name}", 100) as advance:
            while not wait([self._file], _LOOK).done:
                advance(round(100 * self._share), self._step)
        return self._file.result()

    def _make(self) -> bytes:
        with self._timeline.step(f"quantizing by {self._recipe.name}"):
            return quantized(self._model, self._recipe, self._images, self._engine)

    def _told(self, step: str, share: float) -> None:
        if self._images.stop.is_set():
            raise CancelledError
        self._step, self._share = step, share

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._file.done():
            self._images.stop.set()
        self._pool.shutdown()


class RecipePrefetcher:
    """As many at a time as there are workers, and all of these awaited: whenever a file has been
    taken, no worker is at work, so that what is timed then is timed alone."""

    def __init__(
        self,
        sharded: Sharded,
        model: Model,
        images: CalibrationImages,
        recipes: Sequence[Recipe],
        reporter: Reporter,
    ) -> None:
        self._sharded, self._model, self._images, self._reporter = sharded, model, images, reporter
        self._waiting = together([r for r in recipes if r.engine in ENGINES])
        self._made: dict[str, Made] = {}

    def take(self, recipe: Recipe) -> bytes | None:
        """The recipe's file; None for a recipe that was not announced, or was taken before.

        Raises QuantizeError, or what else its engine raised; ClusterError.
        """
        if recipe.digest not in self._made:
            self._make(recipe)
        found = self._made.pop(recipe.digest, None)
        if isinstance(found, QuantlabError):
            raise found
        return found

    def _make(self, wanted: Recipe) -> None:
        """Quantize the group of ``wanted``, and others to keep all workers busy."""
        groups = [group for group in self._waiting if wanted in group]
        if not groups:
            return
        others = [group for group in self._waiting if group not in groups]
        groups += others[: max(1, self._sharded.executor.workers) - 1]
        self._waiting = [group for group in self._waiting if group not in groups]
        unknown = [group for group in groups if not self._recalled(group)]
        name, content = self._sharded.sent(self._model)
        images = self._sharded.named(self._images.crops)
        tasks = [(images, name, content, group) for group in unknown]
        with self._reporter.progress("Quantizing", len(tasks)) as advance:
            for done, found in enumerate(self._sharded.in_order(files, tasks)):
                self._keep(unknown[done], found)
                advance(done + 1, f"{len(unknown[done])} recipes")

    def _recalled(self, group: Sequence[Recipe]) -> bool:
        known = [known_file(self._model, recipe, self._images) for recipe in group]
        self._made |= {r.digest: f for r, f in zip(group, known, strict=True) if f is not None}
        return None not in known

    def _keep(self, group: Sequence[Recipe], found: Sequence[Made]) -> None:
        for recipe, file in zip(group, found, strict=True):
            self._made[recipe.digest] = file
            if isinstance(file, bytes):
                keep_file(file, self._model, recipe, self._images)


def together(recipes: Sequence[Recipe]) -> list[list[Recipe]]:
    """Groups, in the order of their first: files that differ in format only have one plan."""
    groups: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        groups.setdefault(recipe.structure, []).append(recipe)
    return list(groups.values())


def files(
    images: ShardImages, name: SentModel, content: Path | bytes, recipes: Sequence[Recipe]
) -> list[Made]:
    """A worker's part: the recipes' files, of one engine after the other."""
    model = opened_data.model(name, content)
    calibration = CalibrationImages(opened_data.crops(images), model.input)
    engine = get_engine(recipes[0].engine)
    found: list[Made] = []
    for recipe in recipes:
        try:
            with one_thread():
                found.append(made(model, recipe, calibration, engine))
        except ClusterError:
            raise
        except QuantlabError as error:
            found.append(error)
        except Exception as error:  # an engine may raise anything
            text = f"{recipe.engine} crashed: {type(error).__name__}: {error}"
            found.append(QuantizeError(text))
    return found
