"""Say whether int8 is faster than fp32, which share of the MACs is in int8, what is left in
fp32."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from quantlab.compare.comparison import Comparison, LeftInFp32, Macs, Speed
from quantlab.inspect.int8_share import NOT_QUANTIZED
from quantlab.report.context import TrialRow
from quantlab.report.formats import percent, times, times_span
from quantlab.report.placement import LEAST_SHARE

OPERATORS_NAMED = 4
LEAST = 0.001
"""Shares are told to this fraction."""


def worth(c: Comparison, trials: Sequence[TrialRow] = ()) -> str:
    """Sentences for int8 that is not shown to be faster at every batch size that was timed, has no
    MAC in int8, or was not timed and is predicted to be slower; "" when it is faster, or nothing
    is known. ``trials`` are a tune's."""
    if c.fp32.sha256 == c.int8.sha256:
        return ""
    found = _speeds(c) or _own_trial(c, trials) or _without_int8(c) or _predicted(c)
    if not found:
        return ""
    parts = [found, _others(trials), "" if c.macs is None else macs_sentence(c.macs)]
    return " ".join(part for part in parts if part)


def _speeds(c: Comparison) -> str:
    conclusions = {speed.conclusion for speed in c.speeds}
    if conclusions <= {"faster"}:
        return ""
    lead = "does not pay" if "slower" in conclusions else "is not shown to pay"
    return f"int8 {lead} on this machine: {'; '.join(map(_speed, c.speeds))}."


def _speed(speed: Speed) -> str:
    at = f"at batch {speed.batch_size}"
    figures = f"speedup {times(speed.speedup)}, 95% interval {times_span(speed.interval)}"
    match speed.conclusion:
        case "slower":
            return f"{times(1 / speed.speedup)} slower than fp32 {at} ({figures})"
        case "faster":
            return f"{times(speed.speedup)} faster than fp32 {at} ({figures})"
        case "same":
            return f"{at} its speed could not be told apart from fp32's ({figures})"
        case "too noisy":
            noise = (
                "" if speed.noise is None else f"; fp32 against itself {times_span(speed.noise)}"
            )
            return (
                f"{at} its speed could not be told apart from fp32's on a machine this noisy "
                f"({figures}{noise})"
            )


def _own_trial(c: Comparison, trials: Sequence[TrialRow]) -> str:
    """Of a tune that ended before the best file was timed at length."""
    chosen = next((t for t in trials if t.chosen), None)
    if c.speeds or chosen is None or chosen.faster is not False:
        return ""
    return (
        "int8 is not shown to pay on this machine: in its trial the best file ran at "
        f"{times(chosen.speedup)} of fp32's speed."
    )


def _without_int8(c: Comparison) -> str:
    """Of a quantized file in which no MAC is."""
    if c.macs is None or c.macs.int8 > 0 or all(x.reason == NOT_QUANTIZED for x in c.macs.fp32):
        return ""
    if c.speeds:
        return "No MAC is in int8: what is faster is the fp32 graph, as it was prepared."
    return "int8 cannot pay: nothing was timed, but no MAC is in int8."


def _predicted(c: Comparison) -> str:
    """Of a file that was not timed, and says itself that it is slower."""
    if c.speeds or c.predicted_speedup is None or c.predicted_speedup >= 1 - LEAST_SHARE:
        return ""
    return (
        "int8 is predicted not to pay: nothing was timed; by the costs of operators the file is "
        f"{times(1 / c.predicted_speedup)} slower than fp32."
    )


def _others(trials: Sequence[TrialRow]) -> str:
    """What the other files of a tune were like."""
    timed = [t for t in trials if t.faster is not None]
    missing = [t for t in timed if t.faster and not t.meets]
    if missing:
        best = max(missing, key=lambda t: t.speedup or 0)
        return f"{best.recipe} is faster ({times(best.speedup)}), but misses the criterion."
    if len(timed) > 1 and not any(t.faster for t in timed):
        return f"None of the {len(timed)} files that were timed is faster."
    return ""


def macs_sentence(macs: Macs) -> str:
    """``98.2% of the MACs are in int8; left in fp32: …``."""
    shown = macs.fp32[:OPERATORS_NAMED]
    named = [
        f"{', '.join(f'{x.nodes} {x.op_type}' for x in alike)} ({why})"
        for why, alike in groupby(shown, key=_why)
    ]
    if more := len(macs.fp32) - len(shown):
        named.append(f"and {more} more kind{'s' * (more > 1)}")
    left = f"left in fp32: {', '.join(named)}" if named else "nothing that computes is left in fp32"
    return f"{macs_words(macs.int8)} of the MACs are in int8; {left}."


def macs_words(share: float) -> str:
    """In percent; neither nothing nor all of it where that is not so."""
    if 0 < share < LEAST:
        return f"under {percent(LEAST, 1)}"
    return f"over {percent(1 - LEAST, 1)}" if 1 - LEAST < share < 1 else percent(share, 1)


def _why(x: LeftInFp32) -> str:
    share = f"{macs_words(x.share)} of the MACs" if x.share else "no MACs"
    return f"{share}; {x.reason}"
