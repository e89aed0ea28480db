from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from quantlab.data.preprocess import ALIASES, PIPELINES, Pipeline, get_pipeline, opencv_version
from quantlab.errors import DataError, MissingExtraError, RecipeError
from quantlab.model.model import InputSpec
from quantlab.testing import photo, pixels

FIELDS: dict[str, Any] = {
    "resizer": "pillow-bilinear",
    "resize": 48,
    "crop": 32,
    "mean": [1, 2, 3],
    "std": [4, 5, 6],
}


def spec(layout: Any = "NCHW", dtype: str = "float32", size: int = 32) -> InputSpec:
    return InputSpec("input", layout, dtype, size, size, None)


def torchvision_crop(image: Image.Image) -> NDArray[np.uint8]:
    """Resize(256) and CenterCrop(224) of torchvision 0.20, restated."""
    w, h = image.size
    size = (256, int(256 * h / w)) if w < h else (int(256 * w / h), 256)
    image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    return np.asarray(image.crop((left, top, left + 224, top + 224)), np.uint8)


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 500), st.integers(20, 500))
def test_torchvision_is_torchvisions(width: int, height: int) -> None:
    image = photo(1, size=(width, height))
    crop = get_pipeline("torchvision").crop_image(image)
    assert crop.dtype == np.uint8
    assert crop.shape == (224, 224, 3)
    assert crop.transpose(2, 0, 1).flags.c_contiguous
    assert np.array_equal(crop, torchvision_crop(image))


SIDES = st.one_of(st.integers(20, 640), st.sampled_from([48, 64, 224, 227, 256, 375, 500, 512]))


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(SIDES, SIDES),
    st.sampled_from(["bilinear", "bicubic"]),
    st.sampled_from([(256, 224), (48, 32), (64, 64), (235, 224), ([64, 96], [64, 32])]),
)
def test_a_crop_is_cut_from_the_whole_resized_image(
    size: tuple[int, int], method: str, sides: tuple[Any, Any]
) -> None:
    """The pixels are equal where only a part of the image was resized as well."""
    noise = np.random.default_rng(size).integers(0, 256, (*size[::-1], 3), np.uint8)
    image = Image.fromarray(noise)
    fields = {"resizer": f"pillow-{method}", "resize": sides[0], "crop": sides[1]}
    pipeline = Pipeline.model_validate({**FIELDS, **fields})
    width, height = pipeline._resized(*size)
    whole = image.resize((width, height), Image.Resampling[method.upper()])
    tall, wide = pipeline.shape
    left, top = round((width - wide) / 2), round((height - tall) / 2)
    expected = np.asarray(whole.crop((left, top, left + wide, top + tall)))
    assert np.array_equal(pipeline.crop_image(image), expected)


@pytest.mark.parametrize(
    ("size", "side", "resized"),
    [
        ((500, 375), 224, (341, 224)),
        ((375, 500), 224, (224, 341)),
        ((227, 227), 224, (224, 224)),
        ((600, 400), 224, (224, 224)),
        ((500, 375), 192, (292, 219)),
        ((320, 240), 224, (341, 256)),
        ((256, 341), 224, None),
    ],
)
def test_only_what_the_crop_needs_is_resized_where_that_is_exact(
    size: tuple[int, int],
    side: int,
    resized: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resized to 256, a pixel begins at a binary fraction of one of the source, to 219 not; 320 x
    240 would have its height resized before its width if it were resized in part."""
    image, asked, resize = photo(size=size), list[tuple[int, int]](), Image.Image.resize

    def spy(image: Image.Image, size: tuple[int, int], *rest: Any) -> Image.Image:
        asked.append(size)
        return resize(image, size, *rest)

    monkeypatch.setattr(Image.Image, "resize", spy)
    get_pipeline("torchvision", side).crop_image(image)
    assert asked == ([resized] if resized else [])


@pytest.mark.data
def test_torchvision_is_the_judges_on_all_validation_images(data_root: Path) -> None:
    folder = data_root / "imagenet/val1300"
    names = [line.split()[0] for line in (folder / "val.txt").read_text().splitlines()]
    pipeline = get_pipeline("torchvision")
    for name in names:
        image = Image.open(folder / "val" / name).convert("RGB")
        assert np.array_equal(pipeline.crop_image(image), torchvision_crop(image)), name
    assert len(names) == 1300


def test_bicubic_differs_from_bilinear() -> None:
    image = photo(1, size=(300, 200))
    bilinear, bicubic = (
        get_pipeline(name).crop_image(image) for name in ("torchvision", "timm-bicubic")
    )
    assert not np.array_equal(bilinear, bicubic)
    assert np.array_equal(bicubic, get_pipeline("lite").crop_image(image))


def test_inc_is_opencvs_straight_resize_then_central_crop() -> None:
    cv2 = pytest.importorskip("cv2")
    image = photo(1, size=(301, 199))
    resized = cv2.resize(np.asarray(image), (256, 256), interpolation=cv2.INTER_LINEAR)
    crop = get_pipeline("inc").crop_image(image)
    assert np.array_equal(crop, resized[16:240, 16:240])
    assert not np.array_equal(crop, get_pipeline("torchvision").crop_image(image))


def test_straight_resize_takes_height_then_width() -> None:
    pipeline = get_pipeline({**FIELDS, "resize": [40, 80], "crop": 40})
    image = photo(1, size=100)
    expected = np.asarray(image.resize((80, 40), Image.Resampling.BILINEAR))[:, 20:60]
    assert np.array_equal(pipeline.crop_image(image), expected)


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_cv2(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cv2":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(builtins, "__import__", no_cv2)
    with pytest.raises(MissingExtraError, match=r"pip install 'quantlab\[opencv\]'"):
        get_pipeline("inc").crop_image(photo())
    with pytest.raises(MissingExtraError, match="opencv-python-headless"):
        opencv_version()


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_a_sliver_does_not_take_all_memory(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"{size[0]} x {size[1]} is too elongated"):
        get_pipeline("torchvision").crop_image(photo(size=size))


def test_tiny_images_are_enlarged() -> None:
    assert get_pipeline("torchvision").crop_image(photo(size=(1, 1))).shape == (224, 224, 3)


def test_normalize_torchvision() -> None:
    crops = np.stack([pixels(1, 0, 8)])
    mean, std = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
    result = get_pipeline("torchvision").normalize(crops)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert np.allclose(result, (crops - mean) / std, atol=1e-6)


def test_normalize_tf_and_lite() -> None:
    crops = np.array([0, 127, 255], np.uint8).reshape(1, 1, 1, 3)
    assert np.allclose(get_pipeline("tf").normalize(crops), [-1, 127 / 127.5 - 1, 1])
    assert np.allclose(get_pipeline("lite").normalize(crops), [-127 / 128, 0, 1])


def test_caffe_is_bgr_and_its_mean_too() -> None:
    red = np.array([255, 1, 2], np.uint8).reshape(1, 1, 1, 3)
    assert get_pipeline("caffe").normalize(red).tolist() == [[[[2 - 104, 1 - 117, 255 - 123]]]]


def test_caffe2_is_imagenets_mean_and_std_in_bgr() -> None:
    red = np.array([255, 0, 0], np.uint8).reshape(1, 1, 1, 3)
    rgb = get_pipeline("torchvision").normalize(red)
    assert np.array_equal(get_pipeline("caffe2").normalize(red), rgb[..., ::-1])


def test_mxnet_subtracts_a_mean_and_scales_by_one() -> None:
    grey = np.full((1, 1, 1, 3), 200, np.uint8)
    found = get_pipeline("mxnet").normalize(grey).ravel()
    assert np.allclose(found, [200 - 123.68, 200 - 116.78, 200 - 103.94])


def test_other_frameworks_names_are_pipelines() -> None:
    assert {name: get_pipeline(name).name for name in ALIASES} == ALIASES
    assert get_pipeline("keras", 192) == get_pipeline("tf", 192)
    assert not ALIASES.keys() & PIPELINES.keys()
    with pytest.raises(RecipeError, match="Did you mean keras"):
        get_pipeline("kears")


@pytest.mark.parametrize("name", PIPELINES)
def test_to_input_is_normalize_in_the_models_layout(name: str) -> None:
    pipeline = get_pipeline(name, 32)
    crops = np.stack([pixels(i, 0, 32) for i in range(3)])
    normalized = pipeline.normalize(crops)
    nhwc = pipeline.to_input(crops, spec("NHWC"))
    nchw = pipeline.to_input(crops, spec("NCHW"))
    assert (nhwc.shape, nchw.shape) == ((3, 32, 32, 3), (3, 3, 32, 32))
    assert np.array_equal(nhwc, normalized)
    assert np.array_equal(nchw, normalized.transpose(0, 3, 1, 2))
    assert nchw.flags.c_contiguous
    assert nhwc.flags.c_contiguous


def test_uint8_models_get_raw_pixels() -> None:
    crops = np.stack([pixels(1, 0, 32)])
    raw = get_pipeline("tf", 32).to_input(crops, spec("NHWC", "uint8"))
    assert raw.dtype == np.uint8
    assert np.array_equal(raw, crops)
    swapped = get_pipeline("caffe", 32).to_input(crops, spec("NCHW", "uint8"))
    assert np.array_equal(swapped, crops[..., ::-1].transpose(0, 3, 1, 2))


def test_crops_must_fit_the_model() -> None:
    with pytest.raises(RecipeError, match=r"tf gives 32 x 32 pixels.*takes 227 x 227"):
        get_pipeline("tf").to_input(np.zeros((1, 32, 32, 3), np.uint8), spec(size=227))


@pytest.mark.parametrize(
    ("name", "size", "resize", "crop"),
    [
        ("caffe", 227, 256, 227),
        ("torchvision", 224, 256, 224),
        ("torchvision", 256, 256, 256),
        ("torchvision", 299, 342, 299),
        ("torchvision", 192, 219, 192),
        ("inc", 448, (512, 512), 448),
        ("inc", 240, (256, 256), 240),
    ],
)
def test_pipelines_adapt_to_the_models_size(
    name: str, size: int, resize: int | tuple[int, int], crop: int
) -> None:
    pipeline = get_pipeline(name, size)
    assert (pipeline.resize, pipeline.crop, pipeline.name) == (resize, crop, name)


@given(st.sampled_from(sorted(PIPELINES)), st.integers(1, 3000))
def test_every_size_gives_a_valid_pipeline(name: str, size: int) -> None:
    pipeline = get_pipeline(name, size)
    assert pipeline.crop == size
    assert Pipeline.model_validate(pipeline.model_dump()) == pipeline


def test_digests() -> None:
    torchvision, tf, timm = (PIPELINES[n] for n in ("torchvision", "tf", "timm-bicubic"))
    assert len({p.digest for p in PIPELINES.values()}) == len(PIPELINES)
    assert torchvision.crop_digest == tf.crop_digest
    assert torchvision.crop_digest != timm.crop_digest
    assert torchvision.digest == torchvision.model_copy(update={"name": "mine"}).digest
    assert torchvision.digest != torchvision.model_copy(update={"version": 2}).digest


def test_the_definition_is_in_the_dump() -> None:
    assert get_pipeline("caffe", 227).model_dump(mode="json") == {
        "name": "caffe",
        "version": 1,
        "resizer": "pillow-bilinear",
        "resize": 256,
        "crop": 227,
        "color": "BGR",
        "mean": [104.0, 117.0, 123.0],
        "std": [1.0, 1.0, 1.0],
    }


def test_from_a_mapping_and_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "resizer: pillow-bilinear\nresize: 48\ncrop: 32\nmean: [1, 2, 3]\nstd: [4, 5, 6]\n"
    )
    pipeline = get_pipeline(FIELDS)
    assert get_pipeline(path) == get_pipeline(str(path)) == pipeline
    assert (pipeline.name, pipeline.color) == ("custom", "RGB")
    assert get_pipeline(pipeline, 48).crop == 48


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resiser": "x"}, "unknown key resiser.\nDid you mean resizer"),
        ({"crop": 49}, r"the crop \(49\) is larger than its source \(48\)"),
        ({"std": [1, 0, 1]}, "std.1: .*greater than 0"),
        ({"mean": [1, 2]}, "mean"),
        ({"resizer": "nearest"}, "resizer: .*'pillow-bilinear'"),
        (
            {"resize": 100_000},
            r"resize: must be one side or \[height, width\], each from 1 to 4096",
        ),
        ({"resize": "big"}, "resize: must be one side"),
        ({"resize": [48]}, "resize: must be one side"),
        ({"resize": [48, 48, 48]}, "resize: must be one side"),
        ({"mean": [float("nan"), 0, 0]}, "mean.0: .*finite"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        get_pipeline({**FIELDS, **change})


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"no pipeline 'torchvison'.\nDid you mean torchvision"):
        get_pipeline("torchvison")
    with pytest.raises(RecipeError, match=r"none\.yaml: no such file"):
        get_pipeline("none.yaml")
    with pytest.raises(RecipeError, match="Known: torchvision, timm-bicubic, tf, caffe, lite, inc"):
        get_pipeline("")


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "float64"])
def test_inputs_give_their_pixels_back(name: str, layout: Any, dtype: str) -> None:
    pipeline = get_pipeline(name, 16)
    crops = np.arange(16 * 16 * 3).reshape(1, 16, 16, 3).astype(np.uint8)
    given = "uint8" if dtype == "uint8" else "float32"
    batch = pipeline.to_input(crops, spec(layout, given, size=16)).astype(dtype)
    for array in (batch, batch[0]):
        assert np.array_equal(pipeline.from_input(array), crops[0])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 8), np.float32), r"\[3, 8, 8\] is not an input of 16 x 16"),
        (np.zeros((2, 3, 16, 16), np.float32), r"\[2, 3, 16, 16\] is not an input"),
        (np.zeros((16, 16), np.float32), r"\[16, 16\] is not an input"),
        (np.zeros((3, 16, 16), np.int64), "an input of int64, neither floats nor uint8"),
        (np.full((3, 16, 16), 0.003, np.float32), "not an input that the pipeline tf gives"),
        (np.full((3, 16, 16), 1.1, np.float32), "not an input that the pipeline tf gives"),
        (np.full((3, 16, 16), np.nan, np.float32), "not an input that the pipeline tf gives"),
        (np.full((3, 16, 16), np.inf, np.float32), "not an input that the pipeline tf gives"),
    ],
)
def test_arrays_that_are_no_inputs(array: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        get_pipeline("tf", 16).from_input(array)


def test_a_crop_that_is_no_square() -> None:
    pipeline = get_pipeline(
        {**dict(get_pipeline("torchvision")), "resize": (70, 170), "crop": [64, 160]}
    )
    image = photo(300, 200)
    crop = pipeline.crop_image(image)
    expected = np.asarray(image.resize((170, 70), Image.Resampling.BILINEAR))[3:67, 5:165]
    np.testing.assert_array_equal(crop, expected)
    assert pipeline.shape == (64, 160)
    spec = InputSpec("x", "NCHW", "float32", 64, 160, None)
    given = pipeline.to_input(crop[None], spec)
    np.testing.assert_array_equal(pipeline.from_input(given), crop)


@pytest.mark.parametrize("crop", [[65, 10], [10, 161], [64, 160, 3], [64, 0], [64.0, 160]])
def test_a_crop_larger_than_its_source_or_no_size_is_refused(crop: list[float]) -> None:
    fields = {**dict(get_pipeline("torchvision")), "resize": (64, 160), "crop": crop}
    with pytest.raises(RecipeError, match="crop"):
        get_pipeline(fields)


def test_a_pipeline_for_another_shape_resizes_straight_to_it() -> None:
    """As much is cut off on each side as of a square: a margin of 32 pixels of 256."""
    found = get_pipeline("torchvision", size=(128, 64))
    assert (found.crop, found.resize) == ((128, 64), (146, 73))
    assert found.sized((256, 128)).resize == (292, 146)
    assert found.sized(224).crop == 224
