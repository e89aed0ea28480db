"""The inc engine: Intel Neural Compressor 2.4.1, in a process of its own.

Later versions hold no ONNX code (3.8 on) or cap numpy below 2 (2.5 to 3.7). By itself it writes
into the working directory, returns None when nothing met its goal, swallows its own exceptions,
and, with its default ``quant_level="auto"``, may put every Conv back to fp32 and call that success.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.model.model import Model
from quantlab.quantize.checks import check_memory, check_quantizable, check_recipe, fp32_nodes
from quantlab.quantize.peers.process import Peer, PeerOutcome, run_peer
from quantlab.quantize.prepare import prepare
from quantlab.quantize.protocol import Calibration
from quantlab.recipe import Recipe

PEER = Peer(
    key="inc",
    product="Neural Compressor",
    package="neural-compressor",
    module="neural_compressor",
    variable="QUANTLAB_INC_PYTHON",
)
ALGORITHMS = {"minmax": "minmax", "entropy": "kl", "percentile": "percentile"}
"""Neural Compressor's names of the range methods."""
QUANTIZED_TYPES = ("Conv", "FusedConv", "Gemm", "MatMul")
_ALLOWED: dict[str, tuple[object, ...]] = {
    "ranges": tuple(ALGORITHMS),
    "activations": ("u8",),
    "weights": ("s8",),
    "smooth": (),
}
_FP32 = {"weight": {"dtype": ["fp32"]}, "activation": {"dtype": ["fp32"]}}


@dataclass(frozen=True)
class IncTuning:
    """Neural Compressor's own search, in its own way.

    ``images`` [n, ...] are shaped like the model's input; with ``labels`` [n] the criterion is
    top-1, without them agreement with the fp32 model's answers. ``seconds`` 0 ends at the first
    model that meets the criterion. ``strategy`` is basic, bayesian or
    exhaustive: those of its strategies that work on ONNX models.
    """

    strategy: str
    images: NDArray[np.generic]
    labels: NDArray[np.int64] | None = None
    max_decline: float = 0.01
    kind: Literal["relative", "absolute"] = "relative"
    max_trials: int = 100
    seconds: int = 0


class IncEngine:
    """``quantization.fit`` with the recipe's format, granularity, range method and SmoothQuant.

    ``python`` is another Python that has Neural Compressor (else the variable QUANTLAB_INC_PYTHON,
    else this one); ``quant_level`` is Neural Compressor's: 1 quantizes all it can, 0 starts from
    fp32, "auto" tries both. With ``tuning`` its search decides ranges and granularity, and the
    recipe only the format, the excluded nodes and the classifier's output.
    """

    name = "inc"

    def __init__(
        self,
        *,
        python: str | None = None,
        timeout: float | None = None,
        quant_level: int | Literal["auto"] = 1,
        tuning: IncTuning | None = None,
    ) -> None:
        self._python, self._timeout = python, timeout
        self._quant_level, self._tuning = quant_level, tuning

    def quantize(self, model: Model, recipe: Recipe, calibration: Calibration) -> onnx.ModelProto:
        """See Engine.quantize. Raises MissingExtraError when Neural Compressor is not installed."""
        return self.run(model, recipe, calibration).proto

    def run(self, model: Model, recipe: Recipe, calibration: Calibration) -> PeerOutcome:
        """``quantize``, with the seconds and the memory that it took."""
        allowed = _ALLOWED if self._tuning is None else {**_ALLOWED, "ranges": ()}
        check_recipe(recipe, self.name, allowed)
        prepared = prepare(model.proto())
        check_quantizable(prepared, model.path)
        if recipe.ranges in ("percentile", "entropy") and self._tuning is None:
            check_memory(prepared, len(calibration), "Neural Compressor's calibrators")
        options = {
            "batch": model.input.batch or 1,
            "percentile": recipe.percentile,
            "config": self._config(prepared, recipe, len(calibration)),
            "tuning": None if self._tuning is None else _search(self._tuning),
        }
        return run_peer(
            PEER,
            prepared,
            calibration,
            options,
            python=self._python,
            timeout=self._timeout,
            arrays=_arrays(self._tuning),
        )

    def _config(self, prepared: onnx.ModelProto, recipe: Recipe, images: int) -> dict[str, Any]:
        """The arguments of PostTrainingQuantConfig."""
        fixed = self._tuning is None
        return {
            "quant_format": "QDQ" if recipe.format == "qdq" else "QOperator",
            "quant_level": self._quant_level,
            "reduce_range": recipe.portable or recipe.reduce_range,
            "calibration_sampling_size": [images],
            "op_type_dict": _types(recipe) if fixed else None,
            "op_name_dict": _names(fp32_nodes(prepared, recipe)) or None,
            "recipes": _recipes(recipe),
        }


def _types(recipe: Recipe) -> dict[str, Any]:
    weight = {"granularity": ["per_channel" if recipe.per_channel else "per_tensor"]}
    activation = {"algorithm": [ALGORITHMS[recipe.ranges]]}
    return {name: {"weight": weight, "activation": activation} for name in QUANTIZED_TYPES}


def _names(nodes: list[str]) -> dict[str, Any]:
    """These nodes in fp32. Neural Compressor makes a MatMul and an Add of a Gemm first."""
    return {f"{re.escape(name)}(_MatMul|_Add)?": _FP32 for name in nodes}


def _recipes(recipe: Recipe) -> dict[str, Any]:
    if recipe.smooth is None:
        return {}
    return {"smooth_quant": True, "smooth_quant_args": {"alpha": recipe.smooth}}


def _search(tuning: IncTuning) -> dict[str, Any]:
    return {
        "accuracy": {"criterion": tuning.kind, "tolerable_loss": float(tuning.max_decline)},
        "search": {
            "strategy": tuning.strategy,
            "timeout": tuning.seconds,
            "max_trials": tuning.max_trials,
        },
    }


def _arrays(tuning: IncTuning | None) -> dict[str, NDArray[np.generic]]:
    if tuning is None:
        return {}
    labels = {} if tuning.labels is None else {"labels": tuning.labels}
    return {"eval": tuning.images, **labels}
