"""Cache small results of long computations in the cache folder."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from quantlab._util.cache import cache_limit, touch, trim
from quantlab._util.files import write_whole
from quantlab._util.paths import cache_dir
from quantlab._util.source import source_digest
from quantlab.data.crops import CROPS_FORMAT, Crops, decoder
from quantlab.errors import OutputError
from quantlab.inspect.layers import LayerReport
from quantlab.model.model import Model
from quantlab.runtime.environment import environment, versions


def remembered(
    what: str, models: tuple[Model, ...], crops: Crops, rows: slice, make: Callable[[], Any]
) -> Any:
    """The result of ``make``, a value for JSON, for these models and these rows of the crops; from
    the cache where the same quantlab, libraries and kind of CPU made it before."""
    subjects = [[m.sha256, m.input.layout, m.output_kind] for m in models]
    images = [crops.digests[rows], crops.pipeline.model_dump(mode="json"), CROPS_FORMAT]
    libraries = [versions(), environment()["isa"]]
    parts = [subjects, images, decoder(crops.pipeline), libraries]
    return _kept(what, f"{what} of {models[-1].name}", parts, make)


def known_macs(model: Model, make: Callable[[], dict[str, int]]) -> dict[str, int]:
    """The MACs of the model's nodes as ``make`` counts them, or as they were counted before."""
    facts = [model.sha256, model.input.layout, *model.input.sides]
    found: dict[str, int] = _kept("macs", f"MACs of {model.name}", facts, make)
    return found


def known_plot(name: str, facts: list[object], paint: Callable[[], bytes | None]) -> bytes | None:
    """The cached SVG of a report's plot drawn from the same facts, if any."""

    def drawn() -> str | None:
        content = paint()
        return None if content is None else base64.b64encode(content).decode()

    text = _kept(f"plot {name}", f"plot of {name}", facts, drawn)
    return None if text is None else base64.b64decode(text)


def keep_layers(fp32: str, int8: str, found: LayerReport) -> None:
    """Cache the layer report of these two models, so that their reports can show it."""
    place = _place("layers", [fp32, int8])
    _keep(place, f"layers of {found.int8}", found.model_dump(mode="json"))


def known_layers(fp32: str, int8: str) -> LayerReport | None:
    """The cached layer report of these two models, if ``inspect --layers`` has made one."""
    try:
        return LayerReport.model_validate(_value(_place("layers", [fp32, int8])))
    except _UNKNOWN:
        return None


def _kept(what: str, subject: str, parts: list[Any], make: Callable[[], Any]) -> Any:
    path = _place(what, parts)
    try:
        return _value(path)
    except _UNKNOWN:
        value = make()
        _keep(path, subject, value)
        return value


_UNKNOWN = (OSError, ValueError, KeyError, TypeError)


def _place(what: str, parts: list[Any]) -> Path:
    text = json.dumps([what, parts, source_digest()])
    return cache_dir() / "checks" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _value(path: Path) -> Any:
    value = json.loads(path.read_bytes())["value"]
    touch(path)
    return value


def _keep(path: Path, subject: str, value: Any) -> None:
    with suppress(OutputError):
        write_whole(path, json.dumps({"of": subject, "value": value}))
    trim(cache_dir(), cache_limit())
