"""Cache small results of long computations in the cache folder."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from quantlab._util.cache import Store, key_of
from quantlab._util.source import source_digest
from quantlab.data.crops import CROPS_FORMAT, Crops, decoder
from quantlab.model.kinds import ONNX_RUNTIME
from quantlab.model.model import Model
from quantlab.runtime.environment import environment, versions

if TYPE_CHECKING:
    from quantlab.inspect.layers import LayerReport


def remembered(
    what: str, models: tuple[Model, ...], crops: Crops, rows: slice, make: Callable[[], Any]
) -> Any:
    """The result of ``make``, a value for JSON, for these models and these rows of the crops; from
    the cache where the same quantlab, libraries and kind of CPU made it before."""
    subjects = [[m.sha256, m.input.layout, m.output_kind, m.output_name] for m in models]
    images = [crops.digests[rows], crops.pipeline.model_dump(mode="json"), CROPS_FORMAT]
    others = sorted({m.runtime for m in models} - {ONNX_RUNTIME})
    libraries = [versions(), environment()["isa"], *([versions(others)] if others else [])]
    subjects += [[m.runtime for m in models]] if others else []
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
    key = _key("layers", [fp32, int8])
    Store.of("checks").keep(key, f"layers of {found.int8}", value=found.model_dump(mode="json"))


def known_layers(fp32: str, int8: str) -> LayerReport | None:
    """The cached layer report of these two models, if ``inspect --layers`` has made one."""
    from quantlab.inspect.layers import LayerReport

    return Store.of("checks").find(
        _key("layers", [fp32, int8]),
        lambda _, facts: LayerReport.model_validate(facts["value"]),
    )


def _kept(what: str, subject: str, parts: list[Any], make: Callable[[], Any]) -> Any:
    store, key = Store.of("checks"), _key(what, parts)
    found = store.find(key, lambda _, facts: [facts["value"]])
    if found is None:
        found = [make()]
        store.keep(key, subject, value=found[0])
    return found[0]


def _key(what: str, parts: list[Any]) -> str:
    return key_of(what, parts, source_digest())
