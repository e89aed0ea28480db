"""Other tools' files and output lines: Neural Compressor, MindCV. All else uses these names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantlab.compat.inc_output import inc_accuracy, inc_performance

__all__ = ["Translated", "inc_accuracy", "inc_performance", "translated"]


@dataclass(frozen=True)
class Translated:
    """Another tool's configuration by the keys of ``quantlab.yaml``. ``table`` says in Markdown
    what became of its keys, where that is worth saying."""

    settings: Mapping[str, Any]
    table: str = ""


def translated(data: Mapping[str, Any], where: str) -> Translated:
    """A configuration, translated where it is Neural Compressor's 1.x or MindCV's, else as it is.

    Raises RecipeError when nothing of it can be used.
    """
    from quantlab.compat import inc_yaml, mindcv_yaml

    if inc_yaml.is_inc(data):
        mapped = inc_yaml.map_inc(data, where)
        return Translated(mapped.settings, inc_yaml.mapping_table(mapped.rows))
    if mindcv_yaml.is_mindcv(data):
        return Translated(mindcv_yaml.map_mindcv(data, where))
    return Translated(data)
