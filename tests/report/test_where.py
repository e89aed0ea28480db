"""Sentences about where int8's answers hold."""

from __future__ import annotations

import pytest

from quantlab.compare.comparison import OtherCpus, Where
from quantlab.report.where import cpus_line, where_line

BOUND = OtherCpus(state="impossible", layers=3)


def where(runtime: str, on: str, cpus: OtherCpus = BOUND) -> Where:
    return Where(runtime=runtime, version="1.2", on=on, cpus=cpus)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (where("onnxruntime", "avx512-vnni"), "Measured in onnxruntime 1.2 on AVX512-VNNI. Other "),
        (where("openvino", "avx2"), "Measured in openvino 1.2 on AVX2. Other CPUs: the same "),
        (where("onnxruntime", "unknown"), "Measured in onnxruntime 1.2. Other CPUs: the same "),
        (where("onnxruntime", "CUDAExecutionProvider"), " 1.2 on CUDAExecutionProvider. Other "),
    ],
)
def test_what_was_measured_where(found: Where, words: str) -> None:
    line = where_line(found)
    assert words in line
    assert line.endswith(".")
    assert "\n" not in line


def test_nothing_is_said_of_answers_without_a_model() -> None:
    assert where_line(None) == ""


def test_what_saturates_is_told_in_full() -> None:
    found = OtherCpus(
        state="saturates", layers=52, at_risk=40, saturating=12, images=8, share=0.000123,
        agreement=0.875, kl=0.12345, sqnr_db=9.04,
    )  # fmt: skip
    words = (
        "not the same without VNNI: agreement 87.5% there (emulated on 8 images), KL 0.1235, "
        "SQNR 9.0 dB: 0.0123% of the 16-bit pair sums overflow, in 12 of 52 u8s8 layers; "
        "quantize with portable: true"
    )
    assert cpus_line(found) == f"{words}, or set session.x64quantprecision to 1 there."
    elsewhere = words.replace("on 8 images", "on 8 images, as in ONNX Runtime")
    assert cpus_line(found, onnx_runtime=False) == f"{elsewhere}."


def test_what_is_not_certain_is_told_with_what_makes_it_so() -> None:
    said = cpus_line(OtherCpus(state="not seen", layers=2, at_risk=1, images=4))
    assert said.startswith("not certain without VNNI: no 16-bit pair sum overflowed on 4 images, ")
    assert "the weights of 1 of 2 u8s8 layers allow it; for certainty quantize with" in said
    said = cpus_line(OtherCpus(state="not emulated", layers=2, at_risk=1))
    assert "the weights of 1 of 2 u8s8 layers allow 16-bit pair sums to overflow" in said
    assert "for certainty quantize with portable: true" in said
    said = cpus_line(OtherCpus(state="unknown"))
    assert said.startswith("not known: ")
    assert said.endswith("; for certainty quantize with portable: true and judge that ONNX file.")
