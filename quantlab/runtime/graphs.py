"""Create an ONNX Runtime session over a graph in memory, whatever its size."""

from __future__ import annotations

from typing import Any

import onnx
import onnxruntime as ort

from quantlab.model.large import put_aside, weights_aside
from quantlab.runtime.memory import release
from quantlab.runtime.session import create_session


def graph_session(proto: onnx.ModelProto, **settings: Any) -> ort.InferenceSession:
    """``create_session`` over the graph, which may get weights put aside. Raises ModelError."""
    release()
    put_aside(proto)
    weights = weights_aside(proto)
    return create_session(proto.SerializeToString(), weights=weights, **settings)
