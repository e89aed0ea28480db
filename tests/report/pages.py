"""A comparison and what a report tells about it, made up."""

from __future__ import annotations

from quantlab.compare.compare import compare
from quantlab.compare.comparison import Comparison, Macs
from quantlab.report.context import ReportContext
from quantlab.testing import fake_measurement, fake_predictions

CONTEXT = ReportContext(
    command="quantlab compare a.onnx b.onnx",
    environment={"CPU": "Some CPU", "int8 instructions": "AVX-512 VNNI"},
    calibration={"images": "1,000"},
    recipe={"name": "qdq-mean", "exclude": ("conv1", "conv2")},
    warnings=("This CPU has no VNNI.",),
)


def made(
    n: int = 1300,
    flip: float = 0.08,
    *,
    labelled: bool = True,
    classes: int = 30,
    kind: str = "kind <{}>, other | name",
    int8_ms: float = 5,
    macs: Macs | None = None,
) -> Comparison:
    """A comparison of ``n`` images, of which int8 answers the share ``flip`` differently."""
    return compare(
        fake_predictions(n, classes, 0, 1, labelled, name="zoo"),
        fake_predictions(n, classes, flip, 1, labelled, name="zoo-int8"),
        fp32_speed=fake_measurement("zoo", 10, seed=1),
        int8_speed=fake_measurement("zoo-int8", int8_ms, seed=2),
        noise=fake_measurement("zoo", 10, seed=3),
        class_names=[kind.format(i) for i in range(classes)],
        macs=macs,
    )
