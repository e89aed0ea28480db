"""Criteria: what an int8 file must keep to. Shapes, their words, and how they are written.

Every criterion bounds a loss, a figure that is 0 for the fp32 model itself and larger for a worse
int8 model: a decline, the share of changed answers, or the KL divergence. Other limits bound what
only a gate asks for: single classes, the latency and the file's size. ``limit`` is the most that
may be lost, or that the figure may be. ``tolerance`` is what a measured loss may exceed it by and
still count as met (``Verdict.meets``); the verdict's own interval test knows none.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field

from quantlab.errors import RecipeError
from quantlab.stats.anytime import Kind
from quantlab.stats.paired import Interval

METRIC_NAMES = {"top1": "top-1", "top5": "top-5"}

_LIMIT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%|pp|points?)\s*", re.IGNORECASE)
_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_AGREE = re.compile(rf"agree\s*>=\s*{_NUMBER}\s*%", re.IGNORECASE)
_KL = re.compile(rf"kl\s*<=\s*{_NUMBER}", re.IGNORECASE)
_FUNCTION = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Policy(_Frozen):
    """How much accuracy may be lost.

    ``max_decline`` is a fraction: of the fp32 model's accuracy when ``kind`` is relative, of all
    images (percentage points / 100) when it is absolute. ``metric`` is ``top1``, ``top5``, or
    ``module:function`` for a metric of the user's (``quantlab.evaluate.custom``), whose mean score
    then stands for the accuracy.

    Examples:
        >>> from quantlab import Policy
        >>> policy = Policy(max_decline=0.005, kind="absolute", metric="top5")
        >>> policy.title, policy.limit_text
        ('top-5 decline', '0.5 points')
    """

    max_decline: float = Field(default=0.01, ge=0, lt=1)
    kind: Kind = "relative"
    metric: str = Field(default="top1", pattern=rf"^(top1|top5|{_FUNCTION})$")
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The most that may be lost."""
        return self.max_decline

    @property
    def title(self) -> str:
        """``top-1 decline``."""
        return f"{METRIC_NAMES.get(self.metric, self.metric)} decline"

    @property
    def limit_text(self) -> str:
        """``1%`` or ``0.5 points``."""
        return self.amount(self.max_decline)

    def amount(self, loss: float) -> str:
        """A loss in words: ``0.25%`` or ``0.2 points``."""
        return amount(loss, self.kind)

    def gap(self, loss: float) -> str:
        """A difference of two losses in words."""
        return amount(loss, self.kind)

    def span(self, interval: Interval) -> str:
        """An interval of losses in words: ``-0.37% to 0.37%`` or ``-0.29 to 0.29 points``."""
        unit, tail = ("%", "") if self.kind == "relative" else ("", " points")
        return f"{100 * interval.low:.2f}{unit} to {100 * interval.high:.2f}{unit}{tail}"


class AgreementPolicy(_Frozen):
    """On which share of the images int8 must give fp32's first answer. Needs no labels.

    Examples:
        >>> from quantlab import AgreementPolicy
        >>> AgreementPolicy(least=0.96).limit_text
        '96%'
    """

    least: float = Field(gt=0, le=1)
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The largest share of changed answers."""
        return 1 - self.least

    @property
    def title(self) -> str:
        """What is judged."""
        return "agreement with fp32"

    @property
    def limit_text(self) -> str:
        """``96%``."""
        return self.amount(self.limit)

    def amount(self, loss: float) -> str:
        """The agreement that is left: ``97.2%``."""
        return amount(1 - loss, "relative")

    def gap(self, loss: float) -> str:
        """A difference of two losses in words."""
        return amount(loss, "absolute")

    def span(self, interval: Interval) -> str:
        """The interval of the agreement: ``96.10% to 98.02%``."""
        return f"{100 * (1 - interval.high):.2f}% to {100 * (1 - interval.low):.2f}%"


class DivergencePolicy(_Frozen):
    """How large the mean KL(softmax fp32 || softmax int8) may be, in nats. Needs no labels.

    Examples:
        >>> from quantlab import DivergencePolicy
        >>> DivergencePolicy(most=0.01).limit_text
        '0.01 nats'
    """

    most: float = Field(ge=0)
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The largest KL divergence."""
        return self.most

    @property
    def title(self) -> str:
        """What is judged."""
        return "KL divergence from fp32"

    @property
    def limit_text(self) -> str:
        """``0.01 nats``."""
        return self.amount(self.most)

    def amount(self, loss: float) -> str:
        """``0.0123 nats``."""
        return f"{loss:.3g} nats"

    def gap(self, loss: float) -> str:
        """A difference of two losses in words."""
        return self.amount(loss)

    def span(self, interval: Interval) -> str:
        """``0.0101 to 0.0151 nats``."""
        return f"{interval.low:.3g} to {interval.high:.3g} nats"


class ClassPolicy(_Frozen):
    """How many of a class's images any class may lose net, as a fraction of them.

    Examples:
        >>> from quantlab import ClassPolicy
        >>> ClassPolicy(of_class=0.1).limit_text
        '10 points'
    """

    of_class: float = Field(gt=0, lt=1)
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The largest decline of a class."""
        return self.of_class

    @property
    def title(self) -> str:
        """What is judged."""
        return "largest decline of a class"

    @property
    def limit_text(self) -> str:
        """``10 points``."""
        return self.amount(self.of_class)

    def amount(self, loss: float) -> str:
        """``12.5 points``."""
        return amount(loss, "absolute")

    def gap(self, loss: float) -> str:
        """A difference of two losses in words."""
        return self.amount(loss)

    def span(self, interval: Interval) -> str:
        """``2.10 to 31.20 points``."""
        return f"{100 * interval.low:.2f} to {100 * interval.high:.2f} points"


class LatencyPolicy(_Frozen):
    """How many times fp32's median latency int8 may take, at batch 1 and on one thread.

    Examples:
        >>> from quantlab import LatencyPolicy
        >>> LatencyPolicy(ratio=0.6).limit_text
        '0.6'
    """

    ratio: float = Field(gt=0)
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The largest ratio int8 / fp32."""
        return self.ratio

    @property
    def title(self) -> str:
        """What is judged."""
        return "latency p50, int8 / fp32"

    @property
    def limit_text(self) -> str:
        """``1.05``."""
        return f"{self.ratio:g}"

    def amount(self, loss: float) -> str:
        """``0.512``."""
        return f"{loss:.3f}"

    def gap(self, loss: float) -> str:
        """A difference of two ratios in words."""
        return self.amount(loss)

    def span(self, interval: Interval) -> str:
        """``0.504 to 0.521``."""
        return f"{interval.low:.3f} to {interval.high:.3f}"


class SizePolicy(_Frozen):
    """How many bytes the int8 file may have.

    Examples:
        >>> from quantlab import SizePolicy
        >>> SizePolicy(most_bytes=4_000_000).limit_text
        '4.00 MB'
    """

    most_bytes: int = Field(gt=0)
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The largest size in bytes."""
        return self.most_bytes

    @property
    def title(self) -> str:
        """What is judged."""
        return "size of the int8 file"

    @property
    def limit_text(self) -> str:
        """``4 MB``."""
        return self.amount(self.most_bytes)

    def amount(self, loss: float) -> str:
        """``3.67 MB`` of a million bytes each, or ``812 bytes``."""
        return f"{loss / 1e6:.2f} MB" if loss >= 1e4 else f"{loss:,.0f} bytes"

    def gap(self, loss: float) -> str:
        """A difference of two sizes in words."""
        return self.amount(loss)

    def span(self, interval: Interval) -> str:
        """A size has no interval: its one value."""
        return self.amount(interval.high)


Criterion = Policy | AgreementPolicy | DivergencePolicy
"""What tune and compare hold an int8 file to."""
Limit = Criterion | ClassPolicy | LatencyPolicy | SizePolicy
"""What a gate may hold it to."""


def needs_labels(limit: Limit) -> bool:
    """Whether it can only be judged on labelled images. A metric of the user's may need them."""
    return isinstance(limit, Policy | ClassPolicy)


def parse_policy(text: str, metric: str = "top1", *, tolerance: float = 0.0) -> Policy:
    """Read ``1%`` (of the fp32 accuracy) or ``1pp``, ``0.5 points`` (percentage points).

    Raises RecipeError for anything else.
    """
    match = _LIMIT.fullmatch(text)
    if not match or float(match[1]) >= 100:
        raise RecipeError(
            f"{text!r} is not a limit for the decline.",
            "Write 1% for one hundredth of the fp32 accuracy, or 1pp for one percentage point.",
        )
    kind: Kind = "relative" if match[2] == "%" else "absolute"
    return Policy(max_decline=float(match[1]) / 100, kind=kind, metric=metric, tolerance=tolerance)


def parse_criterion(text: str, *, tolerance: float = 0.0) -> Criterion:
    """Read ``1%``, ``0.5pp``, ``top5 1%``, ``agree>=96%``, ``kl<=0.01`` or ``module:function 1%``.

    ``tolerance`` is in the loss's own unit: a fraction, or nats. Raises RecipeError for anything
    else.
    """
    if (match := _AGREE.fullmatch(text.strip())) and 0 < float(match[1]) <= 100:
        return AgreementPolicy(least=float(match[1]) / 100, tolerance=tolerance)
    if match := _KL.fullmatch(text.strip()):
        return DivergencePolicy(most=float(match[1]), tolerance=tolerance)
    match = re.fullmatch(rf"\s*(?:(top1|top5|{_FUNCTION})\s+)?(.*)", text)
    if match and (limit := _LIMIT.fullmatch(match[2])) and float(limit[1]) < 100:
        return parse_policy(match[2], match[1] or "top1", tolerance=tolerance)
    raise RecipeError(
        f"{text!r} is not a criterion.",
        "Write 1% (of the fp32 top-1), 0.5pp (percentage points), 'top5 1%', 'agree>=96%', "
        "'kl<=0.01', or 'module:function 1%' for a metric of your own.",
    )


def amount(fraction: float, kind: Kind) -> str:
    """``0.25%`` or ``0.2 points``, with no more decimals than it has, two at most."""
    number = f"{100 * fraction:.2f}".rstrip("0").rstrip(".")
    number = "0" if number == "-0" else number
    if kind == "relative":
        return f"{number}%"
    return f"{number} point" if number in ("1", "-1") else f"{number} points"
