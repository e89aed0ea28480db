"""Context of a report beyond the comparison: machine, versions, data, command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantlab._util.timeline import TimedStep
    from quantlab.data.dataset import ImageProblem
    from quantlab.inspect.layers import LayerReport
    from quantlab.tune.reverted_groups import Reverted


@dataclass(frozen=True)
class TrialRow:
    """One recipe that tuning tried. Rates are fractions; None where it was not measured.

    ``calibration_kl`` is the mean KL on calibration images, the cheap score; all other figures are
    of ``images`` evaluation images, ``kl`` their mean KL and ``kl_p99`` its 99th percentile.
    ``decline`` is the ratio (fp32 - int8) / fp32, ``faster`` whether the file is surely faster than
    fp32, ``int8_macs`` the share of its MACs in int8; ``front``: no other trial beats it in
    decline, speed and size together; ``error`` says why a trial failed.
    """

    recipe: str
    calibration_kl: float | None = None
    images: int | None = None
    top1: float | None = None
    decline: float | None = None
    agreement: float | None = None
    kl: float | None = None
    kl_p99: float | None = None
    speedup: float | None = None
    size_bytes: int | None = None
    int8_macs: float | None = None
    faster: bool | None = None
    meets: bool | None = None
    chosen: bool = False
    front: bool = False
    error: str = ""


@dataclass(frozen=True)
class FrontRow:
    """A placement on the front of speed against accuracy: what was predicted of it (``error`` is a
    KL in nats), how many nodes it leaves in fp32 for accuracy, and
    its ``trial``, without figures where it was not tried."""

    trial: TrialRow
    nodes: int
    milliseconds: float
    error: float


@dataclass(frozen=True)
class Unfinished:
    """A tune that a limit ended: which ``limit``; the recipes it did not try at all, and those it
    scored on calibration images only; what would have come ``later``; the ``command`` that goes
    on."""

    limit: str
    untried: tuple[str, ...]
    unevaluated: tuple[str, ...]
    later: str
    command: str


@dataclass(frozen=True)
class ReportContext:
    """``command`` repeats the run. The mappings are rows of tables, shown in their order.

    ``environment`` is the machine and the versions, ``data`` the evaluation images beyond what the
    comparison knows (folder, label source), ``calibration`` and ``recipe`` how the int8 model was
    made, empty when it came as a file. ``unfinished`` is None but for a tune that a limit ended.
    ``shortfall`` says by how much the best trial misses the criterion, empty when it is met, and
    ``suggestions`` what to try then. ``reverted`` is what the recipe keeps in fp32, ``front`` what
    a tune predicted of the placements that it could choose from. ``early`` says after how many
    images a sequential test stopped the evaluation, empty when none was asked to. ``problems`` are
    all images that could not be used. ``layers`` is where int8 departs from fp32, None where that
    is not known. ``steps`` are a tune's, with when each took place. ``thumbnails`` are small JPEG
    files of evaluation images by their names. With ``zoo`` there is also what the ONNX model zoo
    says of models.
    """

    command: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    calibration: Mapping[str, str] = field(default_factory=dict)
    recipe: Mapping[str, object] = field(default_factory=dict)
    output: str = ""
    trials: tuple[TrialRow, ...] = ()
    reverted: tuple[Reverted, ...] = ()
    front: tuple[FrontRow, ...] = ()
    unfinished: Unfinished | None = None
    shortfall: str = ""
    suggestions: tuple[str, ...] = ()
    early: str = ""
    problems: tuple[ImageProblem, ...] = ()
    warnings: tuple[str, ...] = ()
    layers: LayerReport | None = None
    steps: tuple[TimedStep, ...] = ()
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    zoo: bool = False
