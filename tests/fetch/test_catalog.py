"""The YAML files of tuning/ and their schema."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from quantlab.errors import RecipeError
from quantlab.fetch import PublishedModel, catalog, published
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
    names = {"efficientnet-lite0", "imagenet-classes", "mobilenetv2-12", "mobilenetv2-12-int8"}
    assert set(catalog()) == names | {"photos"}
    assert list(catalog()) == sorted(catalog())


@pytest.mark.parametrize("entry", catalog().values(), ids=lambda entry: entry.name)
def test_every_entry_is_whole(entry: PublishedModel) -> None:
    assert (tuning_folder() / f"{entry.name}.yaml").is_file()
    assert entry.kind == "model" or entry.pipeline is None
    builders = {s.builder for s in entry.sources if isinstance(s, WheelSource)}
    assert builders <= set(BUILDERS)


def test_published_figures() -> None:
    fp32, int8 = catalog()["mobilenetv2-12"].accuracy, catalog()["mobilenetv2-12-int8"].accuracy
    assert fp32 is not None
    assert int8 is not None
    assert (fp32.top1, fp32.top5) == (69.48, 89.26)
    assert (int8.top1, int8.top5) == (68.30, 88.44)
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
        ({"pipelin": "lite"}, "unknown key pipelin.\nDid you mean pipeline?"),
        ({"recipe": {"formt": "qdq"}}, "unknown key recipe.formt.\nDid you mean format?"),
        ({"accuracy": {"top1": 1, "source": "x", "topp5": 2}}, "Did you mean top5?"),
        ({"criterion": {"max_declin": "1%"}}, "Did you mean max_decline?"),
        ({"criterion": {"max_decline": "much"}}, "criterion.max_decline: String should match"),
        ({"sources": []}, "sources: "),
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
    code = "import sys, quantlab.fetch as f; f.catalog(); print('onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
