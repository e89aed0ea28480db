"""Create ONNX Runtime sessions with every setting explicit.

Imports little of the project: benchmark processes stay small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from quantlab.errors import ModelError
from quantlab.runtime.providers import CPU

Optimization = Literal["all", "layout", "extended", "basic", "disabled"]
_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "layout": "ORT_ENABLE_LAYOUT",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
_BESIDE = "session.optimized_model_external_initializers"
_VALUES: WeakKeyDictionary[ort.InferenceSession, list[ort.OrtValue]] = WeakKeyDictionary()
"""Weights given beside a model are not copied: they have to be there as long as the session."""
_FATAL = 4
"""Nothing below it is logged: what goes wrong is an exception, and said once."""
_ERRORS = tuple(
    found
    for name in dir(_state)
    if isinstance(found := getattr(_state, name), type) and issubclass(found, Exception)
)


def create_session(
    source: Path | bytes,
    *,
    threads: int,
    inter_threads: int = 1,
    providers: Sequence[str] = CPU,
    optimization: Optimization = "all",
    optimized_path: Path | None = None,
    profile: Path | None = None,
    weights: Mapping[str, NDArray[Any]] | None = None,
) -> ort.InferenceSession:
    """A session over a model file, or over a serialized model, whose ``weights`` may be given
    beside it by name.

    ``threads`` compute one operator, ``inter_threads`` run operators side by side (more than 1
    switches to parallel execution); both at least 1. ``optimized_path`` is where ONNX Runtime
    writes the graph that it will run, large weights in a file beside it; ``profile`` how the file
    begins in which it keeps the time of every node (``end_profiling`` names it).

    Raises ModelError for a model or settings that ONNX Runtime refuses, naming the providers
    there are when one is unknown.
    """
    check_providers(providers)
    options = _options(threads, inter_threads, optimization)
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
        beside = {"file_name": f"{optimized_path.name}.weights", "min_size_in_bytes": str(2**20)}
        for key, value in beside.items():
            options.add_session_config_entry(f"{_BESIDE}_{key}", value)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    if weights:
        values = [ort.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        options.add_external_initializers(list(weights), values)
        options.add_session_config_entry("session.disable_prepacking", "1")  # a second copy
    model = source if isinstance(source, bytes) else str(source)
    name = "the model" if isinstance(source, bytes) else str(source)
    with plain_errors(f"ONNX Runtime cannot load {name}"):
        session = ort.InferenceSession(model, options, providers=list(providers))
    if weights:
        _VALUES[session] = values
    return session


def _options(threads: int, inter_threads: int, optimization: Optimization) -> ort.SessionOptions:
    if threads < 1 or inter_threads < 1:
        raise ModelError(f"threads must be at least 1, not {min(threads, inter_threads)}.")
    if optimization not in get_args(Optimization):
        names = ", ".join(get_args(Optimization))
        raise ModelError(f"no optimization level is called {optimization!r}.", f"Levels: {names}.")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = inter_threads
    if inter_threads > 1:
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[optimization])
    options.log_severity_level = _FATAL
    return options


def check_providers(providers: Sequence[str]) -> None:
    """Raises ModelError, naming the available ones, when ONNX Runtime lacks a provider."""
    available = ort.get_available_providers()
    unknown = [p for p in providers if p not in available]
    if unknown or not providers:
        wanted = ", ".join(unknown) or "none"
        raise ModelError(
            f"this ONNX Runtime has no execution provider {wanted}.",
            f"Available: {', '.join(available)}.",
        )


@contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Turns ONNX Runtime's exceptions into one ModelError line: what was tried, and why not."""
    try:
        yield
    except _ERRORS as error:
        raise ModelError(f"{doing}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """``[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : reason`` without what a person cannot use."""
    text = " ".join(str(error).split())
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    return text.removesuffix(".")[:300] + "."
