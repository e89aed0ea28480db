"""Shards: cut, computed, merged; to the last bit what one process gives."""

from __future__ import annotations

import shutil
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

from quantlab._util.reporter import NullReporter
from quantlab.cluster import opened_data
from quantlab.cluster.executor import open_executor
from quantlab.cluster.shards import Sharded, cut
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops, Undecoded, load_crops
from quantlab.data.dataset import Dataset
from quantlab.data.readers import open_dataset
from quantlab.errors import ClusterError, DataError, QuantizeError
from quantlab.evaluate.execution import Execution
from quantlab.evaluate.parallel import ParallelRunner
from quantlab.model.model import Model
from quantlab.quantize.engine import QuantlabEngine
from quantlab.recipe import Recipe
from quantlab.testing import image_folder, tiny_classifier, truncate
from quantlab.testing.cluster import FakeExecutor

ONE = Execution(threads=1)


def silent(done: int, total: int) -> None:
    """No progress."""


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 1000, 1800])
@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("step", [2, 3, 16])
def test_cut(count: int, workers: int, step: int) -> None:
    rows = np.random.default_rng(0).permutation(count)
    pieces = cut(rows, 64, workers, step)
    np.testing.assert_array_equal(np.concatenate(pieces), rows)
    sizes = {len(piece) for piece in pieces[:-1]}
    assert all(size % step == 0 for size in sizes)
    assert len(sizes) <= 1
    assert max(map(len, pieces)) <= 64 + step
    if count >= 64 * workers:
        turns = -(-len(pieces) // workers)
        assert turns * len(pieces[0]) <= 1.1 * count / workers + step * turns


def answers(sharded: Sharded, scene: Any, order: Any = None, **execution: Any) -> Any:
    crops = sharded.read(scene.dataset, scene.pipeline, 0.01, silent)
    order = np.arange(len(crops)) if order is None else order
    found = list(sharded.answers(scene.model, crops, replace(ONE, **execution), order))
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in found]), order)
    return np.concatenate([outputs for _, outputs in found])


def test_crops_that_workers_decoded_are_the_same(scene: Any) -> None:
    done: list[int] = []
    found = Sharded(FakeExecutor()).read(
        scene.dataset, scene.pipeline, 0.01, lambda n, total: done.append(n)
    )
    expected = scene.crops
    assert isinstance(found, Undecoded)
    assert (found.names, found.digests) == (expected.names, expected.digests)
    assert found.dataset_digest == expected.dataset_digest
    np.testing.assert_array_equal(found.labels, expected.labels)
    for rows in (slice(3, 40, 5), np.array([7, 1, 1]), slice(0, 0)):
        np.testing.assert_array_equal(found.pixels(rows), expected.pixels(rows))
    assert done == sorted(done)
    assert done[-1] == len(expected)


@pytest.mark.parametrize("execution", [{}, {"batch": 5}, {"threads": 2}])
def test_answers_are_those_of_each_image_alone(scene: Any, execution: dict[str, Any]) -> None:
    order = np.random.default_rng(3).permutation(len(scene.crops))
    found = answers(Sharded(FakeExecutor()), scene, order, **execution)
    np.testing.assert_array_equal(found, scene.answers[order])


def test_a_fixed_batch_keeps_every_image_in_its_place(scene: Any, tmp_path: Path) -> None:
    fixed = Model.load(tiny_classifier(tmp_path / "fixed.onnx", batch=3))
    scene = replace(scene, model=fixed)
    with ParallelRunner(fixed, ONE, pipeline=scene.pipeline) as run:
        whole = run.answers(np.arange(len(scene.crops)), scene.crops.pixels)
        expected = np.concatenate([outputs for _, outputs in whole])
    np.testing.assert_array_equal(answers(Sharded(FakeExecutor()), scene), expected)


def test_external_data_travel_inside_the_model(scene: Any, tmp_path: Path) -> None:
    proto = scene.model.proto()
    external_data_helper.convert_model_to_external_data(proto, location="w.bin", size_threshold=0)
    onnx.save(proto, tmp_path / "outside.onnx")
    outside = Model.load(tmp_path / "outside.onnx")
    np.testing.assert_array_equal(
        answers(Sharded(FakeExecutor()), replace(scene, model=outside)), scene.answers
    )
    name, content = Sharded(FakeExecutor()).sent(outside)
    assert opened_data.model(name, content).sha256 == outside.sha256


def test_processes_and_dask_give_the_same_bits(scene: Any, dask_address: str) -> None:
    for name in ("process:2", dask_address):
        with open_executor(name) as executor:
            assert executor is not None
            assert executor.workers == 2
            np.testing.assert_array_equal(answers(Sharded(executor), scene), scene.answers)


def damaged(tmp_path: Path) -> Dataset:
    folder = image_folder(tmp_path / "damaged", 10, per_class=5, size=40)
    truncate(folder / "3" / "002.png")
    (folder / "5" / "001.png").write_bytes(b"")
    return open_dataset(folder)


def test_unusable_images_are_left_out_as_always(scene: Any, tmp_path: Path) -> None:
    dataset = damaged(tmp_path)
    sharded = Sharded(FakeExecutor())
    expected = load_crops(dataset, scene.pipeline, cache_dir=tmp_path / "c", max_bad=0.5)
    found = sharded.read(dataset, scene.pipeline, 0.5, silent)
    assert (found.names, found.problems) == (expected.names, expected.problems)
    assert found.dataset_digest == expected.dataset_digest
    outputs = [o for _, o in sharded.answers(scene.model, found, ONE, np.arange(len(found)))]
    whole = replace(scene, dataset=dataset, crops=expected)
    np.testing.assert_array_equal(np.concatenate(outputs), whole.answers)
    with pytest.raises(DataError, match="2 of 50 images cannot be used") as error:
        sharded.read(dataset, scene.pipeline, 0.01, silent)
    with pytest.raises(DataError) as alone:
        load_crops(dataset, scene.pipeline, cache_dir=tmp_path / "c")
    assert str(error.value) == str(alone.value)


def test_a_part_of_a_part_is_found_again(scene: Any) -> None:
    part = scene.dataset.subset(range(60, 5, -2)).subset([3, 1, 20, 20, 0])
    found = Sharded(FakeExecutor()).read(part, scene.pipeline, 0.01, silent)
    assert found.digests == part.content_digests
    rows = [60 - 2 * i for i in (3, 1, 20, 20, 0)]
    assert part.opened_rows.tolist() == rows
    assert part.names == tuple(scene.dataset.names[i] for i in rows)


class Elsewhere(FakeExecutor):
    """Its workers find ``change`` done to the images."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def submit(self, function: Any, /, *args: Any, near: int) -> Any:
        if near == 0:
            self.change()
        return super().submit(function, *args, near=near)


def test_a_worker_with_other_files_is_an_error(scene: Any) -> None:
    folder = Path(scene.dataset.root)

    def rename() -> None:
        (folder / "0" / "000.png").rename(folder / "0" / "0000.png")

    with pytest.raises(ClusterError, match="holds other files") as found:
        Sharded(Elsewhere(rename)).read(scene.dataset, scene.pipeline, 0.01, silent)
    assert "shared path" in found.value.remedy


def test_a_worker_without_the_folder_is_an_error(scene: Any) -> None:
    folder = Path(scene.dataset.root)
    away = Elsewhere(lambda: folder.rename(folder.with_name("away")))
    with pytest.raises(ClusterError, match="no such folder"):
        Sharded(away).read(scene.dataset, scene.pipeline, 0.01, silent)


def test_a_worker_with_other_images_is_an_error(scene: Any) -> None:
    first, last = (Path(scene.dataset.root, scene.dataset.names[i]) for i in (0, 69))
    sharded = Sharded(FakeExecutor())
    crops = sharded.read(scene.dataset, scene.pipeline, 0.01, silent)
    shutil.rmtree(Path("cache"))
    first.write_bytes(last.read_bytes())
    with pytest.raises(ClusterError, match=r"0/000.png is another image"):
        list(sharded.answers(scene.model, crops, ONE, np.arange(len(crops))))
    first.unlink()
    with pytest.raises(ClusterError, match=r"0/000.png: cannot be read"):
        list(sharded.answers(scene.model, crops, ONE, np.arange(len(crops))))


class Stale(FakeExecutor):
    """Its workers see other contents under the same names."""

    def submit(self, function: Any, /, *args: Any, near: int) -> Any:
        future = super().submit(function, *args, near=near)
        digests, bad = future.result()
        stale: Any = Future()
        stale.set_result((["other"] * len(digests), bad))
        return stale


def test_the_first_image_of_a_shard_is_compared(scene: Any) -> None:
    with pytest.raises(ClusterError, match=r"000.png is another image for a worker"):
        Sharded(Stale()).read(scene.dataset, scene.pipeline, 0.01, silent)


def test_only_what_was_opened_from_a_place_can_be_named(scene: Any) -> None:
    with pytest.raises(ClusterError, match="not opened from a path"):
        Sharded(FakeExecutor()).read(
            replace(scene.dataset, opening=None), scene.pipeline, 0.01, silent
        )
    nowhere = replace(scene.crops, dataset=None)
    with pytest.raises(ClusterError, match="no dataset"):
        list(Sharded(FakeExecutor()).answers(scene.model, nowhere, ONE, np.arange(3)))


RECIPES = [
    Recipe(),
    Recipe(ranges="moving-average", range_search=False),
    Recipe(ranges="entropy", rounding="nearest", bias_correction=False),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.ranges)
@pytest.mark.parametrize("workers", [1, 3])
def test_merged_statistics_give_the_same_file(scene: Any, recipe: Recipe, workers: int) -> None:
    images = CalibrationImages(scene.crops, scene.model.input)
    expected = QuantlabEngine().quantize(scene.model, recipe, images)
    sharded = Sharded(FakeExecutor(workers))
    engine = QuantlabEngine(sharded.observe(NullReporter()))
    found = engine.quantize(scene.model, recipe, images)
    assert found.SerializeToString(deterministic=True) == expected.SerializeToString(
        deterministic=True
    )
    assert isinstance(sharded.executor, FakeExecutor)
    assert len(sharded.executor.near) > 1


def test_processes_and_dask_give_the_same_file(scene: Any, dask_address: str) -> None:
    images = CalibrationImages(scene.crops, scene.model.input)
    recipe = Recipe(rounding="nearest", bias_correction=False, range_search=False)
    expected = QuantlabEngine().quantize(scene.model, recipe, images)
    for name in ("process:1", "process:2", dask_address):
        with open_executor(name) as executor:
            assert executor is not None
            engine = QuantlabEngine(Sharded(executor).observe(NullReporter()))
            assert engine.quantize(scene.model, recipe, images) == expected


def test_what_cannot_be_calibrated_is_said_as_always(scene: Any) -> None:
    bad = scene.pipeline.model_copy(update={"std": (1e-18, 1e-18, 1e-18)})
    crops = replace(scene.crops, pipeline=bad)
    images = CalibrationImages(crops, scene.model.input)
    with pytest.raises(QuantizeError) as alone:
        QuantlabEngine().quantize(scene.model, Recipe(), images)
    engine = QuantlabEngine(Sharded(FakeExecutor()).observe(NullReporter()))
    with pytest.raises(QuantizeError) as found:
        engine.quantize(scene.model, Recipe(), images)
    assert str(found.value) == str(alone.value)


def test_crops_without_a_place_are_shown_here() -> None:
    """What the engine shows in memory stays in this process."""
    seen: list[Any] = []
    Sharded(FakeExecutor()).observe(NullReporter())(None, {}, {}, seen)  # type: ignore[arg-type]
    assert not seen


def test_memory_is_that_of_few_shards(scene: Any) -> None:
    executor = FakeExecutor(workers=1)
    crops = Sharded(executor).read(scene.dataset, scene.pipeline, 0.01, silent)
    executor.near.clear()
    found = Sharded(executor).answers(scene.model, crops, ONE, np.arange(len(crops)))
    next(found)
    assert len(executor.near) <= 4
    assert isinstance(crops, Crops)


def test_a_model_is_shared_once(scene: Any, tmp_path: Path) -> None:
    shared: list[Path] = []

    class Sharing(FakeExecutor):
        def share(self, content: Any) -> Any:
            shared.append(content)
            return content

    sharded = Sharded(Sharing())
    others = [Model.load(tiny_classifier(tmp_path / f"{seed}.onnx", seed=seed)) for seed in (1, 2)]
    for model in (scene.model, scene.model, others[0], scene.model, others[1], scene.model):
        name, content = sharded.sent(model)
        assert (name.sha256, content) == (model.sha256, model.path)
    assert shared == [m.path for m in (scene.model, *others, scene.model)]
