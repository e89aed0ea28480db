"""Execution providers by short names: ``cuda`` is ``CUDAExecutionProvider``."""

from __future__ import annotations

from collections.abc import Sequence

from quantlab.errors import QuantlabError

CPU = ("CPUExecutionProvider",)
_SUFFIX = "ExecutionProvider"


def short_name(provider: str) -> str:
    """``openvino`` for ``OpenVINOExecutionProvider``."""
    return provider.removesuffix(_SUFFIX).lower()


def providers_of(name: str | None) -> tuple[str, ...]:
    """Those of a session: the one of this name, else the CPU. Raises QuantlabError."""
    if name is None:
        return CPU
    import onnxruntime

    return (find_provider(name, onnxruntime.get_available_providers()),)


def find_provider(name: str, available: Sequence[str]) -> str:
    """The one of ONNX Runtime's ``available`` providers that a short or full name means.

    Raises QuantlabError, naming those there are.
    """
    wanted = short_name(name.lower().removesuffix(_SUFFIX.lower()))
    for provider in available:
        if short_name(provider) == wanted:
            return provider
    raise QuantlabError(
        f"this ONNX Runtime has no execution provider {name}.",
        f"Available: {', '.join(sorted(map(short_name, available)))}.",
    )
