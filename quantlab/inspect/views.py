"""The views of ``quantlab inspect``."""

from __future__ import annotations

from dataclasses import dataclass

from quantlab.inspect.inspection import Inspection
from quantlab.inspect.layers import LayerReport
from quantlab.inspect.output_scales import OperatorScale
from quantlab.inspect.portability import Portability
from quantlab.inspect.preprocessing_audit import Audit
from quantlab.inspect.sensitivity import Sensitivity
from quantlab.inspect.stored import StoredCheck
from quantlab.inspect.target_rules import TargetReport


@dataclass(frozen=True)
class Inspected:
    """The result of the view that was asked for; the others are None."""

    inspection: Inspection | None = None
    portability: Portability | None = None
    layers: LayerReport | None = None
    sensitivity: Sensitivity | None = None
    audit: Audit | None = None
    stored: StoredCheck | None = None
    operators: tuple[OperatorScale, ...] | None = None
    target: TargetReport | None = None
