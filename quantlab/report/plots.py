"""Draw the plots of reports as SVG files, and of inspections as PNG files. matplotlib is imported
when there is something to draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from quantlab._util.files import write_whole
from quantlab.report.plot_metadata import marked_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from quantlab.compare.comparison import Comparison
    from quantlab.inspect.layers import LayerReport
    from quantlab.inspect.profile import Profile
    from quantlab.inspect.sensitivity import Sensitivity
    from quantlab.report.context import ReportContext
    from quantlab.runs.trend import Series

PlotFacts = list[object]
"""All that decides a plot, for JSON."""
Kept = Callable[[str, PlotFacts, Callable[[], bytes | None]], bytes | None]
"""A plot by name and facts: one drawn before, or what the function draws."""


def drawn_anew(name: str, facts: PlotFacts, paint: Callable[[], bytes | None]) -> bytes | None:
    """Draw each plot without a cache."""
    return paint()


def draw(
    comparison: Comparison, context: ReportContext, kept: Kept = drawn_anew
) -> dict[str, bytes]:
    """Every plot that there are data for, by name, as an SVG file."""
    classes = comparison.classes
    changed = [c.model_dump() for c in classes if c.lost or c.gained]
    right = [(c.n, c.fp32_right, c.int8_right) for c in classes] if changed else []
    layers = context.layers
    known: dict[str, tuple[object, PlotFacts]] = {
        "classes": (comparison, list(changed)),
        "scatter": (comparison, list(right)),
        "confidence": (comparison, [comparison.confidence.model_dump()]),
        "layers": (layers, [] if layers is None else [layers.model_dump()]),
    }
    library = metadata.version("matplotlib")
    drawn = {
        "latency": _paint("latency", comparison) if comparison.speeds else None,
        **{
            name: kept(name, [library, *facts], _painter(name, subject))
            for name, (subject, facts) in known.items()
            if facts
        },
        "tradeoff": _paint("tradeoff", context.trials) if len(context.trials) > 1 else None,
    }
    return {name: content for name, content in drawn.items() if content is not None}


def _painter(name: str, subject: object) -> Callable[[], bytes | None]:
    return lambda: _paint(name, subject)


def _paint(name: str, subject: object, form: Literal["svg", "png"] = "svg") -> bytes | None:
    """The figure of that name as a file, None where there is nothing to see."""
    from quantlab.report import drawings

    figure: Figure | None = getattr(drawings, name)(subject)
    return None if figure is None else getattr(drawings, form)(figure)


def save_layers(report: LayerReport, path: Path) -> None:
    """Draw the layers' SQNR into a file. Raises OutputError."""
    _save("layers", report, path)


def save_profiles(profiles: Sequence[Profile], path: Path) -> None:
    """Draw the operators' times into a file. Raises OutputError."""
    _save("operators", profiles, path)


def save_sensitivity(found: Sensitivity, path: Path) -> None:
    """Draw what each group costs into a file. Raises OutputError."""
    _save("sensitivity", found, path)


def save_trend(series: Sequence[Series], path: Path) -> None:
    """Draw a model's figures over runs into a .png or .svg file. Raises OutputError."""
    _save("trend", series, path, "svg" if path.suffix.lower() == ".svg" else "png")


def trend_svg(series: Sequence[Series]) -> bytes:
    """A model's figures over runs as an SVG file."""
    drawn = _paint("trend", series)
    assert drawn is not None
    return drawn


def _save(name: str, subject: object, path: Path, form: Literal["svg", "png"] = "png") -> None:
    if (content := _paint(name, subject, form)) is not None:
        write_whole(path, marked_svg(content) if form == "svg" else content)
