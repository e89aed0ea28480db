"""Runner: a model loaded by one of the runtimes, as a context manager."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from quantlab.errors import ModelError
from quantlab.model.ir import is_ir
from quantlab.model.kinds import ONNX_RUNTIME, OutputKind, RuntimeName, of_two_classes, output_kinds
from quantlab.model.model import Model, TensorInfo, read_proto
from quantlab.runtime.batches import filled
from quantlab.runtime.environment import default_threads
from quantlab.runtime.graphs import graph_session
from quantlab.runtime.openvino import OpenVinoSession
from quantlab.runtime.providers import CPU
from quantlab.runtime.session import Optimization, create_session, plain_errors

ModelSource = Model | Path | str | bytes | onnx.ModelProto


class Session(Protocol):
    """A model loaded by one runtime; threads may call ``run`` at the same time."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    def run(self, batch: NDArray[np.generic]) -> NDArray[Any]:
        """The judged output for one batch. Raises ModelError when the batch does not fit."""


class OnnxRuntimeSession:
    """A model that ONNX Runtime runs."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self.session = session
        self.inputs = tuple(map(_tensor_info, session.get_inputs()))
        self.outputs = tuple(map(_tensor_info, session.get_outputs()))

    def run(self, batch: NDArray[np.generic]) -> NDArray[Any]:
        """See Session."""
        with plain_errors("ONNX Runtime cannot run the model on this batch"):
            return np.asarray(self.session.run(None, {self.inputs[0].name: batch})[0])


class Runner:
    """``with Runner(model) as run: logits = run(batch)``.

    ``model`` is a Model, a path, an onnx.ModelProto or its bytes; ``threads=0`` takes every
    physical core that this process may use; ``output_kind`` is detected where it is not given.
    ``runtime`` is by default the Model's own; ``inter_threads``, ``providers`` and ``optimization``
    are ONNX Runtime's, ``streams`` (calls computed at the same time) OpenVINO's.
    Raises ModelError when the runtime refuses the model,
    a provider is unknown, or a batch does not fit; MissingExtraError without OpenVINO.

    Examples:
        >>> import numpy as np
        >>> from quantlab import Runner
        >>> from quantlab.testing import example_model
        >>> model = example_model()
        >>> with Runner(model, threads=1) as run:
        ...     run(np.zeros((2, 3, 32, 32), np.float32)).shape
        (2, 4)
    """

    def __init__(
        self,
        model: ModelSource,
        *,
        threads: int = 0,
        inter_threads: int = 1,
        providers: Sequence[str] = CPU,
        optimization: Optimization = "all",
        output_kind: OutputKind | None = None,
        runtime: RuntimeName | None = None,
        streams: int = 1,
    ) -> None:
        self.threads = threads or default_threads()
        self.providers = tuple(providers)
        if isinstance(model, str | Path) and is_ir(Path(model)):
            model = Model.load(model)
        if isinstance(model, Model):
            model = model.with_overrides(runtime=runtime)
            runtime = model.runtime
        self._session: Session | None
        if runtime in (None, ONNX_RUNTIME):
            settings: dict[str, Any] = {
                "threads": self.threads,
                "inter_threads": inter_threads,
                "providers": providers,
                "optimization": optimization,
            }
            self._session = OnnxRuntimeSession(
                graph_session(model, **settings)
                if isinstance(model, onnx.ModelProto)
                else create_session(_source(model), **settings)
            )
        else:
            self._session = OpenVinoSession(
                model.SerializeToString() if isinstance(model, onnx.ModelProto) else _source(model),
                threads=self.threads,
                streams=streams,
                output=model.judged_index if isinstance(model, Model) and model.is_ir else 0,
            )
        given = self._session.inputs
        if len(given) != 1:
            names = ", ".join(i.name for i in given) or "none"
            raise ModelError(f"a classifier has one input, this model has {len(given)} ({names}).")
        self.batch: int | None = given[0].shape[0] if given[0].shape else None
        self._kind: OutputKind = "logits"
        if self._session.outputs[0].shape[1:] == (1,):
            self._kind = output_kind or _output_kind(model)

    @property
    def session(self) -> Session:
        """What runs it. Raises ModelError once the runner is closed."""
        if self._session is None:
            raise ModelError("this runner is closed.", "Use it inside its with block.")
        return self._session

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """The model's first output, float32 [n, classes], for inputs of any number n ≥ 1. One
        number an image becomes the answers of two classes (see ``of_two_classes``).

        A model with a fixed batch size b is run on b inputs at a time (the last piece is filled up
        with copies of its last input, and their answers dropped). Raises ModelError.
        """
        if self.batch is None or len(batch) == self.batch:
            return self._run(batch)
        pieces = [batch[i : i + self.batch] for i in range(0, len(batch), self.batch)]
        answers = [self._run(filled(piece, self.batch))[: len(piece)] for piece in pieces]
        return np.concatenate(answers)

    def _run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        answer: NDArray[Any] = self.session.run(np.ascontiguousarray(batch))
        flat = answer.reshape(len(batch), -1).astype(np.float32, copy=False)
        return of_two_classes(flat, self._kind)

    def close(self) -> None:
        """Frees the session; closing twice does nothing."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _tensor_info(value: ort.NodeArg) -> TensorInfo:
    shape = tuple(d if isinstance(d, int) and d > 0 else None for d in value.shape or ())
    return TensorInfo(value.name, value.type, shape)


def _output_kind(model: ModelSource) -> OutputKind:
    """What the first output gives."""
    if isinstance(model, Model):
        return model.output_kind
    proto: onnx.ModelProto
    if isinstance(model, bytes):
        proto = onnx.ModelProto.FromString(model)
    else:
        proto = model if isinstance(model, onnx.ModelProto) else read_proto(Path(model))
    return next(iter(output_kinds(proto.graph)), "logits")


def _source(model: Model | Path | str | bytes) -> Path | bytes:
    if isinstance(model, Model):
        return model.runnable
    return model if isinstance(model, bytes) else Path(model)
