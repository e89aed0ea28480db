"""Running an engine in a process of its own: a crash or a hang costs one trial, not a tune."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.errors import QuantizeError, QuantlabError
from quantlab.model import Model
from quantlab.quantize.protocol import Calibration, Engine
from quantlab.recipe import Recipe

TIMEOUT = 1800.0
"""Seconds after which an engine is given up."""


class IsolatedEngine:
    """An engine that ``factory`` makes in a fresh process for every model.

    ``factory`` is a picklable callable without arguments. The process is killed with the call:
    after ``timeout`` seconds, or when the engine is done.
    """

    def __init__(
        self, name: str, factory: Callable[[], Engine], *, timeout: float = TIMEOUT
    ) -> None:
        self.name = name
        self._factory = factory
        self._timeout = timeout

    def quantize(self, model: Model, recipe: Recipe, calibration: Calibration) -> onnx.ModelProto:
        """See Engine.quantize. Raises QuantizeError when the engine fails, dies or hangs."""
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        try:
            answer = pool.submit(
                _quantize, self._factory, model, recipe, _Batches(list(calibration))
            ).result(self._timeout)
        except TimeoutError:
            raise QuantizeError(
                f"the engine {self.name} did not finish in {self._timeout:.0f} s and was stopped."
            ) from None
        except BrokenProcessPool:
            raise QuantizeError(f"the engine {self.name} crashed its process.") from None
        finally:
            for process in list(pool._processes.values()):
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(answer, str):
            raise QuantizeError(answer)
        return onnx.load_from_string(answer)


@dataclass(frozen=True)
class _Batches:
    batches: list[NDArray[np.generic]]

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.batches)

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        return iter(self.batches)


def _quantize(
    factory: Callable[[], Engine], model: Model, recipe: Recipe, calibration: Calibration
) -> bytes | str:
    """In the child: the model's bytes, or what went wrong."""
    try:
        proto = factory().quantize(model, recipe, calibration)
        content: bytes = proto.SerializeToString()
        return content
    except QuantlabError as error:
        return str(error)
    except BaseException as error:  # whatever an engine raises, exit() included
        return f"the engine {recipe.engine} failed: {type(error).__name__}: {error}"
