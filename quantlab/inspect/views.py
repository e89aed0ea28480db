"""The views of ``quantlab inspect``."""

from __future__ import annotations

from dataclasses import dataclass

from quantlab.inspect import Inspection
from quantlab.inspect.layers import LayerReport
from quantlab.inspect.portability import Portability
from quantlab.inspect.sensitivity import Sensitivity


@dataclass(frozen=True)
class Inspected:
    """What the view that was asked for gave; the others are None."""

    inspection: Inspection | None = None
    portability: Portability | None = None
    layers: LayerReport | None = None
    sensitivity: Sensitivity | None = None
