"""The views of ``quantlab inspect``: what they print, what they draw."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from PIL import Image

from quantlab.evaluate.proxy import Distance
from quantlab.inspect.layers import LayerError, LayerReport
from quantlab.inspect.portability import LayerSaturation, Portability
from quantlab.inspect.sensitivity import GroupCost, Sensitivity
from quantlab.inspect.views import Inspected
from quantlab.report.plots import save_layers, save_sensitivity
from quantlab.report.text import (
    inspected_summary,
    layers_summary,
    portability_summary,
    sensitivity_summary,
)


def saturation(name: str, at_risk: int, saturated: int) -> LayerSaturation:
    return LayerSaturation(
        name=name,
        op_type="QLinearConv",
        weight_pairs=50,
        at_risk=at_risk,
        pair_sums=10_000 if at_risk else 0,
        saturated=saturated,
        sqnr_db=21.5 if saturated else None,
    )


def error(name: str, accumulated: float, drop: float | None, local: float | None) -> LayerError:
    return LayerError(
        tensor=f"{name}_out",
        node=name,
        op_type="Conv",
        accumulated=accumulated,
        local=local,
        drop=drop,
        weight=44.0,
    )


REPORT = LayerReport(
    fp32="net",
    int8="net-int8",
    images=16,
    layers=(
        LayerError(
            tensor="input",
            node="",
            op_type="input",
            accumulated=46.0,
            local=46.0,
            drop=None,
            weight=None,
        ),
        error("Conv_0", 38.0, 8.0, 38.5),
        error("Conv: 1", 12.0, 26.0, 12.1),
    ),
    unmatched=("Relu_9",),
    first_break="Conv: 1_out",
    exclude=("Conv: 1",),
    rescaled=True,
)


def test_portability_shows_the_worst_layers_and_counts_the_rest() -> None:
    layers = [saturation(f"bad{i}", 5, 10 + i) for i in range(12)]
    layers += [saturation("quiet", 2, 0), saturation("safe", 0, 0)]
    found = Portability(
        name="net", images=4, layers=tuple(layers), agreement=0.5, kl=0.1, sqnr_db=9.0
    )
    said = portability_summary(found)
    rows = [line.split(" | ")[0].strip("| ") for line in said.splitlines() if "| bad" in line]
    assert rows == [f"bad{i}" for i in range(11, 1, -1)]
    assert "and 2 more layers" in said
    assert "weights allow saturation, but these images did not cause it: 1" in said
    assert "weights make saturation impossible: 1" in said


def test_portability_without_saturation_is_short() -> None:
    found = Portability(name="net", images=0, layers=(saturation("safe", 0, 0),))
    assert len(portability_summary(found).split("\n\n")) == 2
    assert "|" not in portability_summary(found)


def test_layers_say_everything() -> None:
    said = layers_summary(REPORT)
    assert "First break: Conv: 1 (Conv: 1_out) loses 26.0 dB and leaves 12.0 dB." in said
    assert "Without a counterpart in the int8 file: Relu_9." in said
    assert "equalized" in said
    pasted = yaml.safe_load(said[said.index("exclude:") :])
    assert pasted == {"exclude": ["Conv: 1"]}


def test_layers_without_a_break() -> None:
    update = {"first_break": "", "exclude": (), "unmatched": (), "rescaled": False}
    said = layers_summary(REPORT.model_copy(update=update))
    assert "No tensor breaks" in said
    assert "nothing to exclude" in said
    assert "exclude:" not in said


def group(name: str, alone: float, gain: float) -> GroupCost:
    near = Distance(kl=0.1, sqnr_db=20.5)
    return GroupCost(
        kind="Conv",
        nodes=(name, f"{name}_act"),
        gain=gain,
        left_out=near,
        alone=Distance(kl=alone, sqnr_db=None),
    )


SENSITIVITY = Sensitivity(
    model="net",
    images=64,
    whole=Distance(kl=0.2, sqnr_db=18.0),
    groups=(group("Conv_2", 0.1, 0.08), group("Conv: 1", 0.05, -0.01)),
    exclude=("Conv_2", "Conv_2_act"),
)


def test_sensitivity_ranks_and_gives_a_list_to_paste() -> None:
    said = sensitivity_summary(SENSITIVITY)
    assert "on 64 images: KL 0.20000, SQNR 18.0 dB" in said
    assert "| Conv_2  | Conv_2_act  |   0.10000 |  50.0% |    – |" in said
    assert "-0.01000" in said
    pasted = yaml.safe_load(said[said.index("exclude:") :])
    assert pasted == {"exclude": ["Conv_2", "Conv_2_act"]}


def test_sensitivity_where_nothing_stands_out() -> None:
    said = sensitivity_summary(SENSITIVITY.model_copy(update={"exclude": ()}))
    assert said.endswith("No group stands out: nothing to exclude.")


def test_the_asked_view_is_shown() -> None:
    assert inspected_summary(Inspected(layers=REPORT), scales=False) == layers_summary(REPORT)
    found = Inspected(sensitivity=SENSITIVITY)
    assert inspected_summary(found, scales=False) == sensitivity_summary(SENSITIVITY)


@pytest.mark.parametrize("view", ["layers", "sensitivity"])
def test_the_plots(view: str, tmp_path: Path) -> None:
    if view == "layers":
        save_layers(REPORT, tmp_path / "view.png")
    else:
        save_sensitivity(SENSITIVITY, tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as image:
        assert image.size[0] > 500
        assert len(image.convert("L").getcolors(1000) or []) > 3
