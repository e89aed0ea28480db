"""quantlab predict: single images, named classes, errors that name the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from quantlab.data.preprocess import get_pipeline
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner
from quantlab.testing import image_folder, photo, tiny_classifier


@pytest.fixture
def images(scene: Any) -> list[Path]:
    return [scene.data / "0" / "000.png", scene.data / "3" / "001.png"]


@pytest.fixture
def synsets(tmp_path: Path) -> Path:
    path = tmp_path / "synsets.txt"
    path.write_text("".join(f"n{i:08d} thing {i}, item\n" for i in range(10)))
    return path


def expected(scene: Any, image: Path) -> np.ndarray:  # type: ignore[type-arg]
    """The model's probabilities, by another way."""
    from PIL import Image

    model, pipeline = Model.load(scene.model), get_pipeline(scene.pipeline)
    with Image.open(image) as opened, Runner(model, threads=1) as run:
        crop = pipeline.crop_image(opened.convert("RGB"))
        return softmax(run(pipeline.to_input(crop[None], model.input))[0].astype(np.float64))


def test_the_best_classes_of_each_image(
    cli: Any, scene: Any, images: list[Path], parsed: Any
) -> None:
    said = cli("predict", scene.model, *images, *scene.words[2:], "--top", "3", "--json")
    answers = parsed(said)["results"]["answers"]
    assert [a["image"] for a in answers] == [str(i) for i in images]
    for found, image in zip(answers, images, strict=True):
        chances = expected(scene, image)
        order = np.argsort(-chances)[:3].tolist()
        assert [g["index"] for g in found["guesses"]] == order
        assert [g["probability"] for g in found["guesses"]] == pytest.approx(chances[order])


def test_classes_are_named_by_the_list_that_is_given(
    cli: Any, scene: Any, images: list[Path], synsets: Path
) -> None:
    said = cli("predict", scene.model, images[0], *scene.words[2:], "--synsets", synsets)
    assert said.out.count("| thing ") == 5
    assert "item" not in said.out
    other = scene.folder / "few.txt"
    other.write_text("n00000001 one\n")
    refused = cli("predict", scene.model, images[0], "--synsets", other, code=2)
    assert "few.txt names 1 classes, the model has 10." in refused.err


@pytest.mark.parametrize("place", ["above", "QUANTLAB_DATA"])
def test_classes_are_named_by_the_list_that_is_found(
    place: str,
    cli: Any,
    scene: Any,
    images: list[Path],
    synsets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = scene.data / "synset_words.txt"
    if place == "QUANTLAB_DATA":
        target = tmp_path / "elsewhere" / "imagenet" / "synset_words.txt"
        monkeypatch.setenv("QUANTLAB_DATA", str(tmp_path / "elsewhere"))
        target.parent.mkdir(parents=True)
    synsets.rename(target)
    said = cli("predict", scene.model, images[0], *scene.words[2:])
    assert said.out.count("| thing ") == 5


def test_a_list_of_other_classes_is_passed_over(cli: Any, scene: Any, images: list[Path]) -> None:
    (scene.data / "synset_words.txt").write_text("n00000001 one\n")
    said = cli("predict", scene.model, images[0], *scene.words[2:], "--top", "1")
    assert " one " not in said.out


def test_probabilities_are_not_softmaxed_again(
    cli: Any, scene: Any, images: list[Path], parsed: Any
) -> None:
    plain = tiny_classifier(scene.folder / "plain.onnx")
    soft = tiny_classifier(scene.folder / "soft.onnx", softmax=True)
    line = (images[0], *scene.words[2:], "--json")
    first, second = (
        parsed(cli("predict", m, *line))["results"]["answers"][0]["guesses"] for m in (plain, soft)
    )
    assert [g["index"] for g in first] == [g["index"] for g in second]
    for a, b in zip(first, second, strict=True):
        assert a["probability"] == pytest.approx(b["probability"], rel=1e-4)


@pytest.mark.parametrize("parts", [{"batch": 3}, {"layout": "NHWC", "dtype": "uint8"}])
def test_any_kind_of_model(parts: Any, cli: Any, scene: Any, images: list[Path]) -> None:
    model = tiny_classifier(scene.folder / "kind.onnx", **parts)
    assert "%" in cli("predict", model, *images, *scene.words[2:]).out


def test_what_cannot_be_read_is_named(cli: Any, scene: Any, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no image")
    long = tmp_path / "long.png"
    photo(size=(30_000, 1)).save(long)
    for bad, reason in (
        (text, "not an image of a known format."),
        (tmp_path / "none.png", "cannot be read: no such file or directory."),
        (scene.data, "cannot be read: is a directory."),
        (long, "too elongated to be resized."),
    ):
        said = cli("predict", scene.model, bad, *scene.words[2:], code=2)
        assert said.complaint[0].startswith(f"Error: {bad}: ")
        assert said.complaint[0].endswith(reason)


@pytest.mark.data
def test_the_real_model_knows_its_classes(
    cli: Any, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTLAB_DATA", str(data_root))
    folder = data_root / "imagenet" / "val1300" / "val"
    said = cli(
        "predict", data_root / "models" / "mobilenetv2-12.onnx",
        folder / "ILSVRC2012_val_00000347.JPEG", "--top", "1",
    )  # fmt: skip
    assert "canoe" in said.out


def test_images_of_many_folders(cli: Any, scene: Any, tmp_path: Path) -> None:
    more = image_folder(tmp_path / "more", 2, per_class=1)
    said = cli("predict", scene.model, more / "0" / "000.png", more / "1" / "000.png", "--top", 1,
               *scene.words[2:])  # fmt: skip
    assert said.out.count("000.png") == 2
