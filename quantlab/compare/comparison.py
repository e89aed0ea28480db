"""Comparison: the result of comparing two models. Data classes only.

Everything here is small and goes to JSON and back. Rates, declines and limits are fractions of 1,
times are milliseconds, sizes are bytes. A positive decline means that the int8 model is worse.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from quantlab.stats.paired import Interval, Share

if TYPE_CHECKING:
    from pandas import DataFrame

FlipKind = Literal["lost", "gained", "changed"]
SpeedConclusion = Literal["faster", "slower", "same", "too noisy"]
CpusState = Literal[
    "not quantized", "no pairs", "impossible", "not seen", "not emulated", "saturates", "unknown"
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelScore(_Frozen):
    """One model alone. The accuracies are None without labels; ``nonfinite`` counts the images on
    which it gave a NaN or an infinity."""

    name: str
    sha256: str
    size_bytes: int | None
    output_kind: str
    top1: Share | None
    top5: Share | None
    nonfinite: int


class Change(_Frozen):
    """How an accuracy changed, image by image.

    ``difference`` is (fp32 - int8) as a fraction of all images, with Tango's interval; ``ratio`` is
    (fp32 - int8) / fp32 with the score interval of Tang, Tang & Chan, None when fp32 is never
    right.
    """

    n: int
    both: int
    lost: int
    gained: int
    difference: float
    difference_interval: Interval
    ratio: float | None
    ratio_interval: Interval | None
    mcnemar_p: float


class Fidelity(_Frozen):
    """How near int8 stays to fp32, labels or not.

    ``agreement`` is the share of images with the same first answer; ``kl`` the mean
    KL(softmax fp32 || softmax int8) in nats; ``sqnr_db`` the signal to noise ratio over the
    ``compared`` values, None when there is no noise (``identical``) or no finite output.
    ``kl_interval`` is the KL's bootstrap interval over images, None for fewer than 50. Of single
    images, ``kl_p99`` is the 99th percentile of the KL, ``kl_max`` the largest, ``sqnr_p1_db`` the
    1st percentile of the SQNR; None as the whole's.
    ``identical``: every output is the same, bit for bit; ``unchanged``: the same but for float32
    rounding, with the same best classes in the same order.
    """

    agreement: Share
    kl: float | None
    sqnr_db: float | None
    compared: Literal["logits", "log-probabilities"]
    identical: bool
    kl_interval: Interval | None = None
    kl_p99: float | None = None
    kl_max: float | None = None
    sqnr_p1_db: float | None = None
    unchanged: bool = False


class ScoreChange(_Frozen):
    """How a metric of the user's changed: the mean scores of both models, image by image.

    ``difference`` is fp32 - int8 and ``ratio`` (fp32 - int8) / fp32, None unless fp32's mean is
    surely above 0; the intervals are paired bootstraps. ``lower`` and ``higher`` count the images
    on which int8 scores lower and higher.
    """

    n: int
    fp32: float
    int8: float
    lower: int
    higher: int
    difference: float
    difference_interval: Interval
    ratio: float | None
    ratio_interval: Interval | None


class ClassChange(_Frozen):
    """One class: its images, how many each model gets right, and which of them changed."""

    index: int
    name: str
    n: int
    fp32_right: int
    int8_right: int
    lost: int
    gained: int

    @property
    def net_loss(self) -> int:
        """Images lost less images gained."""
        return self.lost - self.gained


class Answer(_Frozen):
    """A model's first answer; ``index`` is -1 when it gave a NaN."""

    index: int
    name: str
    probability: float


class Flip(_Frozen):
    """An image on which the two models' first answers differ.

    ``kind`` is lost (only fp32 is right), gained (only int8 is), or changed (both wrong, or no
    label to tell).
    """

    image: str
    kind: FlipKind
    label: int | None
    label_name: str
    fp32: Answer
    int8: Answer


class Confidence(_Frozen):
    """Counts of images by probability of the first answer, in equal bins from 0 to 1.

    ``changed`` counts, by fp32's probability, the images on which the answers differ.
    """

    fp32: tuple[int, ...]
    int8: tuple[int, ...]
    changed: tuple[int, ...]


class Latency(_Frozen):
    """One model's run times at one batch size, in milliseconds per batch; ``samples`` are all."""

    p50: float
    p90: float
    p99: float
    mean: float
    std: float
    images_per_second: float
    session_ms: float
    peak_rss_bytes: int | None
    samples: tuple[float, ...]


class Speed(_Frozen):
    """Both models at one batch size.

    ``speedup`` says how many times faster int8 is, fp32 / int8, from runs side by side (see
    ``quantlab.compare.speeds``), with its 95% interval. ``noise`` is the same interval for the fp32
    model against itself in the same run, and ``noise_floor`` its farther end as a fraction: a
    difference below it means nothing. A difference of the fraction ``resolution`` would have been
    found nine times in ten; 3% would be in ``rounds_needed`` rounds, where ``rounds`` were made.
    """

    batch_size: int
    threads: int
    fp32: Latency
    int8: Latency
    speedup: float
    interval: Interval
    noise: Interval | None
    noise_floor: float | None
    conclusion: SpeedConclusion
    resolution: float | None = None
    rounds: int = 0
    rounds_needed: int | None = None

    @property
    def too_noisy(self) -> bool:
        """Whether the machine was too noisy to tell which model is faster."""
        return self.conclusion == "too noisy"


class RuntimeGain(_Frozen):
    """A speedup of two models in different runtimes, taken apart, at one batch size.

    ``by_runtime`` says how many times faster the fp32 model is in int8's ``runtime`` than in its
    own, ``fp32_runtime``; ``by_quantization`` how many times faster int8 is than fp32 there. The
    intervals are 95%, as in Speed.
    """

    batch_size: int
    fp32_runtime: str
    runtime: str
    by_runtime: float
    by_runtime_interval: Interval
    by_quantization: float
    by_quantization_interval: Interval


class RuntimeSpeed(_Frozen):
    """How many times faster the int8 file is in another ``runtime``, of this ``version``, than in
    its own; see Speed."""

    runtime: str
    version: str
    speedup: float
    interval: Interval
    conclusion: SpeedConclusion


class LeftInFp32(_Frozen):
    """Nodes of one operator that compute in fp32: how many, which share of all MACs they are, and
    why."""

    op_type: str
    nodes: int
    share: float
    reason: str


class Macs(_Frozen):
    """Multiply-accumulates of one image: all of them, and the share that is in int8. ``fp32`` are
    the operators that are not, those with most MACs first; such as Sigmoid have none at all."""

    count: int
    int8: float
    fp32: tuple[LeftInFp32, ...] = ()


class OtherCpus(_Frozen):
    """What the int8 file answers on x86 CPUs without VNNI, which add each two neighbouring products
    of u8 activations and s8 weights in 16 bits.

    ``state``: nothing is ``not quantized``, ``no pairs`` are added, or their sums cannot overflow
    (``impossible``); else the weights of ``at_risk`` of the ``layers`` allow it, and on ``images``
    images it was ``not seen`` or ``saturates``: the ``share`` of all sums, in ``saturating``
    layers. ``agreement``, ``kl`` and ``sqnr_db`` compare the answers with these sums to those
    without. With dynamic activation ranges sums are ``not emulated``; ``unknown``: the graph could
    not be read.
    """

    state: CpusState
    layers: int = 0
    at_risk: int = 0
    saturating: int = 0
    images: int = 0
    share: float = 0.0
    agreement: float | None = None
    kl: float | None = None
    sqnr_db: float | None = None


class OtherRuntime(_Frozen):
    """What the int8 file answers in another ``runtime``: ``fidelity`` compares these answers to its
    own; on ``not_finite`` images there alone is a NaN or an infinity."""

    runtime: str
    version: str
    fidelity: Fidelity
    not_finite: int = 0


class Where(_Frozen):
    """Where the int8 answers hold. They were given by ``runtime`` in its ``version``, ``on`` this
    class of instructions, or by the provider of this name; ``other_runtime`` is None where nothing
    asked for one."""

    runtime: str
    version: str
    on: str
    cpus: OtherCpus
    other_runtime: OtherRuntime | None = None


class Comparison(_Frozen):
    """Two models on the same images.

    ``unmatched`` counts the images that only one of them was evaluated on; ``classes`` is the table
    of all classes that have images; ``flips`` is bounded, the surest fp32 answers first; ``notes``
    are sentences for the reader, ``lead`` those that stand before everything else;
    ``runtime_gains`` are of models that ran in different runtimes, ``runtime_speed`` of the int8
    file in one that was not chosen; ``custom`` holds
    the metrics of the user's, by name; ``macs`` are the int8 model's, None where its graph is not
    at hand; ``predicted_speedup`` is what its file says of itself, None where that is nothing;
    ``where`` says where int8's answers hold, None where its file is not at hand.
    """

    n: int
    num_classes: int
    labelled: bool
    unmatched: int
    data_digest: str
    pipeline: dict[str, Any]
    fp32: ModelScore
    int8: ModelScore
    top1: Change | None
    top5: Change | None
    fidelity: Fidelity
    classes: tuple[ClassChange, ...]
    flips: tuple[Flip, ...]
    confidence: Confidence
    speeds: tuple[Speed, ...]
    notes: tuple[str, ...]
    runtime_gains: tuple[RuntimeGain, ...] = ()
    runtime_speed: RuntimeSpeed | None = None
    custom: dict[str, ScoreChange] = {}
    macs: Macs | None = None
    predicted_speedup: float | None = None
    lead: tuple[str, ...] = ()
    where: Where | None = None

    @property
    def same_file(self) -> bool:
        """Whether both are one and the same model file, whose answers did not change either."""
        return self.fp32.sha256 == self.int8.sha256 and self.fidelity.unchanged

    @property
    def size_ratio(self) -> float | None:
        """How many times smaller the int8 file is."""
        if not self.fp32.size_bytes or not self.int8.size_bytes:
            return None
        return self.fp32.size_bytes / self.int8.size_bytes

    @property
    def speed(self) -> Speed | None:
        """Both models at the smallest batch size measured."""
        return min(self.speeds, key=lambda s: s.batch_size, default=None)

    @property
    def speedup(self) -> float | None:
        """The speedup at the smallest batch size measured."""
        return None if self.speed is None else self.speed.speedup

    def to_frame(self) -> DataFrame:
        """Both models' figures side by side.

        Returns:
            One row a figure, by its name, with the columns ``unit``, ``fp32``, ``int8``,
            ``difference`` (int8 - fp32), and ``low`` and ``high``, the 95% interval of the
            difference (of a figure that int8 alone has: its own). What is not known is NaN.

        Examples:
            >>> from quantlab import compare
            >>> from quantlab.testing import fake_predictions
            >>> pair = [fake_predictions(200, 10, rate, seed=0) for rate in (0, 0.02)]
            >>> frame = compare(*pair).to_frame()
            >>> frame.loc["top-1", ["fp32", "int8"]].round(3).tolist()
            [0.765, 0.775]
        """
        from quantlab.report.frames import comparison_frame

        return comparison_frame(self)

    def classes_frame(self) -> DataFrame:
        """All classes that have images.

        Returns:
            One row a class, by its index, with the columns ``name``, ``images``, ``fp32_right``,
            ``int8_right``, ``lost``, ``gained`` and ``net_loss``, all but the name in images.

        Examples:
            >>> from quantlab import compare
            >>> from quantlab.testing import fake_predictions
            >>> pair = [fake_predictions(200, 10, rate, seed=0) for rate in (0, 0.02)]
            >>> int(compare(*pair).classes_frame().images.sum())
            200
        """
        from quantlab.report.frames import classes_frame

        return classes_frame(self)

    def report(self, path: Path | str, *, criterion: str = "top1.decline <= 1%") -> Path:
        """Write the report: one file that needs no other.

        Args:
            path: ``.html``, or ``.md`` for markdown without plots.
            criterion: what the report's verdict is on, as ``quantlab.judge`` has it.

        Returns:
            The path.

        Raises:
            RecipeError: the criterion cannot be read.
            OutputError: the file cannot be written.

        Examples:
            >>> from quantlab import compare
            >>> from quantlab.testing import fake_predictions
            >>> pair = [fake_predictions(200, 10, rate, seed=0) for rate in (0, 0.02)]
            >>> compare(*pair).report("report.html").name
            'report.html'
        """
        from quantlab.report.files import write_comparison

        return write_comparison(Path(path), self, criterion)

    def _repr_html_(self) -> str:
        from quantlab.report.notebook import comparison_html

        return comparison_html(self)

    def worst_classes(self, count: int = 10) -> tuple[ClassChange, ...]:
        """The classes that lost most images net, the worst first; only those that lost any."""
        losing = [c for c in self.classes if c.net_loss > 0]
        return tuple(sorted(losing, key=lambda c: (-c.net_loss, -c.lost, c.index))[:count])

    def flips_of(self, kind: FlipKind) -> tuple[Flip, ...]:
        """The flips of one kind."""
        return tuple(flip for flip in self.flips if flip.kind == kind)
