"""Target: where an int8 file is to run, as data: what it decides of a recipe, and its rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from quantlab.errors import RecipeError

if TYPE_CHECKING:
    import onnx

    from quantlab.targets.graph import QuantizedGraph


class TargetError(RecipeError, ValueError):
    """There is no such target, or a recipe contradicts it: for pydantic a value that cannot be."""


Found: TypeAlias = tuple[str, str]
"""A node (or tensor) that breaches a rule, and what is wrong with it."""
Proof = Literal["run", "by rule"]


@dataclass(frozen=True)
class Breach:
    """One place where a file does not keep to a target's rule."""

    rule: str
    node: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class TargetRule:
    """What a target's files keep to. ``find`` gives what does not, of a graph; pure."""

    name: str
    remedy: str
    find: Callable[[QuantizedGraph], Iterator[Found]]

    def breaches(self, graph: QuantizedGraph) -> Iterator[Breach]:
        """Each place once."""
        for node, problem in dict.fromkeys(self.find(graph)):
            yield Breach(self.name, node, problem, self.remedy)


@dataclass(frozen=True)
class Document:
    """A document that its vendor published, from which rules come."""

    title: str
    url: str


@dataclass(frozen=True)
class Target:
    """Where int8 files run.

    ``decides`` are a recipe's fields with the defaults that they have for this target, and
    ``allows`` those that have to be one of these values. ``proof`` says whether what quantlab makes
    for it was run on it, or follows its documents' rules.
    """

    name: str
    summary: str
    documents: tuple[Document, ...]
    proof: Proof
    rules: tuple[TargetRule, ...]
    decides: Mapping[str, Any] = field(default_factory=dict)
    allows: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def check(self, fields: Mapping[str, Any]) -> None:
        """Raises TargetError where one of a recipe's fields contradicts the target."""
        for key, values in self.allows.items():
            if key in fields and fields[key] not in values:
                wrong, right = _yaml(fields[key]), " or ".join(map(_yaml, values))
                raise TargetError(
                    f"target: {self.name} contradicts {key}: {wrong}.",
                    f"With this target {key} is {right}: leave {key} out, or name another target.",
                )

    def breaches(self, proto: onnx.ModelProto) -> tuple[Breach, ...]:
        """Every breach of every rule, in the rules' order, then in the graph's."""
        from quantlab.targets.graph import QuantizedGraph

        graph = QuantizedGraph(proto)
        return tuple(found for rule in self.rules for found in rule.breaches(graph))


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
