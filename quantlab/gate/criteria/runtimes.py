"""Criteria of what an int8 file answers in the other runtime."""

from __future__ import annotations

from typing import ClassVar

from quantlab.compare.comparison import Comparison, Where
from quantlab.gate.criteria.agreement import AgreementCriterion
from quantlab.gate.criteria.divergence import DivergenceCriterion
from quantlab.gate.criteria.fidelity import FidelityCriterion
from quantlab.gate.criterion import Finding, Unpaired


class BetweenRuntimes(FidelityCriterion):
    """How far int8's answers in the other runtime may be from its own."""

    for_tuning: ClassVar[bool] = False
    needs_other_runtime: ClassVar[bool] = True

    @property
    def stopping(self) -> None:
        """There is no sequential test."""
        return

    def is_unchanged(self, comparison: Comparison, *, anytime: bool = False) -> bool:
        """Never: fp32's answers say nothing of it."""
        return False

    def measure(self, comparison: Comparison, *, anytime: bool = False) -> Finding:
        """See Criterion."""
        return self._found(comparison.where)

    def measure_unpaired(self, known: Unpaired) -> Finding:
        """The same: fp32's answers are not needed."""
        return self._found(known.where)

    def _found(self, where: Where | None) -> Finding:
        other = None if where is None else where.other_runtime
        if where is None or other is None:
            return Finding(cause="one runtime", leads_with="agreement")
        found = self.of(other.fidelity, other.not_finite)
        facts = {"own": where.runtime, "other": other.runtime}
        return found.model_copy(update={"cause": "two runtimes", "facts": facts})


class RuntimeAgreementCriterion(BetweenRuntimes, AgreementCriterion):
    """On which share of the images int8 must give the same first answer in ONNX Runtime and in
    OpenVINO. Needs no labels.

    Source:
        Clopper & Pearson 1934, Biometrika 26:404.

    Examples:
        >>> from quantlab import RuntimeAgreementCriterion
        >>> RuntimeAgreementCriterion(least=0.99).written
        'runtime.agreement >= 99%'
    """

    examples: ClassVar[tuple[str, ...]] = ("runtime.agreement >= 99%",)
    what: ClassVar[str] = "agreement between runtimes"

    @property
    def charted(self) -> tuple[str, str, float]:
        """The answers that another runtime changes, in percent."""
        return "answers changed by the runtime", "%", 100.0


class RuntimeDivergenceCriterion(BetweenRuntimes, DivergenceCriterion):
    """How large the mean KL divergence of int8's answers in the other runtime from its own may be,
    in nats. Needs no labels.

    Source:
        Kullback & Leibler 1951, Annals of Mathematical Statistics 22:79.

    Examples:
        >>> from quantlab import RuntimeDivergenceCriterion
        >>> RuntimeDivergenceCriterion(most=0.001).written
        'runtime.kl <= 0.001'
    """

    examples: ClassVar[tuple[str, ...]] = ("runtime.kl <= 0.001",)
    what: ClassVar[str] = "KL divergence between runtimes"
