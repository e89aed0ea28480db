"""MindCV's YAML as a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from quantlab.compat.mindcv_yaml import is_mindcv, map_mindcv
from quantlab.data.preprocess import PIPELINES, get_pipeline
from quantlab.errors import RecipeError
from quantlab.verbs.config import load_config

TRAINING = """
mode: 0
distribute: True
dataset: imagenet
data_dir: /path/to/imagenet
batch_size: 256
image_resize: 224
scale: [0.08, 1.0]
interpolation: bilinear
crop_pct: 0.875
model: mobilenet_v2_075_224
num_classes: 1000
ckpt_path: ''
scheduler: cosine_decay
"""


def test_a_training_configuration_gives_its_preprocessing(tmp_path: Path) -> None:
    path = tmp_path / "mobilenet.yaml"
    path.write_text(TRAINING)
    config = load_config(path)
    assert (config.model, config.eval_data, config.data) == (None, None, None)
    assert isinstance(config.pipeline, dict)
    assert get_pipeline(config.pipeline).digest == PIPELINES["paddle"].digest
    assert get_pipeline("mindcv").digest == PIPELINES["paddle"].digest


def test_real_paths_are_taken(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    path = tmp_path / "c.yaml"
    path.write_text("crop_pct: 1\nckpt_path: m.onnx\ndata_dir: images\n")
    config = load_config(path)
    assert (config.model, config.eval_data) == (str(tmp_path / "m.onnx"), tmp_path / "images")


@pytest.mark.parametrize(
    ("side", "part", "resize"), [(224, 0.875, 256), (256, 0.9, 284), (160, 1, 160)]
)
def test_the_shorter_side_is_rounded_down(side: int, part: float, resize: int) -> None:
    mapped = map_mindcv({"image_resize": side, "crop_pct": part}, "c.yaml")["pipeline"]
    assert (mapped["resize"], mapped["crop"]) == (resize, side)


def test_which_files_are_mindcvs() -> None:
    assert is_mindcv(yaml.safe_load(TRAINING))
    assert not is_mindcv({"model": "m.onnx", "eval_data": "val"})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"interpolation": "area"}, "interpolation 'area' is not known"),
        ({"crop_pct": 0}, "crop_pct a share of 1"),
        ({"image_resize": "224", "crop_pct": 0.9}, "image_resize must be pixels"),
    ],
)
def test_what_no_pipeline_can_have_is_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        map_mindcv({"crop_pct": 0.875, **wrong}, "c.yaml")
