"""Proxy: score a quantized file by its divergence from fp32 on a few images, without labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab.evaluate.metrics import kl_divergence, logits_of, sqnr_db
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner

BATCH = 8


class Distance(BaseModel):
    """Mean KL of fp32 to the other's answers, in nats, and the SQNR of its logits (None: equal)."""

    model_config = ConfigDict(frozen=True)

    kl: float
    sqnr_db: float | None


@dataclass(frozen=True, eq=False)
class Proxy:
    """Distances to the fp32 ``model`` on ``inputs``, images as the model takes them."""

    model: Model
    inputs: NDArray[np.generic]
    threads: int = 0

    def distance(self, other: Model | onnx.ModelProto) -> Distance:
        """Mean KL and SQNR of another model. Raises ModelError when it does not run."""
        answers = self.logits(other)
        kl = float(kl_divergence(self.reference, answers).mean())
        return Distance(kl=kl, sqnr_db=sqnr_db(self.reference, answers))

    @cached_property
    def reference(self) -> NDArray[np.float32]:
        """The fp32 model's logits [n, classes]. Raises ModelError when it does not run."""
        return self.logits(self.model)

    def logits(self, model: Model | onnx.ModelProto) -> NDArray[np.float32]:
        """A model's logits [n, classes]. Raises ModelError when it does not run."""
        kind = self.model.output_kind
        with Runner(model, threads=self.threads, output_kind=kind) as run:
            starts = range(0, len(self.inputs), BATCH)
            outputs = np.concatenate([run(self.inputs[i : i + BATCH]) for i in starts])
        return logits_of(outputs) if kind == "probabilities" else outputs
