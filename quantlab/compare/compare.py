"""compare: two Predictions, and Measurements if there are any, side by side. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quantlab.compare.comparison import (
    Answer,
    Change,
    ClassChange,
    Comparison,
    Confidence,
    Fidelity,
    Flip,
    FlipKind,
    Macs,
    ModelScore,
    ScoreChange,
)
from quantlab.compare.speeds import MeasuredTimes, listed, speeds_of
from quantlab.evaluate import metrics as figures
from quantlab.evaluate.accuracy import is_implausible
from quantlab.evaluate.custom import MetricFunction, image_scores
from quantlab.evaluate.predictions import Aligned, Predictions, align
from quantlab.stats.paired import (
    Interval,
    Share,
    bootstrap_decline,
    bootstrap_mean,
    clopper_pearson,
    decline_of,
    mcnemar_exact,
    paired_difference,
    paired_ratio,
    wilson,
)

__all__ = ["Comparison", "compare", "fidelity", "with_speeds"]

Bools = NDArray[np.bool_]

FLIPS_KEPT = 200
CONFIDENCE_BINS = 20
FEWEST = 50
"""Fewer images say nothing of how much their mean KL would vary."""


def compare(
    fp32: Predictions,
    int8: Predictions,
    *,
    fp32_speed: MeasuredTimes = None,
    int8_speed: MeasuredTimes = None,
    noise: MeasuredTimes = None,
    fp32_bytes: int | None = None,
    int8_bytes: int | None = None,
    class_names: Sequence[str] | None = None,
    metrics: Mapping[str, MetricFunction] | None = None,
    macs: Macs | None = None,
    seed: int = 0,
) -> Comparison:
    """Compute accuracy changes, fidelity, flips and speed on the images that both models answered.

    The speeds are one Measurement, or one per batch size; ``noise`` is the fp32 model measured once
    more in the same run. File sizes are taken from the measurements unless given. ``metrics`` are
    the user's own, by name, ``macs`` the int8 model's. ``seed`` is the bootstrap's. Raises
    DataError when the predictions or the measurements cannot be compared, RecipeError when a
    metric fails.
    """
    pair = align(fp32, int8)
    sizes = [
        given if given is not None else next((m.bytes for m in listed(speed)), None)
        for given, speed in ((fp32_bytes, fp32_speed), (int8_bytes, int8_speed))
    ]
    view = _View(pair, class_names or (), seed)
    comparison = Comparison(
        n=len(view.first),
        num_classes=view.first.outputs.shape[1],
        labelled=view.labels is not None,
        unmatched=pair.only_first + pair.only_second,
        data_digest=fp32.dataset_digest,
        pipeline=dict(fp32.pipeline),
        fp32=view.score(view.first, view.top_first, sizes[0]),
        int8=view.score(view.second, view.top_second, sizes[1]),
        top1=view.change(1),
        top5=view.change(5),
        fidelity=view.fidelity(),
        classes=view.classes(),
        flips=view.flips(),
        confidence=view.confidence(),
        speeds=(),
        notes=tuple(view.notes()),
        custom={name: view.custom(name, made) for name, made in (metrics or {}).items()},
        macs=macs,
    )
    return with_speeds(comparison, fp32_speed, int8_speed, noise)


def fidelity(first: Predictions, second: Predictions, *, seed: int = 0) -> Fidelity:
    """How near the second answers stay to the first. ``seed`` is the bootstrap's. Raises
    DataError."""
    return _View(align(first, second), (), seed).fidelity()


def with_speeds(
    comparison: Comparison,
    fp32_speed: MeasuredTimes,
    int8_speed: MeasuredTimes,
    noise: MeasuredTimes,
) -> Comparison:
    """Add the measurements of both models to a comparison; see ``compare``. Raises DataError."""
    speeds = speeds_of(listed(fp32_speed), listed(int8_speed), listed(noise))
    return comparison.model_copy(update={"speeds": speeds})


class _View:
    """The two aligned predictions with the arrays that every part of the comparison uses."""

    def __init__(self, pair: Aligned, class_names: Sequence[str], seed: int) -> None:
        self.pair, self.seed = pair, seed
        self.first, self.second = pair.first, pair.second
        self.labels = pair.first.labels
        self.class_names = class_names
        self.top_first, self.top_second = self.first.top(5), self.second.top(5)
        self.finite = np.isfinite(self.first.outputs).all(1) & np.isfinite(self.second.outputs).all(
            1
        )
        self.agree = (self.top_first[:, 0] == self.top_second[:, 0]) & (self.top_first[:, 0] >= 0)
        self.sure_first = self._top_probabilities(self.first)
        self.sure_second = self._top_probabilities(self.second)

    def _top_probabilities(self, predictions: Predictions) -> NDArray[np.float64]:
        """The probability of the first answer [n]; 0 where an output is not finite."""
        sure = np.zeros(len(predictions))
        rows = np.isfinite(predictions.outputs).all(1)
        sure[rows] = figures.top_probability(predictions.logits[rows])
        return sure

    def score(
        self, predictions: Predictions, top: NDArray[np.int64], size_bytes: int | None
    ) -> ModelScore:
        def share(k: int) -> Share | None:
            return None if self.labels is None else _share(figures.hits(top[:, :k], self.labels))

        return ModelScore(
            name=predictions.model_name,
            sha256=predictions.model_sha256,
            size_bytes=size_bytes,
            output_kind=predictions.output_kind,
            top1=share(1),
            top5=share(5),
            nonfinite=int((~np.isfinite(predictions.outputs).all(1)).sum()),
        )

    def right(self, k: int = 1) -> tuple[Bools, Bools]:
        """Which images [n] fp32 and int8 have among their first ``k`` answers."""
        assert self.labels is not None
        return (
            figures.hits(self.top_first[:, :k], self.labels),
            figures.hits(self.top_second[:, :k], self.labels),
        )

    def change(self, k: int) -> Change | None:
        return None if self.labels is None else _change(*self.right(k))

    def fidelity(self) -> Fidelity:
        a, b = self.first.logits[self.finite], self.second.logits[self.finite]
        kinds = {self.first.output_kind, self.second.output_kind}
        if len(kinds) > 1:
            a, b = _log_probabilities(a), _log_probabilities(b)
        divergences = figures.kl_divergence(a, b)
        kl = _finite(divergences.mean()) if len(a) else None
        sqnr = figures.sqnr_db(a, b)
        return Fidelity(
            agreement=_share(self.agree, clopper_pearson),
            kl=kl,
            kl_interval=self._kl_interval(divergences) if kl is not None else None,
            kl_p99=None if kl is None else float(np.quantile(divergences, 0.99)),
            kl_max=None if kl is None else float(divergences.max()),
            sqnr_db=sqnr,
            sqnr_p1_db=None if sqnr is None else _first_percentile(figures.image_sqnr_db(a, b)),
            compared="logits" if kinds == {"logits"} else "log-probabilities",
            identical=self._identical,
            unchanged=self._unchanged,
        )

    @cached_property
    def _identical(self) -> bool:
        return self.first.output_kind == self.second.output_kind and np.array_equal(
            self.first.outputs, self.second.outputs, equal_nan=True
        )

    @cached_property
    def _unchanged(self) -> bool:
        """Whether int8's outputs are fp32's. Probabilities are compared bit for bit: near 0 and 1
        all models are similar. A model that never answers (NaN everywhere) is never unchanged."""
        answered = bool((self.top_first[:, 0] >= 0).any())
        if self._identical or {self.first.output_kind, self.second.output_kind} != {"logits"}:
            return self._identical and answered
        same = np.array_equal(self.top_first, self.top_second)
        return same and figures.same_but_rounding(self.first.outputs, self.second.outputs)

    def _kl_interval(self, divergences: NDArray[np.float64]) -> Interval | None:
        return bootstrap_mean(divergences, self.seed) if len(divergences) >= FEWEST else None

    def custom(self, name: str, function: MetricFunction) -> ScoreChange:
        first = image_scores(name, function, self.first)
        second = image_scores(name, function, self.second)
        difference, ratio = bootstrap_decline(first, second, self.seed)
        fp32, int8 = float(first.mean()), float(second.mean())
        return ScoreChange(
            n=len(first),
            fp32=fp32,
            int8=int8,
            lower=int((second < first).sum()),
            higher=int((second > first).sum()),
            difference=fp32 - int8,
            difference_interval=difference,
            ratio=None if ratio is None else (fp32 - int8) / fp32,
            ratio_interval=ratio,
        )

    def classes(self) -> tuple[ClassChange, ...]:
        if self.labels is None:
            return ()
        labels = self.labels
        first, second = self.right()
        columns = [np.ones_like(first), first, second, first & ~second, second & ~first]
        counts = [np.bincount(labels[column], minlength=1) for column in columns]
        size = len(counts[0])
        table = np.stack([np.pad(c, (0, size - len(c))) for c in counts], axis=1)
        return tuple(
            ClassChange(
                index=i, name=self.class_name(i), n=n, fp32_right=f, int8_right=q, lost=x, gained=g
            )
            for i, (n, f, q, x, g) in enumerate(table.tolist())
            if n
        )

    def class_name(self, index: int) -> str:
        return self.class_names[index] if 0 <= index < len(self.class_names) else ""

    def flips(self) -> tuple[Flip, ...]:
        """At most FLIPS_KEPT of each kind, those that fp32 was surest of first."""
        differ = ~self.agree
        lost, gained = np.zeros_like(differ), np.zeros_like(differ)
        if self.labels is not None:
            first, second = self.right()
            lost, gained = first & ~second, second & ~first
        kinds: dict[FlipKind, Bools] = {
            "lost": lost,
            "gained": gained,
            "changed": differ & ~lost & ~gained,
        }
        order = np.argsort(-self.sure_first, kind="stable")
        return tuple(
            self._flip(int(i), kind)
            for kind, which in kinds.items()
            for i in order[which[order]][:FLIPS_KEPT]
        )

    def _flip(self, i: int, kind: FlipKind) -> Flip:
        label = None if self.labels is None else int(self.labels[i])
        return Flip(
            image=self.first.names[i],
            kind=kind,
            label=label,
            label_name="" if label is None else self.class_name(label),
            fp32=self._answer(int(self.top_first[i, 0]), float(self.sure_first[i])),
            int8=self._answer(int(self.top_second[i, 0]), float(self.sure_second[i])),
        )

    def _answer(self, index: int, probability: float) -> Answer:
        return Answer(index=index, name=self.class_name(index), probability=probability)

    def confidence(self) -> Confidence:
        return Confidence(
            fp32=_bins(self.sure_first),
            int8=_bins(self.sure_second),
            changed=_bins(self.sure_first[~self.agree]),
        )

    def notes(self) -> Iterable[str]:
        first, second = self.first, self.second
        if self.pair.only_first or self.pair.only_second:
            yield (
                f"Only the {len(first)} images that both models were evaluated on are compared; "
                f"{self.pair.only_first} of {first.model_name} and {self.pair.only_second} of "
                f"{second.model_name} are left out."
            )
        if dict(first.pipeline) != dict(second.pipeline):
            yield (
                "The two models saw differently preprocessed images: "
                f"{first.pipeline.get('name', '?')} and {second.pipeline.get('name', '?')}. "
                "The differences are not the quantization's alone."
            )
        for predictions in (first, second):
            broken = int((~np.isfinite(predictions.outputs).all(1)).sum())
            if broken:
                yield f"{predictions.model_name} gave a NaN or an infinity on {broken} images."
            tied = int(figures.tied_first(predictions.outputs).sum())
            if tied:
                yield (
                    f"{predictions.model_name} gives two classes the same highest score on {tied} "
                    "images; the lower class index counts as its answer. A tool that breaks ties "
                    "in another way finds another accuracy."
                )
        if self.labels is not None and is_implausible(
            _share(self.right()[0]), first.outputs.shape[1]
        ):
            yield (
                f"{first.model_name} is hardly better than guessing on these images: the labels "
                "are probably in another order, or the preprocessing is not the model's."
            )
        if first.model_sha256 == second.model_sha256 and not self._unchanged:
            yield (
                "Both are the same file, and yet its answers differ: another preprocessing, CPU or "
                "version of onnxruntime gave them."
            )


def _log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clipped where a softmax's own output is, so that the clipping does not look like noise."""
    floor = np.log(figures.SMALLEST_PROBABILITY)
    return np.maximum(figures.log_softmax(logits), floor).astype(np.float32)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _first_percentile(decibels: NDArray[np.float64]) -> float:
    return float(np.quantile(decibels, 0.01))


def _share(which: Bools, interval: Callable[[int, int], Interval] = wilson) -> Share:
    count, n = int(which.sum()), len(which)
    return Share(count=count, n=n, value=count / n, interval=interval(count, n))


def _bins(probabilities: NDArray[np.float64]) -> tuple[int, ...]:
    counts, _ = np.histogram(probabilities, CONFIDENCE_BINS, range=(0, 1))
    return tuple(int(c) for c in counts)


def _change(first: Bools, second: Bools) -> Change:
    n, both = len(first), int((first & second).sum())
    lost, gained = int((first & ~second).sum()), int((~first & second).sum())
    known = both + lost > 0
    return Change(
        n=n,
        both=both,
        lost=lost,
        gained=gained,
        difference=(lost - gained) / n,
        difference_interval=paired_difference(lost, gained, n),
        ratio=(lost - gained) / (both + lost) if known else None,
        ratio_interval=decline_of(paired_ratio(both, lost, gained)) if known else None,
        mcnemar_p=mcnemar_exact(lost, gained),
    )
