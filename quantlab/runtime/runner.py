"""Runner: an ONNX Runtime session as a context manager."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from quantlab.errors import ModelError
from quantlab.model.kinds import OutputKind, of_two_classes, output_kinds
from quantlab.model.model import Model, read_proto
from quantlab.runtime.environment import default_threads
from quantlab.runtime.graphs import graph_session
from quantlab.runtime.providers import CPU
from quantlab.runtime.session import Optimization, create_session, plain_errors


class Runner:
    """``with Runner(model) as run: logits = run(batch)``.

    ``model`` is a Model, a path, an onnx.ModelProto or its bytes; ``threads=0`` takes every
    physical core that this process may use; ``output_kind`` is detected where it is not given.
    Raises ModelError when ONNX Runtime refuses the model,
    a provider is unknown, or a batch does not fit.

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
        model: Model | Path | str | bytes | onnx.ModelProto,
        *,
        threads: int = 0,
        inter_threads: int = 1,
        providers: Sequence[str] = CPU,
        optimization: Optimization = "all",
        output_kind: OutputKind | None = None,
    ) -> None:
        self.threads = threads or default_threads()
        self.providers = tuple(providers)
        settings: dict[str, Any] = {
            "threads": self.threads,
            "inter_threads": inter_threads,
            "providers": providers,
            "optimization": optimization,
        }
        self._session: ort.InferenceSession | None = (
            graph_session(model, **settings)
            if isinstance(model, onnx.ModelProto)
            else create_session(_source(model), **settings)
        )
        given = self._session.get_inputs()
        if len(given) != 1:
            names = ", ".join(i.name for i in given) or "none"
            raise ModelError(f"a classifier has one input, this model has {len(given)} ({names}).")
        self.input_name: str = given[0].name
        first = given[0].shape[0] if given[0].shape else None
        self.batch: int | None = first if isinstance(first, int) and first > 0 else None
        self._kind: OutputKind = "logits"
        if list(self._session.get_outputs()[0].shape)[1:] == [1]:
            self._kind = output_kind or _output_kind(model)

    @property
    def session(self) -> ort.InferenceSession:
        """The session itself. Raises ModelError once the runner is closed."""
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
        answers = [self._run(_filled(piece, self.batch))[: len(piece)] for piece in pieces]
        return np.concatenate(answers)

    def _run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        feed = {self.input_name: np.ascontiguousarray(batch)}
        with plain_errors("ONNX Runtime cannot run the model on this batch"):
            answer = np.asarray(self.session.run(None, feed)[0])
        flat = answer.reshape(len(batch), -1).astype(np.float32, copy=False)
        return of_two_classes(flat, self._kind)

    def close(self) -> None:
        """Frees the session; closing twice does nothing."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _output_kind(model: Model | Path | str | bytes | onnx.ModelProto) -> OutputKind:
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


def _filled(piece: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    missing = size - len(piece)
    return np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)]) if missing else piece
