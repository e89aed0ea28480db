"""The running line of an evaluation, and repeated runs from the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quantlab.evaluate.predictions import Predictions
from quantlab.jobs.evaluate import EvaluateSpec, _Running, evaluate_job
from quantlab.store import Run
from quantlab.talk import Silence
from quantlab.testing import image_folder, tiny_classifier


class Notes(Silence):
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


def test_a_line_every_so_many_images() -> None:
    talk = Notes()
    running = _Running(np.zeros(20, np.int64), talk, 5)
    for done in range(4, 21, 4):
        running.note(done, outputs(0, 0, 0, 0))
    assert [line.split()[0] for line in talk.said] == ["8", "12", "16", "20"]


def test_the_predictions_are_saved_and_the_same_again(tmp_path: Path) -> None:
    model = tiny_classifier(tmp_path / "m.onnx", size=224)
    data = image_folder(tmp_path / "images", 10, per_class=1, size=40)
    saved = []
    for _ in range(2):
        with Run("evaluate", {}, "quantlab evaluate", tmp_path / "runs") as run:
            spec = EvaluateSpec(model=str(model), data=data, pipeline="torchvision", threads=1)
            accuracy, images = evaluate_job(spec, run, Silence())
        assert accuracy is not None
        assert (images, accuracy.top1.n) == (10, 10)
        saved.append(Predictions.load(run.folder / run.record.artifacts["predictions"]))
    np.testing.assert_array_equal(saved[0].outputs, saved[1].outputs)
    assert saved[0].digests == saved[1].digests
