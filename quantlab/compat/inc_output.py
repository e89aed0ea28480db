"""Results in the line format of Neural Compressor's example, for scripts that read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantlab.bench.measurement import BenchResult
    from quantlab.evaluate.accuracy import Accuracy


def inc_accuracy(batch_size: int, accuracy: Accuracy) -> str:
    """The accuracy line of Neural Compressor's example: top-1 as a fraction."""
    return f"Batch size = {batch_size}\nAccuracy: {accuracy.top1.value:.5f}"


def inc_performance(result: BenchResult) -> str:
    """The latency and throughput lines of Neural Compressor's example, for each model and batch
    size.

    Its latency is a step's time by the batch size; here the step is the median one.
    """
    return "\n".join(
        f"Batch size = {m.conditions.batch_size}\n"
        f"Latency: {m.p50 / m.conditions.batch_size:.3f} ms\n"
        f"Throughput: {m.images_per_second:.3f} images/sec"
        for row in result.measurements
        for m in row
    )
