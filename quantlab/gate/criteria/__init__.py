"""The kinds of criteria, one a file. A class in a new file here is found by itself."""

from quantlab.gate.criteria.accuracy import AccuracyCriterion
from quantlab.gate.criteria.agreement import AgreementCriterion
from quantlab.gate.criteria.classes import ClassCriterion
from quantlab.gate.criteria.divergence import DivergenceCriterion
from quantlab.gate.criteria.latency import LatencyCriterion
from quantlab.gate.criteria.metric import MetricCriterion
from quantlab.gate.criteria.portable import PortableCriterion
from quantlab.gate.criteria.runtimes import (
    RuntimeAgreementCriterion,
    RuntimeDivergenceCriterion,
)
from quantlab.gate.criteria.size import SizeCriterion

__all__ = [
    "AccuracyCriterion",
    "AgreementCriterion",
    "ClassCriterion",
    "DivergenceCriterion",
    "LatencyCriterion",
    "MetricCriterion",
    "PortableCriterion",
    "RuntimeAgreementCriterion",
    "RuntimeDivergenceCriterion",
    "SizeCriterion",
]
