"""Number formats for which ONNX Runtime has no fast CPU kernel: for fidelity or NPUs, not speed."""

from __future__ import annotations

import onnx

from quantlab.inspect.scales import list_quantized_tensors

_WIDE = ("int16", "uint16")
_NARROW = ("int4", "uint4")
_PLURAL = {"activation": "activations", "weight": "weights"}


def slow_format(graph: onnx.GraphProto) -> str:
    """What makes the file a fidelity or NPU format, in a sentence; "" for one that is meant to be
    fast."""
    found = sorted({(t.dtype, t.role) for t in list_quantized_tensors(graph) if t.role != "bias"})
    wide = [f"{dtype} {_PLURAL[role]}" for dtype, role in found if dtype in _WIDE]
    narrow = [f"{dtype} {_PLURAL[role]}" for dtype, role in found if dtype in _NARROW]
    if wide:
        what = f"computes {' and '.join(wide)} in fp32"
    elif narrow:
        what = f"unpacks {' and '.join(narrow)} before it computes"
    else:
        return ""
    return f"ONNX Runtime {what}: a format for fidelity or NPUs, not for speed on a CPU."
