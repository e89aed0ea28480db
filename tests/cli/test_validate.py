"""quantlab validate: an evaluation by a configuration."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from quantlab.verbs.validate import validation_part


@pytest.fixture
def config(scene: Any, tmp_path: Path) -> Path:
    path = tmp_path / "mindcv.yaml"
    path.write_text("image_resize: 32\ncrop_pct: 0.875\nckpt_path: ''\nlr: 0.3\n")
    return path


def test_it_is_evaluate_with_the_configurations_preprocessing(
    cli: Any, scene: Any, config: Path
) -> None:
    words = ("--data_dir", scene.data, "--ckpt_path", scene.model)
    said = cli("validate", "-c", config, *words)
    pipeline = said.record.results["pipeline"]
    assert (pipeline["name"], pipeline["resize"], pipeline["crop"]) == ("mindcv", 36, 32)
    same = cli("evaluate", scene.model, "--data", scene.data, "--pipeline", "mindcv")
    assert said.out == same.out


def test_the_validation_part_of_imagenet_is_taken(cli: Any, scene: Any, config: Path) -> None:
    root = scene.folder / "imagenet"
    shutil.copytree(scene.data, root / "val")
    (root / "train").mkdir()
    said = cli("validate", "-c", config, "--data_dir", root, "--ckpt_path", scene.model)
    assert said.record.results["data"]["root"] == str(root / "val")
    (root / "val.txt").touch()
    assert validation_part(root) == root
    assert validation_part(scene.data) == scene.data


def test_quantlabs_own_configuration_will_do(cli: Any, scene: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"model: {scene.model}\neval_data: {scene.data}\npipeline: {scene.pipeline}\n")
    assert cli("validate", "--config", path).out.startswith("Top-1 ")


def test_a_model_is_needed_and_no_checkpoint(cli: Any, scene: Any, config: Path) -> None:
    words = ("--data_dir", scene.data)
    assert cli("validate", "-c", config, *words, code=2).complaint[-1] == (
        "Give --ckpt_path MODEL.onnx."
    )
    said = cli("validate", "-c", config, *words, "--ckpt_path", "m.ckpt", code=2)
    assert "m.ckpt is a checkpoint of MindSpore" in said.complaint[-2]
