"""Conditions: what two processes must have in common so that they compute the same bits."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from quantlab._util.source import source_digest
from quantlab.errors import ClusterError
from quantlab.runtime.environment import environment, versions

R = TypeVar("R")
_LIBRARIES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "pillow",
    "scipy",
    "opencv-python-headless",
)


@cache
def conditions() -> dict[str, str]:
    """This process's: by name, the versions, quantlab's source and the CPU's instructions; and its
    host, which may differ."""
    facts = environment()
    return {
        "host": socket.gethostname(),
        "quantlab": f"{facts['quantlab']} ({source_digest()[:12]})",
        **versions(_LIBRARIES),
        "CPU instructions": facts["isa"],
    }


def check_alike(here: Mapping[str, str], there: Mapping[str, str]) -> None:
    """Raises ClusterError, naming what differs, for a worker that could compute other bits."""
    names = [n for n in {**here, **there} if n != "host" and here.get(n) != there.get(n)]
    if names:
        differing = ", ".join(f"{n} {there.get(n)} there and {here.get(n)} here" for n in names)
        raise ClusterError(
            f"the worker on {there['host']} is not as this machine: {differing}.",
            "Its answers could differ in their last bits. Install the same, or leave it out.",
        )


def at_worker(asked: Mapping[str, str], function: Callable[..., R], /, *args: Any) -> R:
    """``function(*args)`` on a worker that is as who asks. Raises ClusterError when it is not."""
    check_alike(asked, conditions())
    return function(*args)
