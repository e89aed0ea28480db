"""Targets: where int8 files are to run, one small file each."""

from __future__ import annotations

from quantlab.errors import meant
from quantlab.targets.arm64 import ARM64
from quantlab.targets.openvino import OPENVINO
from quantlab.targets.qnn import QNN
from quantlab.targets.target import Breach, Target, TargetError
from quantlab.targets.tensorrt import TENSORRT
from quantlab.targets.tflite import TFLITE
from quantlab.targets.widest import WIDEST
from quantlab.targets.x86 import X86
from quantlab.targets.x86_vnni import X86_VNNI

DEFAULT = X86.name
TARGETS = {
    target.name: target
    for target in (X86, X86_VNNI, ARM64, OPENVINO, TENSORRT, QNN, TFLITE, WIDEST)
}


def find_target(name: str) -> Target:
    """The target of that name. Raises TargetError with the nearest."""
    if (found := TARGETS.get(name)) is not None:
        return found
    hint = f"{meant(name, TARGETS)} Targets: {', '.join(TARGETS)}."
    raise TargetError(f"no target is called {name!r}.", hint.strip())


__all__ = ["DEFAULT", "TARGETS", "Breach", "Target", "TargetError", "find_target"]
