"""The nncf engine: OpenVINO's NNCF in a process of its own, by its ONNX or its OpenVINO backend.

Its ONNX files are close to fp32 and slow: they hold quantizers that ONNX Runtime does not fuse, and
run at about half the speed of the *fp32* model on x86. They are a measure of fidelity, or for
OpenVINO; its OpenVINO IR is for OpenVINO alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import onnx

from quantlab.model.model import Model
from quantlab.quantize.checks import check_quantizable, check_recipe
from quantlab.quantize.peers.process import (
    Peer,
    PeerOutcome,
    nothing_quantized,
    peer_result,
    run_peer,
)
from quantlab.quantize.prepare import prepare
from quantlab.quantize.protocol import Calibration
from quantlab.recipe import Recipe
from quantlab.runtime.openvino import import_openvino, ir_of

PEER = Peer(
    key="nncf",
    product="NNCF",
    package="nncf",
    module="nncf",
    variable="QUANTLAB_NNCF_PYTHON",
)
IR_PEER = replace(PEER, extra="nncf,openvino")
_ALLOWED: dict[str, tuple[object, ...]] = {
    "ranges": ("minmax", "mean"),
    "activations": ("u8",),
    "weights": ("s8",),
    "format": ("qdq",),
    "bias_correction": (),
    "fp32_output": (True,),
}


class NncfEngine:
    """``nncf.quantize`` with asymmetric activations (preset MIXED).

    ``python`` is another Python that has NNCF (else the variable QUANTLAB_NNCF_PYTHON, else this
    one). A recipe with ``bias_correction`` gets NNCF's fast one, or with ``accurate`` its slow one.
    Note that ONNX Runtime runs the file more slowly than the fp32 model.
    """

    name = "nncf"

    def __init__(
        self, *, python: str | None = None, timeout: float | None = None, accurate: bool = False
    ) -> None:
        self._python, self._timeout = python, timeout
        self._correction: Literal["accurate", "fast"] = "accurate" if accurate else "fast"

    def quantize(self, model: Model, recipe: Recipe, calibration: Calibration) -> onnx.ModelProto:
        """See Engine.quantize. Raises MissingExtraError when NNCF is not installed."""
        return self.run(model, recipe, calibration).proto

    def run(self, model: Model, recipe: Recipe, calibration: Calibration) -> PeerOutcome:
        """``quantize``, with the seconds and the memory that it took."""
        prepared, options = self._task(model, recipe, calibration)
        return run_peer(
            PEER, prepared, calibration, options, python=self._python, timeout=self._timeout
        )

    def quantize_ir(
        self, model: Model, recipe: Recipe, calibration: Calibration, metadata: Mapping[str, str]
    ) -> tuple[bytes, bytes]:
        """OpenVINO IR with these metadata: what its .xml and its .bin hold. Raises as ``quantize``
        does, and MissingExtraError without OpenVINO."""
        import_openvino("OpenVINO IR")
        prepared, options = self._task(model, recipe, calibration)

        def read(folder: Path) -> tuple[bytes, bytes]:
            path = folder / "quantized.xml"
            if not Model.load(path).is_quantized:
                raise nothing_quantized(IR_PEER)
            return ir_of(path, metadata)

        options = {**options, "backend": "openvino"}
        limits: dict[str, Any] = {"python": self._python, "timeout": self._timeout}
        return peer_result(IR_PEER, prepared, calibration, options, read, **limits)[0]

    def _task(
        self, model: Model, recipe: Recipe, calibration: Calibration
    ) -> tuple[onnx.ModelProto, dict[str, Any]]:
        """The graph and what the child reads. Raises QuantizeError."""
        check_recipe(recipe, self.name, _ALLOWED)
        prepared = prepare(model.proto())
        check_quantizable(prepared, model.path)
        batch = model.input.batch or 1
        return prepared, {
            "backend": "onnx",
            "batch": batch,
            "input": model.input.name,
            "images": -(-len(calibration) // batch),
            "ranges": recipe.ranges,
            "per_channel": recipe.per_channel,
            "portable": recipe.portable or recipe.reduce_range,
            "bias_correction": self._correction if recipe.bias_correction else "off",
            "exclude": list(recipe.exclude),
        }
