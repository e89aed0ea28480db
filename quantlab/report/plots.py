"""The plots of a report, as PNG files. matplotlib is imported when there is something to draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.comparison import Comparison
from quantlab.report.context import TrialRow
from quantlab.store import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from quantlab.inspect.layers import LayerReport
    from quantlab.inspect.profile import Profile
    from quantlab.inspect.sensitivity import Sensitivity

Facts = list[object]
"""All that decides a plot, for JSON."""
Kept = Callable[[str, Facts, Callable[[], bytes | None]], bytes | None]
"""A plot by name and facts: one drawn before, or what the function draws."""


def drawn_anew(name: str, facts: Facts, paint: Callable[[], bytes | None]) -> bytes | None:
    """Keeps nothing."""
    return paint()


def draw(
    comparison: Comparison,
    folder: Path,
    trials: Sequence[TrialRow] = (),
    kept: Kept = drawn_anew,
) -> dict[str, str]:
    """Draw what the comparison has data for; maps each plot's name to its file name in ``folder``.

    Raises OutputError.
    """
    changed = [c.model_dump() for c in comparison.classes if c.lost or c.gained]
    seen = comparison.confidence.model_dump()
    facts: dict[str, Facts] = {"classes": list(changed), "confidence": [seen]}
    drawn = {
        "latency": _paint("latency", comparison) if comparison.speeds else None,
        **{
            name: kept(name, [metadata.version("matplotlib"), *data], _painter(name, comparison))
            for name, data in facts.items()
        },
        "tradeoff": _paint("tradeoff", trials) if len(trials) > 1 else None,
    }
    found = {name: content for name, content in drawn.items() if content is not None}
    for name, content in found.items():
        write_whole(folder / f"{name}.png", content)
    return {name: f"{name}.png" for name in found}


def _painter(name: str, subject: object) -> Callable[[], bytes | None]:
    return lambda: _paint(name, subject)


def _paint(name: str, subject: object) -> bytes | None:
    """The figure of that name as a PNG file, None where there is nothing to see."""
    from quantlab.report import figures

    figure: Figure | None = getattr(figures, name)(subject)
    return None if figure is None else figures.png(figure)


def save_layers(report: LayerReport, path: Path) -> None:
    """Draw the layers' SQNR into a file. Raises OutputError."""
    _save("layers", report, path)


def save_profiles(profiles: Sequence[Profile], path: Path) -> None:
    """Draw the operators' times into a file. Raises OutputError."""
    _save("operators", profiles, path)


def save_sensitivity(found: Sensitivity, path: Path) -> None:
    """Draw what each group costs into a file. Raises OutputError."""
    _save("sensitivity", found, path)


def _save(name: str, subject: object, path: Path) -> None:
    if (content := _paint(name, subject)) is not None:
        write_whole(path, content)
