"""Targets at the command line: quantize and tune for one, and inspect any file by its rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import ValidationError

import quantlab
from quantlab import Recipe
from quantlab.cli import main
from quantlab.errors import RecipeError
from quantlab.model.model import Model
from quantlab.targets import TARGETS
from quantlab.testing import example_images, example_model
from quantlab.testing.images import image_folder
from quantlab.testing.models import taught, tiny_classifier


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image_folder(tmp_path / "train", 4, 3)
    taught(tiny_classifier(tmp_path / "fp32.onnx", classes=4), tmp_path / "train", "torchvision")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def quantized(*options: str, output: str = "int8.onnx") -> Result:
    images = ("--data", "train", "--pipeline", "torchvision", "--quiet")
    return run("quantize", "--model", "fp32.onnx", *images, "--output", output, *options)


@pytest.mark.usefixtures("scene")
def test_what_is_made_for_a_target_passes_its_inspection() -> None:
    assert quantized("--target", "tensorrt").exit_code == 0
    stamped = json.loads(Model.load(Path("int8.onnx")).metadata["quantlab.recipe"])
    assert (stamped["target"], stamped["activations"]) == ("tensorrt", "s8")
    passed = run("inspect", "int8.onnx", "--target", "tensorrt", "--quiet")
    assert passed.exit_code == 0
    assert passed.output.startswith("PASS: int8 for target tensorrt: none of its 14 rules")
    assert "by rule: nothing was run there; NVIDIA TensorRT" in passed.output


@pytest.mark.usefixtures("scene")
def test_every_breach_is_listed_with_its_remedy() -> None:
    assert quantized().exit_code == 0
    failed = run("inspect", "int8.onnx", "--target", "tensorrt", "--quiet")
    assert failed.exit_code == 1
    assert failed.output.startswith("FAIL: int8 for target tensorrt: ")
    assert "symmetric-activations (" in failed.output
    assert ": quantize with symmetric: true\n" in failed.output
    assert "the zero point of quantlab/" in failed.output
    told = run("inspect", "int8.onnx", "--target", "tensorrt", "--json")
    assert told.exit_code == 1
    result = json.loads(told.stdout)["results"]
    assert not result["passed"]
    assert {*result["breaches"][0]} == {"rule", "node", "problem", "remedy"}
    places = {(b["rule"], b["node"]) for b in result["breaches"]}
    assert {rule for rule, _ in places} >= {"activation-types", "symmetric-activations"}


@pytest.mark.usefixtures("scene")
def test_an_unknown_target_names_the_nearest() -> None:
    for found in (
        quantized("--target", "tensort"),
        run("inspect", "fp32.onnx", "--target", "tensort"),
    ):
        assert found.exit_code == 2
        assert "Error: no target is called 'tensort'.\nDid you mean tensorrt? " in found.output


@pytest.mark.usefixtures("scene")
def test_a_float_model_is_not_inspected_for_a_target() -> None:
    found = run("inspect", "fp32.onnx", "--target", "x86")
    assert found.exit_code == 2
    assert "fp32.onnx is not quantized" in found.output


@pytest.mark.usefixtures("scene")
def test_a_recipe_that_contradicts_the_target_names_both() -> None:
    Path("mine.yaml").write_text("name: mine\nactivations: u8\n")
    found = quantized("--recipe", "mine.yaml", "--target", "tensorrt")
    assert found.exit_code == 2
    assert "Error: recipe mine: target: tensorrt contradicts activations: u8.\n" in found.output
    assert "With this target activations is s8: leave activations out" in found.output


@pytest.mark.usefixtures("scene")
def test_a_recipe_file_whose_target_there_is_not_names_the_nearest() -> None:
    Path("mine.yaml").write_text("name: mine\ntarget: qn\n")
    found = quantized("--recipe", "mine.yaml")
    assert found.exit_code == 2
    assert "Error: mine.yaml: no target is called 'qn'.\nDid you mean qnn? " in found.output


@pytest.mark.usefixtures("scene")
def test_a_file_for_x86_is_the_one_without_a_target() -> None:
    assert quantized().exit_code == quantized("--target", "x86", output="x86.onnx").exit_code == 0
    assert Path("int8.onnx").read_bytes() == Path("x86.onnx").read_bytes()


@pytest.mark.usefixtures("scene")
def test_tune_tries_what_suits_the_target() -> None:
    Path("quantlab.yaml").write_text("target: openvino\n")
    images = ("--data", "train", "--eval-data", "train", "--allow-overlap", "--max-decline", "90%")
    options = ("--pipeline", "torchvision", "--no-bench", "--max-trials", "2", "--no-audit")
    found = run(
        "tune", "--model", "fp32.onnx", *images, *options, "--output", "best.onnx", "--json"
    )
    assert found.exit_code == 0, found.output
    tried = [t["recipe"] for t in json.loads(found.stdout)["results"]["trials"]]
    assert {(r["target"], r["placement"], r["format"]) for r in tried} == {
        ("openvino", "widest", "qdq")
    }
    assert TARGETS["openvino"].breaches(Model.load(Path("best.onnx")).proto()) == ()


def test_the_library_takes_targets_too() -> None:
    made = quantlab.quantize(
        example_model(), example_images(), target="tflite", pipeline="torchvision"
    )
    report = quantlab.inspect(made, view="target", target="tflite")
    assert report.passed
    assert not quantlab.inspect(made, view="target", target="x86").passed


def test_a_recipe_takes_what_the_target_decides_as_defaults() -> None:
    recipe = Recipe(target="qnn", activations="u16")
    assert (recipe.activations, recipe.bias, recipe.ranges) == ("u16", "int32", "minmax")
    assert recipe.given == {"target": "qnn", "activations": "u16"}
    assert Recipe.model_validate(recipe.model_dump()) == recipe
    with pytest.raises(RecipeError, match="target: tflite contradicts activations: u16"):
        recipe.aimed_at("tflite")
    assert recipe.aimed_at("widest").bias == "auto"


def test_recipes_without_a_target_keep_their_digests() -> None:
    assert Recipe().digest == Recipe(target="x86").digest == "093dfec2f838"
    assert "target" not in Recipe(portable=False).model_dump()
    assert Recipe(engine="ort").portable is False
    assert Recipe(engine="ort").aimed_at("x86").portable is True
    with pytest.raises(ValidationError, match="target: x86 contradicts portable: false"):
        Recipe(target="x86", portable=False)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_whole(name: str) -> None:
    target = TARGETS[name]
    assert target.name == name
    assert target.documents
    assert all(document.url.startswith("https://") for document in target.documents)
    assert len({rule.name for rule in target.rules}) == len(target.rules)
    made = Recipe(target=name)
    assert all(getattr(made, key) in values for key, values in target.allows.items())
    page = Path(__file__).parents[2] / "docs" / "targets.md"
    assert all(f"| `{rule.name}` |" in page.read_text() for rule in target.rules)
    assert all(document.url in page.read_text() for document in target.documents)
