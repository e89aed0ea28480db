"""Format a preprocessing audit as text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from quantlab.data.preprocess import PIPELINES
from quantlab.errors import DataError
from quantlab.evaluate.accuracy import is_guessing
from quantlab.inspect.preprocessing_audit import Audit, Tried
from quantlab.report.formats import percent, percents, points, points_span, table
from quantlab.stats.paired import Interval, Share


def audit_summary(found: Audit) -> str:
    """The table, then which pipeline is right, what wrong ones cost, and whether ours is right."""
    head = ["pipeline", "the model sees", "top-1", "95%", "behind", "95%, all"]
    rows = [
        [x.name, x.sees, percent(x.top1.value), _span(x.top1.interval), *_behind(x, found)]
        for x in found.tried
    ]
    lines = [
        f"{found.model} through {len(found.tried)} pipelines on the same {found.images} images",
        "",
        table(head, rows, right="  rrrr"),
        "",
        _verdict(found),
        *_costs(found),
        _chosen(found),
        *([] if found.published is None else [_published(found, found.published)]),
        *(f"Left out: {name}: {reason.rstrip('.')}." for name, reason in found.left_out.items()),
    ]
    return "\n".join(lines)


def _behind(x: Tried, found: Audit) -> list[str]:
    if x is found.best:
        return ["best", ""]
    return [f"{100 * x.behind:.1f}", _span(x.interval)]


def _span(interval: Interval) -> str:
    """An interval in percent, without the sign."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _verdict(found: Audit) -> str:
    names = [x.name for x in found.group]
    if not found.settled:
        return (
            f"Most likely trained for {found.best.sees} ({names[0]}), but not settled on "
            f"{found.images} images:\n{_listed(names)} cannot be told apart. "
            "More images (--images) tell more."
        )
    if len(names) == 1:
        return f"Trained for {found.best.sees}: {names[0]}."
    return f"Trained for {found.best.sees}: {_listed(names)} cannot be told apart."


def _costs(found: Audit) -> list[str]:
    if not found.wrong:
        return []
    near, far = found.wrong[0], found.wrong[-1]
    least = f"Of the wrong ones {near.name} costs least, {_cost(near)}"
    return (
        [f"{least};", f"{far.name} costs most, {_cost(far)}."] if far is not near else [f"{least}."]
    )


def _cost(x: Tried) -> str:
    return f"{points(x.behind)} ({_span(x.interval)})"


def _chosen(found: Audit) -> str:
    own = found.of_chosen
    if own.surely_worse:
        return (
            f"quantlab would take {own.name}, which is WRONG and costs {_cost(own)}:\n"
            f"{remedy(found.best)}."
        )
    sure = "is right" if found.settled else "may be right"
    return f"quantlab would take {own.name}, which {sure}."


def remedy(best: Tried) -> str:
    """How to use this pipeline, in one sentence."""
    if best.name in PIPELINES:
        return f"give --pipeline {best.name}"
    base = best.name.split(" in ")[0]
    return f"give --pipeline a YAML file: {base} with color: {best.color}"


def _published(found: Audit, published: float) -> str:
    fits, figure = found.fitting, f"The published {percent(published)}"
    if found.best in fits:
        return f"{figure} fits {found.best.name} ({percents(found.best.top1.interval)})."
    away = "above" if published > found.best.top1.value else "below"
    own = f"{found.best.name} gives here ({percents(found.best.top1.interval)})"
    text = f"{figure} is {away} what {own}"
    if not fits:
        return f"{text}\nand fits no other pipeline either: other images, or other weights."
    return (
        f"{text}.\nIt fits {_listed([x.name for x in fits])}: it was scored so, "
        "or on other images than these."
    )


def quick_warning(found: Audit) -> str:
    """A warning in two lines that another pipeline is better, for a tune about to start."""
    own = found.of_chosen
    return (
        f"The pipeline {own.name} seems wrong for {found.model}: {_better(found)}.\n"
        f"Better {remedy(found.best)}; quantlab inspect --preprocess-audit says more"
    )


def _better(found: Audit) -> str:
    own, best = found.of_chosen, found.best
    return (
        f"on {found.images} images top-1 is {percent(own.top1.value, 1)}, with {best.sees} (as "
        f"{best.name}) {percent(best.top1.value, 1)}, {points_span(own.interval)} more"
    )


def low_accuracy(model: str, file: str, top1: Share, classes: int, found: Audit | None) -> str:
    """A warning in two lines that an accuracy is implausibly low; ``found`` is the quick audit."""
    problem = f"{model} {_guesses(top1, classes)}"
    return f"{problem}. {_finding(found)}\n{_mending(file, found)}"


def guessing_error(
    model: str, file: str, top1: Share, classes: int, found: Audit | None, *, looked: bool = True
) -> DataError:
    """The same for a model that is to be judged by; ``looked``: whether there was a quick look."""
    problem = f"{model} {_guesses(top1, classes)}, and nothing can be judged by it."
    return DataError(f"{problem} {_finding(found)}" if looked else problem, _mending(file, found))


def _guesses(top1: Share, classes: int) -> str:
    sure = "no" if is_guessing(top1, classes) else "hardly"
    return (
        f"is right on {top1.count:,} of {top1.n:,} images ({percent(top1.value, 1)}), {sure} "
        f"better than guessing among {classes:,} classes"
    )


def _finding(found: Audit | None) -> str:
    if found is None:
        return "A quick preprocessing audit found no way to normalize that does better."
    return f"A quick preprocessing audit: {_better(found)}."


def _mending(file: str, found: Audit | None) -> str:
    audit = f"quantlab inspect {shlex.quote(file)} --preprocess-audit"
    if found is None:
        return f"Check the order of the labels and the preprocessing (--pipeline): {audit}"
    way = remedy(found.best)
    return f"{way[0].upper()}{way[1:]}; {audit} says more."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
