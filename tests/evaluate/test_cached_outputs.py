"""Answers that are kept: found again by all that decides them, and by nothing less."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import evaluate

from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.evaluate import cached_outputs
from quantlab.evaluate.cached_outputs import answers_key, keep_outputs, recall_outputs
from quantlab.evaluate.predictions import Predictions
from quantlab.model.model import Model
from quantlab.testing import FakeRunner, image_folder, tiny_classifier, truncate

PIPELINE = get_pipeline(
    {
        "resizer": "pillow-bilinear",
        "resize": 36,
        "crop": 32,
        "mean": [127, 127, 127],
        "std": [64, 64, 64],
    }
)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


@pytest.fixture
def crops(tmp_path: Path) -> Crops:
    folder = image_folder(tmp_path / "images", 4, per_class=3, size=40)
    return load_crops(open_dataset(folder), PIPELINE, cache_dir=tmp_path / "crops")


@pytest.fixture
def answers(model: Model, crops: Crops) -> Predictions:
    return evaluate(model, crops, FakeRunner())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "predictions"


def key_of(model: Model, crops: Crops, **execution: Any) -> str:
    return answers_key(model, crops.digests, crops.pipeline, **execution)


def facts(**changed: str) -> Callable[[], dict[str, str]]:
    return lambda: {"onnxruntime": "1.0", "isa": "avx2", "cpu": "one", **changed}


def test_the_key_follows_all_that_decides_the_answers(
    model: Model, crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_outputs, "environment", facts())
    channels_last = replace(model.inputs[0], shape=(None, 32, 32, 3))
    swapped = (crops.digests[1], crops.digests[0], *crops.digests[2:])
    keys = [
        key_of(model, crops),
        key_of(replace(model, sha256="0" * 64), crops),
        key_of(replace(model, inputs=(channels_last,)), crops),
        key_of(model, replace(crops, digests=crops.digests[:-1])),
        key_of(model, replace(crops, digests=swapped)),
        key_of(model, replace(crops, pipeline=PIPELINE.model_copy(update={"color": "BGR"}))),
        key_of(model, crops, providers=("Other",)),
    ]
    for name in ("onnxruntime", "isa"):
        monkeypatch.setattr(cached_outputs, "environment", facts(**{name: "other"}))
        keys.append(key_of(model, crops))
    monkeypatch.setattr(cached_outputs, "environment", facts())
    monkeypatch.setattr("PIL.__version__", "0.0")
    keys.append(key_of(model, crops))
    monkeypatch.setattr(cached_outputs, "_FORMAT", 0)
    keys.append(key_of(model, crops))
    assert len(set(keys)) == len(keys)


def test_the_key_leaves_out_what_changes_no_answer(
    model: Model, crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_outputs, "environment", facts())
    renamed = replace(model, label="other", path=Path("elsewhere.onnx"))
    same = replace(
        crops,
        labels=None,
        dataset_digest="",
        root="",
        names=tuple(reversed(crops.names)),
        pipeline=PIPELINE.model_copy(update={"name": "other"}),
    )
    key = key_of(model, crops)
    assert key_of(renamed.with_overrides(output_kind="probabilities"), same) == key
    monkeypatch.setattr(cached_outputs, "environment", facts(cpu="two"))
    assert key_of(model, crops) == key


def test_answers_are_recalled_as_they_were(
    model: Model, crops: Crops, answers: Predictions, folder: Path
) -> None:
    assert recall_outputs(model, crops, folder) is None
    assert not folder.exists()
    keep_outputs(answers, model, crops, folder)
    found = recall_outputs(model, crops, folder)
    assert found is not None
    np.testing.assert_array_equal(found, answers.outputs)
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".npz"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "nonsense", "folder"])
def test_damaged_answers_are_unknown(
    damage: str, model: Model, crops: Crops, answers: Predictions, folder: Path
) -> None:
    keep_outputs(answers, model, crops, folder)
    (path,) = folder.glob("*.npz")
    if damage == "truncated":
        truncate(path)
    elif damage == "flipped":
        content = bytearray(path.read_bytes())
        place = content.index(answers.outputs.tobytes()[:16])
        content[place] ^= 1
        path.write_bytes(content)
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(b"" if damage == "empty" else b"PK\x03\x04 no archive")
    assert recall_outputs(model, crops, folder) is None
    if damage != "folder":
        keep_outputs(answers, model, crops, folder)
        assert recall_outputs(model, crops, folder) is not None


@pytest.mark.parametrize(
    "wrong",
    [{"model_sha256": "0" * 64}, {"digests": ("x",) * 12}, {"outputs": np.zeros((12, 3), "f4")}],
)
def test_answers_under_a_wrong_key_are_not_believed(
    wrong: dict[str, Any], model: Model, crops: Crops, answers: Predictions, folder: Path
) -> None:
    keep_outputs(replace(answers, **wrong), model, crops, folder)
    assert recall_outputs(model, crops, folder) is None


def test_a_folder_that_cannot_be_written_is_no_error(
    model: Model, crops: Crops, answers: Predictions, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    keep_outputs(answers, model, crops, tmp_path / "file")
    assert recall_outputs(model, crops, tmp_path / "file") is None


def _keep_often(path: Path, images: Path, crops_dir: Path, folder: Path) -> None:
    model = Model.load(path)
    crops = load_crops(open_dataset(images), PIPELINE, cache_dir=crops_dir)
    answers = evaluate(model, crops, FakeRunner())
    for _ in range(20):
        keep_outputs(answers, model, crops, folder)
        found = recall_outputs(model, crops, folder)
        assert found is not None
        assert np.array_equal(found, answers.outputs)


def test_two_processes_keep_the_same_answers(model: Model, tmp_path: Path, folder: Path) -> None:
    images = image_folder(tmp_path / "images", 4, per_class=3, size=40)
    work = (model.path, images, tmp_path / "crops", folder)
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_keep_often, args=work) for _ in range(2)]
    for process in others:
        process.start()
    for process in others:
        process.join(60)
    assert [process.exitcode for process in others] == [0, 0]
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".npz"]
