"""The gate on real models: 1,800 ImageNet validation images at a decline of 1%."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantlab.compare.comparison import ClassChange
from quantlab.compare.origin import origin_of
from quantlab.evaluate.predictions import Predictions
from quantlab.testing import blind_model

pytestmark = [pytest.mark.data, pytest.mark.usefixtures("no_plots")]
BLIND = {0, 217}
"""Tench and English springer: classes with some fifty images here."""


@pytest.fixture(autouse=True)
def _shared_cache(shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops and answers that the tests of this file share, in whichever process they run."""
    monkeypatch.setenv("QUANTLAB_CACHE", str(shared_folder / "real-gate"))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def images(data_root: Path, tmp_path: Path) -> tuple[str, ...]:
    """The options that name both validation sets as one."""
    folder, lines = tmp_path / "images", []
    folder.mkdir()
    for name in ("val1300", "imagenette500"):
        source = data_root / "imagenet" / name
        (folder / name).symlink_to(source / "val")
        lines += [f"{name}/{line}\n" for line in (source / "val.txt").read_text().splitlines()]
    (folder / "val.txt").write_text("".join(lines))
    synsets = data_root / "imagenet" / "synset_words.txt"
    return ("--data", str(folder), "--synsets", str(synsets))


@pytest.fixture
def fp32(data_root: Path) -> Path:
    return data_root / "models" / "mobilenetv2-12.onnx"


@pytest.fixture
def zoo(data_root: Path) -> Path:
    return data_root / "models" / "mobilenetv2-12-int8.onnx"


def decline(said: Any) -> dict[str, Any]:
    """The verdict on top-1, which must fit its own interval."""
    found: dict[str, Any] = said.record.results["gate"]["judged"][0]["verdict"]
    low, high = found["interval"]["low"], found["interval"]["high"]
    assert low <= found["measured"] <= high
    sides = {"pass": high <= 0.01, "fail": low > 0.01, "inconclusive": low <= 0.01 < high}
    assert sides[found["status"]]
    assert said.record.results["data"]["images"] == 1800
    return found


def test_the_zoos_int8(cli: Any, fp32: Path, zoo: Path, images: Any) -> None:
    """It answers 8% of the images otherwise; whether 1,800 decide depends on the CPU's int8."""
    said = cli("gate", fp32, zoo, *images, "--require", "top1.decline <= 1%", code=None)
    found = decline(said)
    assert said.code == {"pass": 0, "fail": 1, "inconclusive": 3}[found["status"]]
    assert found["status"] != "inconclusive" or found["images_needed"] > 1800
    assert 0.005 < found["smallest_decline"] < 0.03
    right: list[float] = []
    for kind in ("fp32", "int8"):
        answers = Predictions.load(said.folder / f"{kind}-predictions.npz")
        known = np.array([name.startswith("val1300/") for name in answers.names])
        assert answers.labels is not None
        assert known.sum() == 1300
        right.append(float((answers.top(1)[:, 0] == answers.labels)[known].mean()))
    assert round(100 * right[0], 2) == 79.69
    assert 0.77 < right[1] < 0.80


def test_quantlabs_int8(
    cli: Any, fp32: Path, zoo: Path, images: Any, data_root: Path, tmp_path: Path
) -> None:
    """Nearer to fp32 than the zoo's: fewer answers change, and the interval is narrower."""
    calibration = data_root / "imagenet" / "calib1000"
    sample = tmp_path / "sample"
    sample.mkdir()
    for folder in sorted(calibration.iterdir())[::50]:
        (sample / folder.name).symlink_to(folder)
    output = tmp_path / "int8.onnx"
    synsets = images[2:]
    cli("quantize", "--model", fp32, "--data", sample, *synsets, "--output", output)
    rules = ("--require", "top1.decline <= 1%", "--require", "agreement >= 93%")
    said = cli("gate", fp32, output, *images, *rules, code=None)
    assert said.code in (0, 3)
    found = decline(said)
    assert said.record.results["gate"]["judged"][1]["verdict"]["status"] == "pass"
    others = decline(cli("gate", fp32, zoo, *images, code=None))
    widths = [v["interval"]["high"] - v["interval"]["low"] for v in (found, others)]
    assert widths[0] < widths[1]


def test_a_broken_int8_and_its_classes(
    cli: Any, fp32: Path, zoo: Path, images: Any, tmp_path: Path
) -> None:
    broken = blind_model(zoo, tmp_path / "broken.onnx", sorted(BLIND))
    rules = ("--require", "top1.decline <= 1%", "--require", "class.decline <= 10pp")
    said = cli("gate", fp32, broken, *images, *rules, "--junit", "j.xml", code=1)
    assert decline(said)["status"] == "fail"
    gate = said.record.results["gate"]
    classes = [ClassChange.model_validate(c) for c in gate["judged"][1]["verdict"]["classes"]]
    assert {c.index for c in classes} == {c["index"] for c in gate["fell"]} == BLIND
    assert all(c.int8_right == 0 and c.lost == c.fp32_right for c in classes)
    assert gate["rose"] == []
    assert "0 tench (" in said.out
    assert 'name="217 English springer' in Path("j.xml").read_text()


def test_int8_against_itself_and_its_baseline(cli: Any, zoo: Path, images: Any) -> None:
    assert cli("gate", zoo, zoo, *images).out.startswith("PASS")
    cli("baseline", "update", zoo, *images)
    assert Path("quantlab-baseline.npz").stat().st_size < 8_000_000
    said = cli("gate", zoo, "--baseline", "quantlab-baseline.yaml", *images)
    found = said.record.results["gate"]["judged"][0]["verdict"]
    assert (found["status"], found["measured"], found["unchanged"]) == ("pass", 0.0, True)


@pytest.fixture
def some(data_root: Path) -> Callable[[int], tuple[object, ...]]:
    """The options of the first validation images."""
    folder = data_root / "imagenet" / "val1300"

    def first(count: int) -> tuple[object, ...]:
        lines = (folder / "val.txt").read_text().splitlines(keepends=True)[:count]
        Path("some.txt").write_text("".join(lines))
        return ("--data", folder, "--list", "some.txt")

    return first


@pytest.mark.parametrize("count", [20, 300])
def test_an_unchanged_model_passes_at_once(cli: Any, fp32: Path, some: Any, count: int) -> None:
    assert cli("gate", fp32, fp32, *some(count)).out.startswith("PASS")
    proto = onnx.load(fp32)
    proto.producer_name = "another"
    onnx.save(proto, "copy.onnx")
    said = cli("gate", fp32, "copy.onnx", *some(count))
    assert f"Every output of int8 is fp32's on all {count} images" in said.out


def test_a_model_through_another_preprocessing_judges_nothing(
    cli: Any, data_root: Path, some: Any
) -> None:
    model = data_root / "models" / "squeezenet1.1-caffe.onnx"
    words = (*some(200), "--pipeline", "torchvision")
    said = cli("gate", model, model, *words, "--require", "kl <= 0.02", code=2)
    assert "squeezenet1.1-caffe is right on 0 of 200 images" in said.err
    assert "minus 104,117,123 in BGR (as caffe)" in said.err
    assert "Give --pipeline caffe; quantlab inspect " in said.err
    assert "no better than guessing" in cli("evaluate", model, *words).warnings[0]


def test_other_and_exchanged_models(
    cli: Any, fp32: Path, zoo: Path, data_root: Path, some: Any
) -> None:
    other = data_root / "models" / "mobilenetv1-tf.onnx"
    said = cli("compare", fp32, other, *some(200), "--no-bench", code=2)
    assert (
        "mobilenetv1-tf.onnx is another network than mobilenetv2-12.onnx: it holds 0%" in said.err
    )
    said = cli("compare", zoo, fp32, *some(200), code=2)
    assert f"Exchange the two: quantlab compare {fp32} {zoo} --data " in said.err


def test_weights_are_found_in_the_zoos_int8(fp32: Path, zoo: Path, data_root: Path) -> None:
    whole = onnx.load(fp32).graph
    assert origin_of(whole, onnx.load(zoo).graph).kept > 0.99
    others = ("mobilenetv1-tf", "st-mobilenetv2-int8-nhwc-uint8", "squeezenet1.1-caffe")
    for name in others:
        assert origin_of(whole, onnx.load(data_root / "models" / f"{name}.onnx").graph).kept < 0.02
