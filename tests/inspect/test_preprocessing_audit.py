"""The audit of preprocessing: what is tried, what is told apart, and how often that is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quantlab.data.preprocess import PIPELINES, Pipeline, get_pipeline
from quantlab.inspect.preprocessing_audit import (
    Audit,
    audit,
    candidates,
    normalizations,
    swapped,
    values_of,
)
from quantlab.model.model import InputSpec
from quantlab.stats.paired import paired_difference, wilson

SPEC = InputSpec("input", "NCHW", "float32", 224, 224, None)
BYTES = replace(SPEC, dtype="uint8")
TORCH = PIPELINES["torchvision"]


def audited(right: list[list[bool]], **options: object) -> Audit:
    """The audit of pipelines that are right on these images; the label is always 1."""
    names = [*PIPELINES, *(f"{name} in x" for name in PIPELINES)]
    pipelines = [TORCH.model_copy(update={"name": names[i]}) for i in range(len(right))]
    answers = [np.array(row, np.int64) for row in right]
    labels = np.ones(len(right[0]), np.int64)
    return audit("net", SPEC, pipelines, answers, labels, **options)  # type: ignore[arg-type]


def test_candidates_are_the_standard_ones_each_with_both_colour_orders() -> None:
    tried, left_out = candidates(get_pipeline("caffe"), SPEC)
    assert [p.name for p in tried[:9]] == [
        "caffe", "torchvision", "timm-bicubic", "tf", "lite", "inc", "paddle", "mxnet", "caffe2",
    ]  # fmt: skip
    assert [p.name for p in tried[9:11]] == ["caffe in RGB", "torchvision in BGR"]
    assert (len(tried), left_out) == (16, {})


def test_nothing_is_swapped_into_what_a_standard_one_is() -> None:
    names = {p.name for p in candidates(TORCH, SPEC)[0]}
    assert {"paddle", "caffe2", "mxnet in BGR", "inc in BGR"} <= names
    assert not {"paddle in BGR", "caffe2 in RGB"} & names


def test_candidates_have_the_size_of_the_input_and_share_their_crops() -> None:
    tried, _ = candidates(TORCH.sized(227), replace(SPEC, height=227, width=227))
    assert {p.crop for p in tried} == {227}
    assert len({p.crop_digest for p in tried}) == 4


def test_a_model_that_normalizes_itself_is_tried_on_geometry_and_colours_only() -> None:
    tried, left_out = candidates(TORCH, BYTES)
    assert [(p.resizer, p.color) for p in tried].count(("pillow-bilinear", "BGR")) == 1
    assert len(tried) == 8
    assert left_out["tf"] == "the same pixels as torchvision"


def test_what_cannot_be_cut_to_size_is_left_out_with_the_reason() -> None:
    large = replace(SPEC, height=4000, width=4000)
    tried, left_out = candidates(TORCH.model_copy(update={"name": "mine"}), large)
    assert {p.name for p in tried} == {"mine", "mine in BGR"}
    assert set(left_out) == set(PIPELINES)
    tried, _ = candidates(TORCH.sized((64, 160)), replace(SPEC, height=64, width=160))
    assert {p.shape for p in tried} == {(64, 160)}


def test_a_pipeline_of_ones_own_is_tried_under_a_name_of_its_own() -> None:
    own = TORCH.model_copy(update={"mean": (1.0, 2.0, 3.0)})
    names = [p.name for p in candidates(own, SPEC)[0]]
    assert names[0] == "own torchvision"
    assert len(set(names)) == len(names) == 18
    tiny = PIPELINES["tf"].model_copy(update={"name": "tiny"})
    tried, left_out = candidates(tiny, SPEC)
    assert (tried[0].name, left_out) == ("tiny", {"tf": "the same pixels as tiny"})


def test_swapping_leaves_the_numbers_where_they_are() -> None:
    other = swapped(TORCH)
    assert (other.color, other.mean, other.std) == ("BGR", TORCH.mean, TORCH.std)
    assert other.crop_digest == TORCH.crop_digest
    assert swapped(other).color == "RGB"


@pytest.mark.parametrize(
    ("name", "spec", "values"),
    [
        ("torchvision", SPEC, "ImageNet mean/std"),
        ("inc", SPEC, "ImageNet mean/std"),
        ("tf", SPEC, "−1 to 1"),
        ("lite", SPEC, "−1 to 1"),
        ("caffe", SPEC, "minus 104,117,123"),
        ("caffe2", SPEC, "ImageNet mean/std"),
        ("mxnet", SPEC, "minus 124,117,104"),
        ("caffe", BYTES, "raw pixels"),
    ],
)
def test_values_in_words(name: str, spec: InputSpec, values: str) -> None:
    assert values_of(PIPELINES[name], spec) == values


def test_normalizations_keep_the_geometry() -> None:
    ways = normalizations(PIPELINES["inc"], SPEC)
    assert [p.name for p in ways] == ["inc", "tf", "caffe", "mxnet", "caffe2"]
    assert {p.crop_digest for p in ways} == {PIPELINES["inc"].crop_digest}
    assert [p.color for p in normalizations(TORCH, BYTES)] == ["RGB", "BGR"]
    own = Pipeline.model_validate({**TORCH.model_dump(), "std": (1, 1, 1)})
    assert values_of(own, SPEC) == "minus 123.675,116.28,103.53, by 1,1,1"
    assert [p.name for p in normalizations(own, SPEC)][:2] == ["own torchvision", "torchvision"]


def test_the_figures_are_those_of_the_paired_statistics() -> None:
    found = audited([[True] * 60 + [False] * 40, [True] * 70 + [False] * 30])
    best, other = found.tried
    assert (best.name, other.name, found.of_chosen) == ("timm-bicubic", "torchvision", other)
    assert (best.behind, other.behind) == (0.0, 0.1)
    assert other.top1.interval == wilson(60, 100)
    assert other.interval == paired_difference(10, 0, 100)
    assert other.surely_worse
    assert (found.group, found.wrong) == ((best,), (other,))


def test_more_pipelines_need_more_evidence() -> None:
    rows = [[True] * 60 + [False] * 40, [True] * 66 + [False] * 34]
    assert audited(rows).wrong
    assert not audited([*rows, *[rows[0]] * 10]).wrong


def test_of_equals_the_chosen_one_is_named_first() -> None:
    assert audited([[True, False]] * 3).best.name == "torchvision"


def test_settled_when_only_the_geometry_is_open() -> None:
    found = audited([[True, True], [True, True]])
    assert found.settled
    other = found.tried[1].model_copy(update={"color": "BGR"})
    assert not found.model_copy(update={"tried": (found.best, other)}).settled


def test_a_published_figure_fits_whose_interval_holds_it() -> None:
    rows = [[True] * 80 + [False] * 20, [True] * 50 + [False] * 50]
    assert [x.name for x in audited(rows, published=0.52).fitting] == ["timm-bicubic"]
    assert audited(rows, published=0.01).fitting == audited(rows).fitting == ()


def test_one_pipeline_is_in_its_own_group() -> None:
    found = audited([[True, False, False]])
    assert (found.group, found.wrong, found.settled) == (found.tried, (), True)


def test_the_truly_best_pipeline_is_seldom_called_wrong() -> None:
    """The oracle: twelve pipelines of which the first is best by a hair, drawn 400 times."""
    rng, missed = np.random.default_rng(0), 0
    for _ in range(400):
        easy = rng.random(200) < 0.5
        rows = [(easy | (rng.random(200) < (0.42 if i == 0 else 0.4))).tolist() for i in range(12)]
        missed += audited(rows).of_chosen.surely_worse
    assert missed / 400 <= 0.05
