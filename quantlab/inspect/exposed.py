"""ONNX graphs whose inner tensors can be read and replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from quantlab.inspect.kernels import tensor_types
from quantlab.model import graph as g
from quantlab.runtime.graphs import graph_session
from quantlab.runtime.session import plain_errors


class Exposed:
    """An ONNX Runtime session that also returns inner tensors."""

    def __init__(self, proto: onnx.ModelProto, names: Sequence[str]) -> None:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        self._given = {v.name for v in copy.graph.input}
        made = {v.name for v in copy.graph.output} | self._given
        new = [name for name in dict.fromkeys(names) if name not in made]
        copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in new)
        self._names = [name for name in dict.fromkeys(names) if name not in self._given]
        # One thread: sessions side by side would spin against each other.
        self._session = graph_session(copy, threads=1)
        self._image = str(copy.graph.input[0].name)

    def run(
        self, images: NDArray[np.generic], feeds: Mapping[str, g.Array] | None = None
    ) -> dict[str, g.Array]:
        """The tensors' values by name. Raises ModelError."""
        given = {self._image: np.ascontiguousarray(images), **(feeds or {})}
        given = {name: value for name, value in given.items() if name in self._given}
        with plain_errors("ONNX Runtime cannot run the model with its inner tensors exposed"):
            found = self._session.run(self._names, given)
        return dict(zip(self._names, found, strict=True)) | {self._image: images}


class Cut:
    """A graph cut into its layers: nodes that read one of these tensors read a new input
    instead."""

    def __init__(self, proto: onnx.ModelProto, names: Sequence[str]) -> None:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        types, read_by = tensor_types(copy.graph), g.consumers(copy.graph)
        free = g.Names(g.tensor_names(copy.graph))
        self._inputs = {n: free.new(f"{n}/exact") for n in dict.fromkeys(names) if n in read_by}
        for name, exact in self._inputs.items():
            g.rename_reads(copy.graph, name, exact)
            copy.graph.input.append(helper.make_tensor_value_info(exact, types[name], None))
        self._exposed = Exposed(copy, names)

    def run(self, images: NDArray[np.generic], given: Mapping[str, g.Array]) -> dict[str, g.Array]:
        """The tensors' values by name, each computed from those ``given``. Raises ModelError."""
        feeds = {self._inputs[name]: given[name] for name in self._inputs}
        return self._exposed.run(images, feeds)


def matched_sources(graph: onnx.GraphProto, names: Sequence[str]) -> dict[str, list[str]]:
    """For each of these tensors the nearest others of them that it is computed from."""
    made_by, wanted = g.producers(graph), set(names)

    def above(name: str) -> list[str]:
        found, queue, seen = dict[str, None](), [name], {name}
        while queue:
            node = made_by.get(queue.pop())
            for source in () if node is None else node.input:
                if source in wanted:
                    found[source] = None
                elif source not in seen:
                    seen.add(source)
                    queue.append(source)
        return list(found)

    return {name: above(name) for name in names}
