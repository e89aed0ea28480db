"""Format the result of ``bench --profile``. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from quantlab.inspect.kernels import KernelKind
from quantlab.inspect.profile import NodeTime, Profile, answers, total
from quantlab.model.kinds import OPENVINO
from quantlab.report.formats import NOTHING, percent, table

OPERATORS_SHOWN = 12
_KINDS: dict[KernelKind, str] = {
    "int8": "int8 kernels",
    "fp32": "fp32 kernels",
    "quantize": "quantize or dequantize",
    "move": "only move data",
}


def profile_summary(profiles: Sequence[Profile]) -> str:
    """The answer, then time by operator, by kind of kernel, and the slowest nodes."""
    first = profiles[0]
    parts = [
        f"Profile: batch {first.batch_size}, threads {first.threads}, medians of "
        f"{min(p.runs for p in profiles)} runs, what profiling costs included{_means(profiles)}",
        "\n".join(answers(profiles)),
        *map(_operators, _parts(profiles, 3)),
        *map(_kinds, _parts(profiles, 3)),
        *map(_slowest, _parts(profiles, 2)),
    ]
    return "\n\n".join(parts)


def _means(profiles: Sequence[Profile]) -> str:
    """OpenVINO keeps no single runs of a node."""
    found = any(profile.runtime == OPENVINO for profile in profiles)
    return "\n(nodes in OpenVINO: medians of means of some runs)" if found else ""


def _parts(profiles: Sequence[Profile], size: int) -> Iterator[Sequence[Profile]]:
    """Group models so that each table fits the width."""
    return (profiles[i : i + size] for i in range(0, len(profiles), size))


def _operators(profiles: Sequence[Profile]) -> str:
    times = [profile.by_operator() for profile in profiles]
    names = sorted({n for t in times for n in t}, key=lambda n: -max(t.get(n, 0) for t in times))
    rows = [
        [name, *(_time(p, t.get(name)) for p, t in zip(profiles, times, strict=True))]
        for name in names[:OPERATORS_SHOWN]
    ]
    rest = names[OPERATORS_SHOWN:]
    if rest:
        sums = [sum(t.get(name, 0) for name in rest) for t in times]
        rows.append([f"{len(rest)} others", *map(_time, profiles, sums)])
    rows.append(["between operators", *(_time(p, p.between_ms) for p in profiles)])
    rows.append(["whole run", *(f"{p.run_ms:.2f} ms" for p in profiles)])
    return _table("operator", profiles, rows)


def _kinds(profiles: Sequence[Profile]) -> str:
    rows = [
        [words, *(_nodes(profile, profile.of_kind(kind)) for profile in profiles)]
        for kind, words in _KINDS.items()
        if any(profile.of_kind(kind) for profile in profiles)
    ]
    return _table("nodes", profiles, rows)


def _table(what: str, profiles: Sequence[Profile], rows: Sequence[Sequence[str]]) -> str:
    head = [what, *(profile.model for profile in profiles)]
    return table(head, rows, right=" " + "r" * len(profiles))


def _nodes(profile: Profile, nodes: Sequence[NodeTime]) -> str:
    return f"{len(nodes)}: {_time(profile, total(nodes))}" if nodes else NOTHING


def _time(profile: Profile, ms: float | None) -> str:
    return NOTHING if ms is None else f"{ms:.2f} ms ({percent(profile.share(ms), 1)})"


def _slowest(profiles: Sequence[Profile]) -> str:
    """Side by side by rank: the nodes of one row are not the same layer."""
    columns = [
        [(f"{n.op_type} {n.name} {n.kernel}".rstrip(), f"{n.ms:.3f}") for n in p.slowest()]
        for p in profiles
    ]
    rows = [
        [cell for column in columns for cell in (column[i] if i < len(column) else ("", ""))]
        for i in range(max(map(len, columns)))
    ]
    head = [text for profile in profiles for text in (f"slowest in {profile.model}", "ms")]
    return table(head, rows, right=" r" * len(profiles))
