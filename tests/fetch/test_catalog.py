"""The YAML files of tuning/ and their schema."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from quantlab.data.preprocess import ALIASES, PIPELINES
from quantlab.errors import RecipeError
from quantlab.fetch import PROJECTS, PublishedModel, catalog, published
from quantlab.fetch.builders import BUILDERS
from quantlab.fetch.catalog import UrlSource, WheelSource, parse_entry, tuning_folder

ENTRY = """
name: tiny
description: a tiny model
licence: MIT
file: tiny.onnx
pipeline: torchvision
sources:
  - url: https://example.org/tiny.onnx
    sha256: {digest}
    size: 10
  - package: tiny
    version: 1.0
    wheel: tiny-1.0-py3-none-any.whl
    sha256: {digest}
    size: 20
    member: tiny/weights.pth
    builder: mobilenet-v2
    built_sha256: {built}
""".format(digest="a" * 64, built="b" * 64)


def test_the_house_knows_these() -> None:
    others = {e.name for e in catalog().values() if e.project is None}
    assert others == {"efficientnet-lite0", "imagenet-classes", "photos"}
    assert list(catalog()) == sorted(catalog())


@pytest.mark.parametrize(
    ("project", "names"),
    [
        ("onnx-zoo", ["10", "12", "12-int8", "12-qdq", "7"]),
        ("mxnet", ["a16w16", "a16w8", "mxnet-mobilenetv2-1.0", "mxnet-mobilenetv2-1.4"]),
        ("caffe2", ["caffe2-mobilenetv2", "caffe2-mobilenetv2-int8"]),
        ("mindcv", ["mindcv-mobilenetv2-075", "mindcv-mobilenetv2-075-910v2"]),
        (
            "npu-zoo",
            ["keras", "mmcls", "ppcls-ssld", "ppcls-x0_25", "ppcls-x0_5", "ppcls-x0_75",
             "ppcls-x1_0", "ppcls-x1_5", "ppcls-x2_0", "timm", "torchvision"],
        ),
    ],
)  # fmt: skip
def test_every_project_has_its_recipes(project: str, names: list[str]) -> None:
    prefix = {"onnx-zoo": "mobilenetv2-", "npu-zoo": "npu-"}.get(project, "")
    found = [e.name for e in catalog().values() if e.project == project]
    assert found == [prefix + name for name in names]
    assert project in PROJECTS


def test_recipes_point_at_models_that_are_known() -> None:
    for entry in catalog().values():
        for other in filter(None, (entry.same_as, entry.made_from)):
            assert catalog()[other].kind == "model"
            assert not catalog()[other].same_as
            assert catalog()[other].pipeline == entry.pipeline
        assert entry.kind != "model" or entry.pipeline in {*PIPELINES, *ALIASES}
        assert bool(entry.way) == (not entry.sources and entry.same_as is None)


def test_the_npus_recipes_calibrate_on_every_class() -> None:
    for entry in catalog().values():
        if entry.project == "npu-zoo":
            assert entry.recipe is not None
            assert (entry.recipe.ranges, entry.recipe.range_search) == ("percentile", False)
            assert (entry.recipe.images_per_class, entry.recipe.calibration_size) == (1, None)


def test_int16_recipes() -> None:
    kinds = {n: catalog()[n].recipe for n in ("a16w16", "a16w8")}
    assert {n: r and (r.activations, r.weights) for n, r in kinds.items()} == {
        "a16w16": ("s16", "s16"),
        "a16w8": ("s16", "s8"),
    }


@pytest.mark.parametrize("entry", catalog().values(), ids=lambda entry: entry.name)
def test_every_entry_is_whole(entry: PublishedModel) -> None:
    assert (tuning_folder() / f"{entry.name}.yaml").is_file()
    assert entry.kind == "model" or entry.pipeline is None
    builders = {s.builder for s in entry.sources if isinstance(s, WheelSource)}
    assert builders <= set(BUILDERS)


def test_published_figures() -> None:
    fp32, int8 = (catalog()[f"mobilenetv2-12{x}"].published for x in ("", "-int8"))
    assert fp32 is not None
    assert int8 is not None
    assert (fp32.top1, fp32.top5) == (69.48, 89.26)
    assert fp32.top1 is not None
    assert (int8.top1, int8.top5) == (68.30, 88.44)
    declines = [100 * (1 - i / f) for i, f in ((68.30, fp32.top1), (88.44, 89.26))]
    assert (int8.top1_decline, int8.top5_decline) == pytest.approx(declines, abs=0.005)
    assert catalog()["efficientnet-lite0"].pipeline == "lite"


def test_sources_are_told_apart() -> None:
    entry = parse_entry(ENTRY.replace("1.0\n", "'1.0'\n"), "tiny.yaml")
    assert [type(s) for s in entry.sources] == [UrlSource, WheelSource]
    assert entry.promised == ("a" * 64, "b" * 64)
    assert entry.matches("b" * 64)
    assert not entry.matches("c" * 64)


def test_an_entry_survives_its_own_json() -> None:
    for entry in catalog().values():
        assert PublishedModel.model_validate(entry.model_dump()) == entry
        assert PublishedModel.model_validate(entry.model_dump(mode="json")) == entry


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"project": "onnx"}, "there is no project 'onnx', but onnx-zoo, mxnet"),
        ({"pipelin": "lite"}, "unknown key pipelin.\nDid you mean pipeline?"),
        ({"recipe": {"formt": "qdq"}}, "unknown key recipe.formt.\nDid you mean format?"),
        ({"published": {"top1": 1, "source": "x", "topp5": 2}}, "Did you mean top5?"),
        ({"criterion": {"max_declin": "1%"}}, "Did you mean max_decline?"),
        ({"criterion": {"max_decline": "much"}}, "criterion.max_decline: String should match"),
        ({"sources": []}, "give sources; a model without any: same_as, made_from or export"),
        ({"sources": [], "kind": "labels", "export": "x"}, "give sources"),
        ({"sources": [], "made_from": "other"}, "what is made_from another model names the recipe"),
        ({"sources": [{"url": "http://example.org/x"}]}, "sources.0.url.url: "),
        ({"sources": [{"package": "tiny", "versin": "1"}]}, "Did you mean version?"),
        ({"file": "../../tiny.onnx"}, "file: String should match"),
        ({"pipeline": None}, "a model names its pipeline"),
        ({"zzz": 1}, "unknown key zzz.\nKnown keys: name, kind, "),
    ],
)
def test_wrong_entries_say_what_is_right(wrong: dict[str, object], right: str) -> None:
    text = yaml.safe_dump({**yaml.safe_load(ENTRY.replace("1.0\n", "'1.0'\n")), **wrong})
    with pytest.raises(RecipeError, match=r"^tiny\.yaml: ") as error:
        parse_entry(text, "tiny.yaml")
    assert right in str(error.value)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "name: *x\n"])
def test_what_is_not_a_mapping_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"tiny\.yaml"):
        parse_entry(text, "tiny.yaml")


def test_a_name_or_a_file_name_will_do() -> None:
    assert published("mobilenetv2-12.onnx") is published("mobilenetv2-12")
    with pytest.raises(RecipeError, match="'mobilenet-12'") as error:
        published("mobilenet-12")
    assert "Did you mean mobilenetv2-12" in error.value.remedy


def test_the_catalog_needs_no_onnx() -> None:
    code = "import sys; from quantlab.fetch import catalog; catalog(); print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
