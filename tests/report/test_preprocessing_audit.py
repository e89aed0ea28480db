"""An audit in words: what is right, what wrong costs, what is not settled."""

from __future__ import annotations

import numpy as np

from quantlab.data.preprocess import PIPELINES, Pipeline
from quantlab.inspect.preprocessing_audit import Audit, audit, swapped
from quantlab.model.model import InputSpec
from quantlab.report.preprocessing_audit import audit_summary, quick_warning

SPEC = InputSpec("input", "NCHW", "float32", 224, 224, None)
TORCH, BICUBIC, TF = (PIPELINES[name] for name in ("torchvision", "timm-bicubic", "tf"))


def audited(right: dict[Pipeline, int], published: float | None = None, n: int = 400) -> Audit:
    """Pipelines that are right on the first so many of ``n`` images."""
    answers = [(np.arange(n) < count).astype(np.int64) for count in right.values()]
    return audit(
        "net", SPEC, list(right), answers, np.ones(n, np.int64),
        left_out={"inc": "needs OpenCV."}, published=published,
    )  # fmt: skip


CLEAR = {TORCH: 320, BICUBIC: 322, TF: 280, swapped(TORCH): 240}


def test_the_right_one_is_named_with_what_the_others_cost() -> None:
    said = audit_summary(audited(CLEAR))
    assert said.startswith("net through 4 pipelines on the same 400 images\n")
    for part in (
        "\nTrained for ImageNet mean/std in RGB: timm-bicubic and torchvision cannot be told",
        "\nOf the wrong ones tf costs least, 10.50 points (",
        "\ntorchvision in BGR costs most, 20.50 points (",
        "\nquantlab would take torchvision, which is right.",
        "\nLeft out: inc: needs OpenCV.",
        "| torchvision        | ImageNet mean/std in RGB | 80.00% | 75.8 to 83.6 |    0.5 |  -",
        "|   best |",
    ):
        assert part in said, said
    assert max(map(len, said.splitlines())) <= 98


def test_a_wrong_choice_comes_with_the_remedy() -> None:
    said = audit_summary(audited({TF: 200, TORCH: 320}))
    assert "Trained for ImageNet mean/std in RGB: torchvision." in said
    assert "quantlab would take tf, which is WRONG and costs 30.00 points (" in said
    assert "):\ngive --pipeline torchvision." in said
    swap = audit_summary(audited({TF: 200, swapped(TORCH): 320}))
    assert "give --pipeline a YAML file: torchvision with color: BGR." in swap


def test_what_is_not_settled_is_said_so() -> None:
    said = audit_summary(audited({TORCH: 11, TF: 12}, n=20))
    assert "Most likely trained for −1 to 1 in RGB (tf), but not settled on 20 images:" in said
    assert ":\ntf and torchvision cannot be told apart. More images (--images) tell more." in said
    assert "quantlab would take torchvision, which may be right." in said
    assert "costs" not in said


def test_a_published_figure() -> None:
    assert "The published 81.00% fits timm-bicubic (" in audit_summary(audited(CLEAR, 0.81))
    low = audit_summary(audited(CLEAR, 0.70))
    assert "The published 70.00% is below what timm-bicubic gives here (" in low
    assert "It fits tf: it was scored so, or on other images than these." in low
    assert "fits no other pipeline" in audit_summary(audited(CLEAR, 0.2))
    assert "is above what" in audit_summary(audited(CLEAR, 0.99))


def test_the_warning_of_tune_is_two_lines() -> None:
    lines = quick_warning(audited({TF: 280, TORCH: 320})).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("The pipeline tf seems wrong for net: on 400 images ")
    assert "top-1 is 70.0%, with ImageNet mean/std in RGB (as torchvision) 80.0%, " in lines[0]
    assert lines[1].startswith("Better give --pipeline torchvision; ")
