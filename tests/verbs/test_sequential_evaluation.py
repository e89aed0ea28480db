"""Two models in turns until it is certain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quantlab._util.reporter import NullReporter
from quantlab.cluster.execution import ShardedExecution
from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import DataError
from quantlab.evaluate.parallel import ParallelRunner
from quantlab.gate.notation import parse_criterion
from quantlab.gate.sequential import watch
from quantlab.model.model import Model
from quantlab.testing import image_folder, tiny_classifier
from quantlab.verbs.evaluate import predict
from quantlab.verbs.sequential_evaluation import BLOCK, SequentialEvaluation, predict_until_certain

IMAGES = 160

ONE_CORE = ShardedExecution(threads=1)


@pytest.fixture
def crops(tmp_path: Path) -> Crops:
    data = image_folder(tmp_path / "data", 10, per_class=IMAGES // 10, size=32)
    return load_crops(
        open_dataset(data), get_pipeline("torchvision", size=32), cache_dir=tmp_path / "crops"
    )


@pytest.fixture
def models(tmp_path: Path) -> list[Model]:
    files = [tiny_classifier(tmp_path / f"{seed}.onnx", seed=seed) for seed in range(2)]
    return [Model.load(path) for path in files]


class Asked:
    """How many images each model was really run on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images: dict[str, int] = {}

        class Counting(ParallelRunner):
            def answers(runner, order, images):  # type: ignore[no-untyped-def]  # noqa: N805
                name = runner.model.name
                self.images[name] = self.images.get(name, 0) + len(order)
                return super().answers(order, images)

        monkeypatch.setattr("quantlab.verbs.evaluate.ParallelRunner", Counting)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def run(models: list[Model], crops: Crops, criterion: str, seed: int = 0) -> SequentialEvaluation:
    test = watch(parse_criterion(criterion))
    return predict_until_certain(models, crops, test, NullReporter(), ONE_CORE, seed)


def test_both_models_see_the_same_few_images(
    models: list[Model], crops: Crops, asked: Asked
) -> None:
    found = run(models, crops, "agreement >= 99%")
    assert (found.seen, found.total, found.decided) == (BLOCK, IMAGES, True)
    assert asked.images == {"0": BLOCK, "1": BLOCK}
    first, second = found.predictions
    assert first.names == second.names
    assert len(first) == BLOCK
    assert set(np.unique(first.labels)) == set(range(10))
    assert "after 64 of 160 images" in found.sentence


def test_the_answers_are_those_of_a_whole_evaluation(models: list[Model], crops: Crops) -> None:
    found = run(models, crops, "agreement >= 99%")
    for model, answers in zip(models, found.predictions, strict=True):
        whole = predict(model, crops, NullReporter(), ONE_CORE)
        rows = [whole.names.index(name) for name in answers.names]
        assert rows == sorted(rows)
        np.testing.assert_array_equal(answers.outputs, whole.outputs[rows])
        assert answers.labels is not None
        np.testing.assert_array_equal(answers.labels, crops.labels[rows])  # type: ignore[index]


def test_the_seed_chooses_the_images(models: list[Model], crops: Crops) -> None:
    names = [
        run(models, crops, "agreement >= 99%", seed).predictions[0].names for seed in (0, 0, 1)
    ]
    assert names[0] == names[1] != names[2]


def test_what_is_never_certain_sees_all_and_is_kept(
    models: list[Model], crops: Crops, asked: Asked
) -> None:
    both = [models[0], models[0]]
    found = run(both, crops, "0%")
    assert (found.seen, found.decided) == (IMAGES, False)
    assert "not certain before the last of 160 images" in found.sentence
    assert asked.images == {"0": 2 * IMAGES}
    again = run(both, crops, "0%")
    assert asked.images == {"0": 2 * IMAGES}
    np.testing.assert_array_equal(again.predictions[0].outputs, found.predictions[0].outputs)


def test_known_answers_stop_at_the_same_image(
    models: list[Model], crops: Crops, asked: Asked
) -> None:
    cold = run(models, crops, "agreement >= 60%")
    predict(models[0], crops, NullReporter(), ONE_CORE)
    warm = run(models, crops, "agreement >= 60%")
    assert cold.seen == warm.seen
    assert asked.images == {"0": IMAGES + cold.seen, "1": 2 * cold.seen}


def test_accuracy_needs_labels(models: list[Model], crops: Crops, tmp_path: Path) -> None:
    one = load_crops(
        open_dataset(tmp_path / "data" / "3"), crops.pipeline, cache_dir=tmp_path / "crops"
    )
    with pytest.raises(DataError, match="agreement >= 96%"):
        run(models, one, "1%")
    assert run(models, one, "agreement >= 90%").seen == len(one)
