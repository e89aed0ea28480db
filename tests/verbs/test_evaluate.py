"""The running line of an evaluation, and repeated runs from the cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantlab._util.paths import cache_dir
from quantlab._util.reporter import NullReporter
from quantlab.cluster.execution import ShardedExecution
from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import ModelError
from quantlab.evaluate.predictions import Predictions
from quantlab.model.model import Model
from quantlab.runs.run import Run
from quantlab.runtime.runner import Runner
from quantlab.testing import image_folder, tiny_classifier
from quantlab.verbs.evaluate import EvaluateOptions, _Running, evaluate_named_model, predict
from quantlab.verbs.publish import publish

ONE_CORE = ShardedExecution(threads=1)


class Notes(NullReporter):
    """Remembers all that is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Kept."""
        self.said.append(text)


def outputs(*answers: int) -> np.ndarray:  # type: ignore[type-arg]
    return np.eye(10, dtype=np.float32)[list(answers)]


def test_the_note_counts_all_images_so_far() -> None:
    running = _Running(np.array([1, 2, 3, 9]), Notes(), None)
    assert running.note(2, outputs(1, 5)).startswith("2 images, top-1 50.00%, top-5 100.00%, ")
    assert running.note(4, outputs(3, 8)).startswith("4 images, top-1 50.00%, top-5 75.00%, ")


def test_without_labels_the_note_tells_the_speed() -> None:
    note = _Running(None, Notes(), None).note(3, outputs(1, 2, 3))
    assert note.startswith("3 images, ")
    assert note.endswith(" images/s")


def test_a_line_every_so_many_images_whatever_the_batch() -> None:
    answers = np.random.default_rng(0).integers(0, 9, 20)
    labels = np.random.default_rng(1).integers(0, 9, 20)
    for batch in (1, 4, 20):
        reporter = Notes()
        running = _Running(labels, reporter, 5)
        for done in range(batch, 21, batch):
            running.note(done, outputs(*answers[done - batch : done]))
        assert [line.split(", speed ")[0] for line in reporter.said] == [
            f"{n} samples, acc-top1 {(answers == labels)[:n].mean():.4f}, "
            f"acc-top5 {((answers == labels) | (labels < 5 - (answers > 3)))[:n].mean():.4f}"
            for n in (5, 10, 15, 20)
        ]
        assert all(line.endswith(" fps") for line in reporter.said)


def test_a_line_without_labels_has_the_speed_alone() -> None:
    reporter = Notes()
    _Running(None, reporter, 2).note(2, outputs(1, 2))
    (line,) = reporter.said
    assert line.startswith("2 samples, speed ")


def test_the_predictions_are_saved_and_the_same_again(tmp_path: Path) -> None:
    model = tiny_classifier(tmp_path / "m.onnx", size=224)
    data = image_folder(tmp_path / "images", 10, per_class=1, size=40)
    saved = []
    for _ in range(2):
        spec = EvaluateOptions(model=str(model), data=data, pipeline="torchvision", threads=1)
        with Run("evaluate", {}, "quantlab evaluate", tmp_path / "runs") as run:
            found = publish(evaluate_named_model(spec, NullReporter()), run, NullReporter())
        assert found.accuracy is not None
        assert (found.images, found.accuracy.top1.n) == (10, 10)
        saved.append(Predictions.load(run.folder / run.record.artifacts["predictions"]))
    np.testing.assert_array_equal(saved[0].outputs, saved[1].outputs)
    assert saved[0].digests == saved[1].digests


def test_known_answers_run_no_inference_where_the_crops_are_gone(
    tmp_path: Path, runs: list[int]
) -> None:
    model = tiny_classifier(tmp_path / "m.onnx", size=224)
    data = image_folder(tmp_path / "images", 10, per_class=1, size=40)
    spec = EvaluateOptions(model=str(model), data=data, pipeline="torchvision", threads=1)
    for _ in range(2):
        runs.clear()
        evaluate_named_model(spec, NullReporter())
        shutil.rmtree(cache_dir() / "crops")
    assert runs == []


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


@pytest.fixture
def crops(tmp_path: Path) -> Crops:
    folder = image_folder(tmp_path / "images", 10, per_class=4, size=40)
    return load_crops(open_dataset(folder), get_pipeline("tf", 32), cache_dir=tmp_path / "crops")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of every batch that a Runner was given."""
    seen: list[int] = []
    call = Runner.__call__

    def counted(self: Runner, batch: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        seen.append(len(batch))
        return call(self, batch)

    monkeypatch.setattr(Runner, "__call__", counted)
    return seen


WHOLE = 40 + 2
"""All images, and two of them once more by themselves, to see that a batch changes no bit."""


def stop_after(images: int) -> Callable[..., bool]:
    seen: list[int] = []

    def stop(rows: np.ndarray, made: np.ndarray) -> bool:  # type: ignore[type-arg]
        seen.extend(rows)
        return len(seen) >= images

    return stop


def test_known_answers_run_no_inference(model: Model, crops: Crops, runs: list[int]) -> None:
    reporter = Notes()
    first = predict(model, crops, reporter, ONE_CORE)
    assert (sum(runs), reporter.said) == (WHOLE, [])
    renamed = replace(model, label="again", output_kind="probabilities")
    second = predict(renamed, replace(crops, labels=None), reporter, ShardedExecution(threads=2))
    assert (sum(runs), reporter.said) == (WHOLE, ["again: answers from the cache"])
    np.testing.assert_array_equal(first.outputs, second.outputs)
    assert (second.model_name, second.output_kind) == ("again", "probabilities")
    assert second.labels is None
    assert second.digests == first.digests


def test_a_part_is_never_taken_for_the_whole(model: Model, crops: Crops, runs: list[int]) -> None:
    order = np.random.default_rng(0).permutation(40)
    part = predict(model, crops, NullReporter(), ONE_CORE, early=(order, stop_after(16)))
    assert len(part) == 16
    assert sum(runs) < WHOLE
    runs.clear()
    few = replace(crops, names=crops.names[:8], digests=crops.digests[:8], labels=crops.labels[:8])
    assert len(predict(model, few, NullReporter(), ONE_CORE)) == 8
    whole = predict(model, crops, NullReporter(), ONE_CORE)
    assert (len(whole), sum(runs)) == (40, 8 + 2 + WHOLE)


def test_known_answers_stop_where_a_run_stopped(
    model: Model, crops: Crops, runs: list[int]
) -> None:
    order = np.random.default_rng(0).permutation(40)
    run = predict(model, crops, NullReporter(), ONE_CORE, early=(order, stop_after(13)))
    predict(model, crops, NullReporter(), ONE_CORE)
    runs.clear()
    known = predict(model, crops, NullReporter(), ONE_CORE, early=(order, stop_after(13)))
    assert (runs, known.names) == ([], run.names)
    np.testing.assert_array_equal(known.outputs, run.outputs)


def test_an_early_stop_that_never_comes_makes_whole_answers(
    model: Model, crops: Crops, runs: list[int]
) -> None:
    order = np.random.default_rng(0).permutation(40)
    run = predict(model, crops, NullReporter(), ONE_CORE, early=(order, stop_after(99)))
    again = predict(model, crops, NullReporter(), ONE_CORE)
    assert sum(runs) == WHOLE
    np.testing.assert_array_equal(again.outputs, run.outputs)


def test_a_model_that_changed_meanwhile_is_not_remembered(
    model: Model, crops: Crops, tmp_path: Path
) -> None:
    tiny_classifier(model.path, seed=9)
    with pytest.raises(ModelError, match="changed while quantlab was reading it"):
        predict(model, crops, NullReporter(), ONE_CORE)
    assert not (tmp_path / "cache" / "predictions").exists()


def test_without_room_nothing_is_remembered(
    model: Model, crops: Crops, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTLAB_CACHE_SIZE", "0")
    for _ in range(2):
        predict(model, crops, NullReporter(), ONE_CORE)
    assert sum(runs) == 2 * WHOLE
