"""x86 CPUs with VNNI in ONNX Runtime, and no others."""

from __future__ import annotations

from quantlab.targets.target import Target
from quantlab.targets.x86 import VNNI, X86

X86_VNNI = Target(
    name="x86-vnni",
    summary="x86 CPUs with VNNI alone: weights use all of their 8 bits",
    documents=X86.documents,
    proof="run",
    rules=VNNI,
    decides={"portable": False},
    allows={key: values for key, values in X86.allows.items() if key != "portable"},
)
