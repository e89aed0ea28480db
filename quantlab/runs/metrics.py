"""The metrics of the history: their names, and how their values are shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HistoryMetric:
    """How a metric is shown: a stored value times ``scale`` is in the ``unit`` and has so many
    ``decimals``."""

    title: str
    unit: str = "%"
    scale: float = 100
    decimals: int = 2


METRICS = {
    "top1": HistoryMetric("top-1"),
    "top5": HistoryMetric("top-5"),
    "decline": HistoryMetric("top-1 decline"),
    "agreement": HistoryMetric("agreement with fp32"),
    "kl": HistoryMetric("KL to fp32, nats", "nats", 1, 4),
    "latency": HistoryMetric("latency, ms a batch", "ms", 1, 2),
    "speedup": HistoryMetric("speedup over fp32", "times", 1, 3),
    "int8_macs": HistoryMetric("MACs in int8"),
}
"""Every metric, in the order in which they are listed."""
