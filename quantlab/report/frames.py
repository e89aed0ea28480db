"""Convert results to pandas data frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from quantlab.bench.measurement import Measurement
from quantlab.compare.comparison import Change, Comparison, Latency
from quantlab.evaluate.metrics import top_probability
from quantlab.evaluate.predictions import Predictions
from quantlab.stats.paired import Interval, Share
from quantlab.tune.trials import Trial, pareto_front

ANSWERS = 5
FrameRow = tuple[str, str, float | None, float | None, Interval | None]
"""The figure, its unit, fp32's, int8's, and the interval."""


def predictions_frame(predictions: Predictions) -> pd.DataFrame:
    """See ``Predictions.to_frame``."""
    top = predictions.top(ANSWERS)
    finite = np.isfinite(predictions.outputs).all(1)
    probability = np.full(len(predictions), np.nan)
    probability[finite] = top_probability(predictions.logits[finite])
    labels = predictions.labels
    return pd.DataFrame(
        {
            "image": list(predictions.names),
            "label": pd.array([None] * len(predictions) if labels is None else labels, "Int64"),
            **{f"top{k + 1}": top[:, k] for k in range(top.shape[1])},
            "probability": probability,
        }
    )


def comparison_frame(c: Comparison) -> pd.DataFrame:
    """See ``Comparison.to_frame``."""
    fidelity = c.fidelity
    rows: list[FrameRow] = [
        *_accuracy("top-1", c.fp32.top1, c.int8.top1, c.top1),
        *_accuracy("top-5", c.fp32.top5, c.int8.top5, c.top5),
        *(
            (name, "score", change.fp32, change.int8, _negative(change.difference_interval))
            for name, change in c.custom.items()
        ),
        ("agreement", "fraction", None, fidelity.agreement.value, fidelity.agreement.interval),
        ("KL", "nats", None, fidelity.kl, fidelity.kl_interval),
        ("KL, 99th percentile", "nats", None, fidelity.kl_p99, None),
        ("KL, largest", "nats", None, fidelity.kl_max, None),
        ("SQNR", "dB", None, fidelity.sqnr_db, None),
        ("SQNR, 1st percentile", "dB", None, fidelity.sqnr_p1_db, None),
        ("size", "bytes", c.fp32.size_bytes, c.int8.size_bytes, None),
    ]
    for speed in c.speeds:
        at = f"batch {speed.batch_size}"
        rows += [*_latency(at, speed.fp32, speed.int8)]
        rows.append((f"speedup, {at}", "fp32 / int8", None, speed.speedup, speed.interval))
    table = [
        {
            "figure": name,
            "unit": unit,
            "fp32": fp32,
            "int8": int8,
            "difference": None if fp32 is None or int8 is None else int8 - fp32,
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
        }
        for name, unit, fp32, int8, interval in rows
    ]
    numbers = dict.fromkeys(("fp32", "int8", "difference", "low", "high"), float)
    return pd.DataFrame(table).astype(numbers).set_index("figure")


def _accuracy(
    name: str, fp32: Share | None, int8: Share | None, change: Change | None
) -> Iterable[FrameRow]:
    if fp32 is not None and int8 is not None and change is not None:
        yield name, "fraction", fp32.value, int8.value, _negative(change.difference_interval)


def _negative(interval: Interval) -> Interval:
    """Of int8 - fp32, where it is one of fp32 - int8."""
    return Interval(-interval.high, -interval.low)


def _latency(at: str, fp32: Latency, int8: Latency) -> Iterable[FrameRow]:
    yield f"p50, {at}", "ms", fp32.p50, int8.p50, None
    yield f"p99, {at}", "ms", fp32.p99, int8.p99, None


def classes_frame(c: Comparison) -> pd.DataFrame:
    """See ``Comparison.classes_frame``."""
    rows = [
        (x.name, x.n, x.fp32_right, x.int8_right, x.lost, x.gained, x.net_loss) for x in c.classes
    ]
    columns = ["name", "images", "fp32_right", "int8_right", "lost", "gained", "net_loss"]
    index = pd.Index([x.index for x in c.classes], name="class")
    return pd.DataFrame(rows, columns=columns, index=index)


def measurement_frame(m: Measurement) -> pd.DataFrame:
    """See ``Measurement.to_frame``."""
    rows = [(i, k, ms) for i, runs in enumerate(m.rounds) for k, ms in enumerate(runs)]
    return pd.DataFrame(rows, columns=["round", "run", "milliseconds"])


def latency_frame(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """See ``BenchResult.to_frame``."""
    return pd.DataFrame(
        [
            {
                "model": m.model_name,
                "batch_size": m.conditions.batch_size,
                "p50": m.p50,
                "p90": m.p90,
                "p99": m.p99,
                "mean": m.mean,
                "std": m.std,
                "images_per_second": m.images_per_second,
            }
            for m in measurements
        ]
    )


def trials_frame(trials: Sequence[Trial], chosen: Trial) -> pd.DataFrame:
    """See ``TuneResult.trials_frame``."""
    front = {trial.digest for trial in pareto_front(trials)}
    return pd.DataFrame([_trial(t, t.digest in front, t.digest == chosen.digest) for t in trials])


def _trial(t: Trial, front: bool, chosen: bool) -> dict[str, object]:
    names = ("top1", "decline", "agreement", "kl", "speedup", "meets")
    measured = {name: getattr(t.scores, name) if t.scores else None for name in names}
    return {
        "number": t.number,
        "recipe": t.recipe.name,
        "status": t.status,
        **measured,
        "size_bytes": t.size_bytes,
        "seconds": t.seconds,
        "front": front,
        "chosen": chosen,
        "error": t.error or "",
    }
