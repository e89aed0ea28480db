from __future__ import annotations

import pytest

from quantlab.errors import QuantlabError
from quantlab.runtime.providers import find_provider, short_name

THERE = ("CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cuda", "CUDAExecutionProvider"),
        ("OpenVINO", "OpenVINOExecutionProvider"),
        ("CPUExecutionProvider", "CPUExecutionProvider"),
        ("cpuexecutionprovider", "CPUExecutionProvider"),
    ],
)
def test_short_and_full_names(name: str, found: str) -> None:
    assert find_provider(name, THERE) == found


def test_an_unknown_one_names_those_there_are() -> None:
    with pytest.raises(QuantlabError, match="no execution provider coreml") as caught:
        find_provider("coreml", THERE)
    assert caught.value.remedy == "Available: cpu, cuda, openvino."
    assert short_name("TensorrtExecutionProvider") == "tensorrt"
