"""Check whether two models can be fp32 and its int8 version. Pure.

- Exchanged: the first is quantized and the second is not. That is refused.
- Unrelated: the second names no such source, its outputs are far from the first's, it holds less
  than half of its weights, and yet its answers agree more than by chance. So it works, as another
  network: what the two differ by is not quantization's doing, and a verdict is refused. A broken
  int8 file holds fp32's weights, or agrees by chance alone; it fails by its verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from quantlab.compare.comparison import Comparison
from quantlab.compare.origin import Origin
from quantlab.errors import DataError
from quantlab.evaluate.predictions import Predictions

FAR_DB = 10.0
"""Below this the difference of all outputs has more than a tenth of their power."""
FEW_WEIGHTS = 0.5


@dataclass(frozen=True)
class Named:
    """A model and what its file states: ``source`` is the sha256 of the fp32 file it was made from,
    "" when it names none."""

    file: str
    sha256: str
    quantized: bool
    source: str = ""


def check_order(fp32: Named, int8: Named, remedy: str) -> None:
    """Raises DataError when the two models are exchanged; ``remedy`` is the right order."""
    if fp32.quantized and not int8.quantized:
        raise DataError(
            f"{fp32.file} is quantized and {int8.file} is not: the fp32 model comes first, then "
            "its int8 version.",
            remedy,
        )


def lead_of(fp32: Named, int8: Named) -> tuple[str, ...]:
    """Sentences to show before the verdict; none in the usual case."""
    if fp32.sha256 == int8.sha256:
        return ()
    found = []
    if fp32.quantized:
        found.append(f"Both models are quantized: what is said of fp32 is {fp32.file}'s.")
    elif not int8.quantized:
        found.append(f"Neither model is quantized: what is said of int8 is {int8.file}'s.")
    source = fp32.source if fp32.quantized else fp32.sha256
    if int8.source and source and int8.source != source:
        found.append(
            f"{int8.file} says that it was made from another fp32 file (sha256 "
            f"{int8.source[:12]}) than {fp32.file} (sha256 {source[:12]})."
            if not fp32.quantized
            else f"{fp32.file} and {int8.file} say that they were made from different fp32 files "
            f"(sha256 {source[:12]} and {int8.source[:12]})."
        )
    return tuple(found)


def check_related(
    fp32: Named,
    int8: Named,
    comparison: Comparison,
    answers: tuple[Predictions, Predictions],
    origin: Callable[[], Origin | None],
) -> str:
    """A warning about two models whose outputs are far apart, "" when they are not.

    ``origin`` looks for fp32's weights in int8; it is asked only where that matters, and gives None
    where there are none to look at. Raises DataError for unrelated models.
    """
    sqnr = comparison.fidelity.sqnr_db
    if sqnr is None or sqnr >= FAR_DB or (int8.source and int8.source == fp32.sha256):
        return ""
    same, apart = comparison.fidelity.agreement, f"SQNR {sqnr:.1f} dB"
    found = origin()
    if found is None:
        return (
            f"The outputs of {int8.file} are far from those of {fp32.file} ({apart}): if it is no "
            "version of the same network, the verdict says nothing of quantization."
        )
    if found.kept >= FEW_WEIGHTS:
        return ""
    holds = f"{int8.file} holds {found.kept:.0%} of the weights of {fp32.file}"
    if same.interval.low <= chance_agreement(*answers):
        return (
            f"{holds}, and its answers agree by chance alone: it is broken, or another network's."
        )
    if not (fp32.quantized or int8.quantized) and found.shaped == 1:
        return f"{holds}, in the same shapes: it was trained anew."
    raise DataError(
        f"{int8.file} is another network than {fp32.file}: it holds {found.kept:.0%} of the "
        f"other's weights, and its outputs are far from the other's ({apart}, the same first "
        f"answer on {same.count:,} of {same.n:,} images): no verdict on them is on quantization.",
        "Compare a model with its own quantized version; quantlab evaluate says how accurate each "
        "one is.",
    )


def chance_agreement(first: Predictions, second: Predictions) -> float:
    """How often two models that answer each class as often as these, but independently of the
    image, give the same first answer."""
    classes = first.outputs.shape[1]
    shares = []
    for answers in (first.top(1)[:, 0], second.top(1)[:, 0]):
        known = answers[answers >= 0]
        shares.append(np.bincount(known, minlength=classes) / max(1, len(answers)))
    return float(shares[0] @ shares[1])
