"""Neural Compressor 1.x files, as its users have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from quantlab._util.yamlfile import parse_yaml, validate
from quantlab.compat.inc_yaml import (
    AS_ALWAYS,
    IGNORED,
    Mapped,
    MappedKey,
    is_inc,
    map_inc,
    mapping_table,
)
from quantlab.data.preprocess import PIPELINES, get_pipeline
from quantlab.errors import RecipeError
from quantlab.verbs.config import Config, load

MOBILENET = """
version: 1.0
model:
  name: mobilenetv2
  framework: onnxrt_qlinearops
quantization:
  approach: post_training_static_quant
  calibration:
    sampling_size: 50, 100
    dataloader:
      batch_size: 1
      dataset:
        ImagenetRaw:
          data_path: calib
          image_list: calib/labels.txt
      transform: {Rescale: {}, Resize: {size: 256}, CenterCrop: {size: 224}, Normalize: {
          mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]},
          Transpose: {perm: [2, 0, 1]}, Cast: {dtype: float32}}
  model_wise:
    activation: {algorithm: 'minmax, kl', dtype: [uint8, fp32], granularity: per_tensor}
    weight: {granularity: [per_channel], dtype: int8, scheme: sym, bit: 7.0}
  op_wise: {'Gemm_*': {activation: {dtype: ['fp32']}, weight: {dtype: ['fp32']}}}
evaluation:
  accuracy:
    metric: {topk: 1}
    dataloader:
      batch_size: 32
      dataset: {ImagenetRaw: {data_path: val, image_list: val/labels.txt}}
      transform: {Rescale: null, Resize: {size: 256}, CenterCrop: {size: 224}, Normalize: {
          mean: '0.485 0.456 0.406', std: '0.229, 0.224, 0.225'},
          Transpose: {perm: [2, 0, 1]}, Cast: {dtype: float32}}
  performance:
    warmup: 10
    iteration: 1000
    configs: {cores_per_instance: 4, num_of_instance: 7}
    dataloader: {batch_size: 8, dataset: {dummy: {shape: [8, 3, 224, 224]}}}
tuning:
  strategy: {name: bayesian}
  accuracy_criterion: {relative: 0.02, higher_is_better: True}
  objective: performance
  exit_policy: {timeout: 0, max_trials: 50}
  random_seed: 9527
  workspace: {path: ./work}
"""
RESNET = """
model: {name: resnet50, framework: onnxrt_qdq}
quantization:
  calibration:
    dataloader:
      dataset: {ImagenetRaw: {data_path: /path/to/calibration, image_list: /path/to/labels}}
      transform:
        ResizeCropImagenet: {height: 224, width: 224, mean_value: [0.485, 0.456, 0.406]}
evaluation:
  accuracy:
    metric: {topk: 5}
    dataloader:
      dataset: {ImageFolder: {root: images}}
      transform:
        ResizeCropImagenet: {height: 224, width: 224, mean_value: [0.485, 0.456, 0.406]}
tuning:
  accuracy_criterion: {absolute: '0.5%'}
  exit_policy: {timeout: 3600, performance_only: True}
  strategy: {name: mse}
"""
MLPERF = """
model: {name: resnet50_v1_5, framework: onnxrt_integerops}
device: gpu
quantization:
  approach: post_training_dynamic_quant
  recipes: {first_conv_or_matmul_quantization: False, fast_bias_correction: True}
  model_wise: {activation: {dtype: int8, scheme: sym}, weight: {granularity: per_tensor}}
evaluation:
  accuracy:
    configs: {cores_per_instance: 2, kmp_blocktime: 1}
    dataloader:
      dataset: {Imagenet: {root: data, subset: test}}
      transform:
        AlignImageChannel: {}
        ResizeWithAspectRatio: {height: 224, width: 224}
        CenterCrop: {size: 224}
        RandomHorizontalFlip: {}
        Normalize: {mean: [123.68, 116.78, 103.94]}
    postprocess: {transform: {LabelShift: -1}}
"""
BARE = """
model: {name: alexnet, framework: onnxrt_qdq}
quantization: {approach: post_training_static_quant, quant_level: 1}
evaluation: {accuracy: {metric: {mAP: {anno_path: x}}}}
pruning: {approach: {weight_compression: {target_sparsity: 0.8}}}
tuning: {accuracy_criterion: {relative: 0.01}, strategy: {name: fake}}
"""
ALL = {"mobilenet": MOBILENET, "resnet": RESNET, "mlperf": MLPERF, "bare": BARE}


def mapped(text: str) -> Mapped:
    return map_inc(parse_yaml(text, "x.yaml"), "x.yaml")


def row(result: Mapped, end: str) -> MappedKey:
    (found,) = (r for r in result.rows if r.key.endswith(end))
    return found


def test_mobilenet() -> None:
    assert mapped(MOBILENET).settings == {
        "data": "calib",
        "list": "calib/labels.txt",
        "eval_data": "val",
        "eval_list": "val/labels.txt",
        "pipeline": "inc",
        "criterion": "top1.decline <= 2%",
        "strategy": "tpe",
        "calibration_size": 100,
        "max_trials": 50,
        "seed": 9527,
        "bench": {"threads": 4, "batch_sizes": [8]},
        "search": {
            "format": ["qoperator"],
            "activations": ["u8"],
            "ranges": ["minmax", "entropy"],
            "weights": ["s8"],
            "per_channel": [True],
        },
    }


def test_resnet() -> None:
    result = mapped(RESNET)
    pipeline = get_pipeline(result.settings.pop("pipeline"))
    assert result.settings == {
        "search": {"format": ["qdq"]},
        "data": "images",
        "eval_data": "images",
        "criterion": "top5.decline <= 0.5pp",
        "budget": 3600,
        "strategy": "sensitivity",
    }
    assert (pipeline.resizer, pipeline.resize, pipeline.crop) == ("opencv-bilinear", 256, 224)
    assert pipeline.mean == PIPELINES["torchvision"].mean
    assert pipeline.std == PIPELINES["torchvision"].std
    assert row(result, "ImagenetRaw.data_path").became == IGNORED
    assert "swaps the sides" in row(result, "transform.ResizeCropImagenet").why
    assert row(result, "performance_only").became == IGNORED


def test_mlperf() -> None:
    result = mapped(MLPERF)
    pipeline = get_pipeline(result.settings.pop("pipeline"))
    assert result.settings == {
        "data": "data/test",
        "eval_data": "data/test",
        "threads": 2,
        "search": {"bias_correction": [True], "activations": ["s8"], "per_channel": [False]},
    }
    assert (pipeline.resizer, pipeline.resize, pipeline.crop) == ("pillow-bilinear", 256, 224)
    assert (pipeline.mean, pipeline.std) == ((123.68, 116.78, 103.94), (1, 1, 1))
    assert row(result, "AlignImageChannel").became == AS_ALWAYS
    for end in ("device", "framework", "approach", "scheme", "RandomHorizontalFlip"):
        assert row(result, end).became == IGNORED
    assert "shift the list" in row(result, "postprocess").why


def test_bare() -> None:
    result = mapped(BARE)
    assert result.settings == {"search": {"format": ["qdq"]}, "criterion": "top1.decline <= 1%"}
    assert row(result, "pruning") == MappedKey(
        "pruning",
        "{approach: {weight_compression: {target_spars...",
        IGNORED,
        "quantlab quantizes after training",
    )
    assert row(result, "strategy.name").why == "quantlab has no such strategy: ladder is used"


@pytest.mark.parametrize("name", ALL)
def test_every_key_has_its_row_and_every_setting_is_one_of_ours(name: str, tmp_path: Path) -> None:
    result = mapped(ALL[name])
    told = {r.key for r in result.rows}
    for leaf in leaves(yaml.safe_load(ALL[name])):
        assert any(leaf == key or leaf.startswith(f"{key}.") for key in told), leaf
    assert len(told) == len(result.rows)
    for r in result.rows:
        assert r.became != IGNORED or r.why
    (tmp_path / "inc.yaml").write_text(ALL[name])
    loaded = load(tmp_path / "inc.yaml")
    assert loaded.table == mapping_table(result.rows)
    assert loaded.config.criterion == result.settings.get("criterion", "top1.decline <= 1%")
    if "data" in result.settings:
        assert loaded.config.data == tmp_path / result.settings["data"]


def leaves(value: Any, key: str = "") -> list[str]:
    if not isinstance(value, dict) or not value:
        return [key]
    return [k for name, v in value.items() for k in leaves(v, f"{key}.{name}".lstrip("."))]


@pytest.mark.parametrize(
    ("transforms", "expected"),
    [
        (
            {"Resize": {"size": [256, 300]}, "CenterCrop": {"size": [224]}},
            {"resize": (300, 256), "crop": 224, "std": (1, 1, 1)},
        ),
        (
            {"Resize": {"size": 240, "interpolation": "bicubic"}, "ToTensor": None},
            {"resizer": "pillow-bicubic", "crop": 240, "std": (255, 255, 255)},
        ),
        (
            {"BilinearImagenet": {"height": 224, "width": 224}},
            {"resize": (256, 256), "mean": (127.5,) * 3, "std": (127.5,) * 3},
        ),
        (
            {
                "ResizeCropImagenet": {
                    "height": 224,
                    "width": 224,
                    "mean_value": [103.94, 116.78, 123.68],
                    "scale": 0.017,
                    "subpixels": "BGR",
                }
            },
            {"color": "BGR", "mean": (103.94, 116.78, 123.68), "std": (58.823529,) * 3},
        ),
        (
            {
                "Normalize": {"mean": [127.0], "std": [128.0]},
                "ResizeWithAspectRatio": {"height": 224, "width": 224},
                "CenterCrop": {"size": 224},
            },
            {"resize": 256, "mean": (127,) * 3, "std": (128,) * 3},
        ),
    ],
)
def test_transforms_become_a_pipeline(transforms: dict[str, Any], expected: dict[str, Any]) -> None:
    pipeline = get_pipeline(of_transforms(transforms).settings["pipeline"])
    assert {key: getattr(pipeline, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("transforms", "key", "why"),
    [
        ({"Rescale": {}}, "Rescale", "nothing resizes the image"),
        ({"Resize": {"size": 200}, "CenterCrop": {"size": 224}}, "Resize", "is larger than"),
        ({"Resize": {"size": "big"}}, "Resize", "'big' is not a side in pixels"),
        ({"Resize": {"size": 9, "interpolation": "area"}}, "Resize", "no such interpolation"),
        ({"ResizeWithAspectRatio": {"height": 9, "width": 9}}, "Ratio", "no square is cropped"),
        ({"CenterCrop": {"size": [9, 8]}}, "CenterCrop", "a pipeline crops squares"),
        ({"Normalize": {"mean": [1, 2]}}, "Normalize", "mean is not a number for each"),
        ({"Normalize": {"std": [0.0]}}, "Normalize", "std is not positive"),
        ({"CenterCrop": {"size": 9}, "Resize": {"size": 20}}, "Resize", "resizes once"),
        ({"CropResize": {"x": 0}}, "CropResize", "no pipeline has it"),
    ],
)
def test_other_transforms_are_ignored_with_the_reason(
    transforms: dict[str, Any], key: str, why: str
) -> None:
    result = of_transforms(transforms)
    assert "pipeline" not in result.settings
    found = row(result, key)
    assert found.became == IGNORED
    assert why in found.why


def of_transforms(transforms: dict[str, Any]) -> Mapped:
    data = {
        "evaluation": {"accuracy": {"dataloader": {"transform": transforms}}},
        "tuning": {"random_seed": 1},
    }
    return map_inc(data, "x.yaml")


def test_calibration_that_sees_something_else_is_told() -> None:
    result = mapped(MOBILENET.replace("Resize: {size: 256}", "Resize: {size: 240}", 1))
    found = row(result, "calibration.dataloader.transform")
    assert found.became == IGNORED
    assert found.why.startswith("not the evaluation's")
    assert result.settings["pipeline"] == "inc"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("tuning: {accuracy_criterion: {relative: 2}, random_seed: 1}", "relative"),
        ("tuning: {accuracy_criterion: {relative: much}, random_seed: 1}", "relative"),
        ("tuning: {exit_policy: {timeout: -5}, random_seed: 1}", "timeout"),
        ("tuning: {exit_policy: {max_trials: 0}, random_seed: 1}", "max_trials"),
        ("tuning: {random_seed: 1, bogus: {deep: 1}}", "bogus.deep"),
        ("quantization: 5\ntuning: {random_seed: 1}", "quantization"),
        ("quantization: {calibration: {sampling_size: []}}\ntuning: {random_seed: 1}", "size"),
    ],
)
def test_odd_values_are_ignored_with_the_reason(text: str, key: str) -> None:
    result = mapped(text)
    assert row(result, key).became == IGNORED
    assert row(result, key).why
    assert result.settings == {"seed": 1}


def test_relative_and_absolute_at_once() -> None:
    text = "tuning: {accuracy_criterion: {relative: 0.02, absolute: 0.01}}"
    result = mapped(text)
    assert result.settings == {"criterion": "top1.decline <= 2%"}
    assert row(result, "absolute").became == IGNORED


def test_only_such_files_are_recognized() -> None:
    assert not is_inc({"model": "m.onnx", "data": "x"})
    assert is_inc({"model": {"name": "m", "framework": "pytorch"}})
    assert is_inc({"tuning": {}})


def test_a_file_of_which_nothing_can_be_used_is_refused() -> None:
    with pytest.raises(RecipeError, match="nothing in this Neural Compressor file can be used"):
        mapped("model: {name: m, framework: tensorflow}\npruning: {train: {}}\n")


def test_the_table_is_whole_markdown() -> None:
    lines = mapping_table(
        (MappedKey("a|b", "x\ny", IGNORED, "why"), MappedKey("c", "", AS_ALWAYS))
    ).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert "a\\|b" in lines[2]
    assert "x y" in lines[2]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS | st.sampled_from(["0.5 0.5 0.5", "int8, fp32", "per_channel", "/path/to/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[dict[str, Any], str]]:
    """Every key of a mapping and of those in it, with its owner."""
    if not isinstance(value, dict):
        return []
    return [place for key, inner in value.items() for place in ((value, key), *places(inner))]


@given(st.sampled_from(sorted(ALL)), st.integers(0, 999), ANYTHING)
def test_no_odd_value_anywhere_is_an_accident(name: str, place: int, odd: Any) -> None:
    data = yaml.safe_load(ALL[name])
    owner, key = places(data)[place % len(places(data))]
    owner[key] = odd
    try:
        result = map_inc(data, "x.yaml")
    except RecipeError:
        return
    validate(Config, result.settings, "x.yaml")
    mapping_table(result.rows)
