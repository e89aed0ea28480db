"""evaluate: a model over crops, batch by batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from answering import evaluate

from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import DataError, RecipeError
from quantlab.evaluate.evaluator import AnswerStream, Ask, Outputs, Rows, drive, known
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner
from quantlab.testing import FakeRunner, image_folder, pixel_logits, tiny_classifier

PIPELINE = {
    "resizer": "pillow-bilinear",
    "resize": 36,
    "crop": 32,
    "mean": [127, 127, 127],
    "std": [64, 64, 64],
}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


@pytest.fixture
def crops(tmp_path: Path) -> Crops:
    folder = image_folder(tmp_path / "images", 10, per_class=2, size=40)
    return load_crops(open_dataset(folder), get_pipeline(PIPELINE), cache_dir=tmp_path / "crops")


def test_predictions_keep_the_order_and_the_facts(model: Model, crops: Crops) -> None:
    runner = FakeRunner()
    found = evaluate(model, crops, runner)
    expected = pixel_logits(crops.pipeline.to_input(crops.array, model.input))
    np.testing.assert_allclose(found.outputs, expected, rtol=1e-5)
    assert runner.batches == [8, 8, 4]
    assert (found.names, found.digests) == (crops.names, crops.digests)
    assert (found.model_name, found.model_sha256) == ("m", model.sha256)
    assert found.dataset_digest == crops.dataset_digest
    assert found.pipeline == crops.pipeline.model_dump(mode="json")
    np.testing.assert_array_equal(found.labels, np.repeat(np.arange(10), 2))


@pytest.mark.parametrize("batch_size", [1, 3, 20, 100])
def test_the_batch_size_changes_nothing(model: Model, crops: Crops, batch_size: int) -> None:
    whole = evaluate(model, crops, FakeRunner(), batch_size=batch_size)
    np.testing.assert_allclose(whole.outputs, evaluate(model, crops, FakeRunner()).outputs)


def test_progress_hears_every_batch(model: Model, crops: Crops) -> None:
    heard = []
    found = evaluate(model, crops, FakeRunner(), progress=lambda n, out: heard.append((n, out)))
    assert [done for done, _ in heard] == [8, 16, 20]
    np.testing.assert_array_equal(np.concatenate([out for _, out in heard]), found.outputs)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"batch": 1},
        {"batch": 3},
        {"layout": "NHWC"},
        {"layout": "NHWC", "dtype": "uint8", "softmax": True},
    ],
)
def test_real_models_of_every_kind(parts: dict[str, object], tmp_path: Path, crops: Crops) -> None:
    model = Model.load(tiny_classifier(tmp_path / "kind.onnx", **parts))  # type: ignore[arg-type]
    with Runner(model, threads=1) as runner:
        found = evaluate(model, crops, runner)
        alone = runner(crops.pipeline.to_input(crops.array[-1:], model.input))
    assert found.outputs.shape == (20, 10)
    np.testing.assert_allclose(found.outputs[-1:], alone, rtol=1e-4, atol=1e-5)
    assert found.output_kind == ("probabilities" if parts.get("softmax") else "logits")


def test_labels_beyond_the_models_classes(tmp_path: Path, crops: Crops) -> None:
    model = Model.load(tiny_classifier(tmp_path / "five.onnx", classes=5))
    with pytest.raises(DataError, match="Labels out of range"):
        evaluate(model, crops, FakeRunner(classes=5))


def test_unlabelled_crops(model: Model, crops: Crops) -> None:
    assert evaluate(model, replace(crops, labels=None), FakeRunner()).labels is None


def test_crops_of_another_size(tmp_path: Path, crops: Crops) -> None:
    model = Model.load(tiny_classifier(tmp_path / "large.onnx", size=40))
    with pytest.raises(RecipeError, match="takes 40 x 40"):
        evaluate(model, crops, FakeRunner())


ORDER = np.random.default_rng(0).permutation(20)
TABLES = [np.arange(40, dtype=np.float32).reshape(20, 2) + 100 * i for i in range(2)]


@pytest.mark.parametrize("batch", [1, 3, 20])
@pytest.mark.parametrize("count", [1, 2])
def test_a_stop_is_shown_blocks_in_order_whatever_the_batch(count: int, batch: int) -> None:
    shown: list[list[int]] = []

    def ask(table: Outputs) -> Ask:
        def answers(rows: Rows) -> AnswerStream:
            pieces = (rows[i : i + batch] for i in range(0, len(rows), batch))
            return ((piece, table[piece]) for piece in pieces)

        return answers

    def stop(rows: Rows, *outputs: Outputs) -> bool:
        for made, table in zip(outputs, TABLES[:count], strict=True):
            np.testing.assert_array_equal(made, table[rows])
        shown.append(rows.tolist())
        return len(shown) == 2

    into = [np.full((20, 2), -1, np.float32) for _ in range(count)]
    asked = [ask(table) for table in TABLES[:count]]
    assert drive(asked, ORDER, into, stop=stop, block=7) == 14
    assert shown == [ORDER[:7].tolist(), ORDER[7:14].tolist()]
    shown.clear()
    assert drive(asked, ORDER, into, stop=lambda *_: False, block=7) == 20
    for made, table in zip(into, TABLES[:count], strict=True):
        np.testing.assert_array_equal(made, table)


def test_models_in_turns_answer_no_further_than_the_block_that_was_enough() -> None:
    asked: list[tuple[int, int]] = []

    def ask(number: int) -> Ask:
        def answers(rows: Rows) -> AnswerStream:
            asked.append((number, len(rows)))
            return known(TABLES[number])(rows)

        return answers

    into = [np.empty((20, 2), np.float32) for _ in range(2)]
    assert drive([ask(0), ask(1)], ORDER, into, stop=lambda *_: True, block=8) == 8
    assert asked == [(0, 8), (1, 8)]
