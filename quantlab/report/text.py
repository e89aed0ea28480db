"""Format the results of verbs as short plain text for a terminal. Nothing is computed here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from quantlab._util.cache import CacheEntry
from quantlab.compare.comparison import Comparison, Fidelity
from quantlab.evaluate.accuracy import Accuracy
from quantlab.evaluate.guesses import ImageAnswer
from quantlab.gate.verdict import Verdict
from quantlab.inspect.inspection import Inspection
from quantlab.inspect.layers import LayerReport
from quantlab.inspect.levels import levels_line
from quantlab.inspect.portability import AccumulatorState, Portability
from quantlab.inspect.scales import QuantizedTensor
from quantlab.inspect.sensitivity import Sensitivity
from quantlab.inspect.views import Inspected
from quantlab.model.model import TensorInfo
from quantlab.report import comparison_tables
from quantlab.report.advice import unfinished
from quantlab.report.comparison_page import headline, zoo_sentence
from quantlab.report.context import TrialRow, Unfinished
from quantlab.report.formats import (
    NOTHING,
    gigabytes,
    megabytes,
    number,
    percent,
    percents,
    table,
)
from quantlab.report.markdown import table_of
from quantlab.report.operators import Form, operators_text
from quantlab.report.pays_off import worth
from quantlab.report.preprocessing_audit import audit_summary
from quantlab.report.stored import stored_summary
from quantlab.report.target_rules import target_summary
from quantlab.report.where import cpus_line, where_line
from quantlab.stats.paired import Share

FP32_SHOWN = LAYERS_SHOWN = 10


def compare_summary(
    comparison: Comparison, verdict: Verdict, early: str = "", *, zoo: bool = False
) -> str:
    """The verdict, where the answers hold, whether int8 pays when it does not, the figures;
    ``early`` is about stopping early. With ``zoo`` the ONNX model zoo's table and sentence."""
    return _judged(comparison, verdict, worth(comparison), early, zoo=zoo)


def _judged(
    comparison: Comparison, verdict: Verdict, pays: str = "", early: str = "", *, zoo: bool = False
) -> str:
    fidelity = comparison.fidelity
    noise = "no noise" if fidelity.identical else f"{number(fidelity.sqnr_db, '.1f')} dB"
    head = headline(comparison, verdict), where_line(comparison.where), *comparison.lead
    lines = [x for x in (*head, pays, verdict.reason, verdict.remedy, early) if x]
    lines += ["", table_of(comparison_tables.summary(comparison)), ""]
    lines += [
        f"Agreement {percent(fidelity.agreement.value)} "
        f"({percents(fidelity.agreement.interval)}), KL {number(fidelity.kl, '.4f')}, SQNR {noise}",
        *_single_images(fidelity),
    ]
    lines += [comparison_tables.speed_sentence(s) for s in comparison.speeds]
    lines += map(comparison_tables.runtime_sentence, comparison.runtime_gains)
    if comparison.runtime_speed is not None:
        lines.append(comparison_tables.other_runtime_sentence(comparison.runtime_speed))
    if zoo:
        lines += ["", table_of(comparison_tables.zoo(comparison)), "", zoo_sentence(comparison)]
    return "\n".join(lines).strip()


def _single_images(fidelity: Fidelity) -> Iterator[str]:
    """What the mean hides: the images that int8 answers worst."""
    if fidelity.kl_p99 is not None and fidelity.sqnr_p1_db is not None:
        yield (
            f"Image by image: KL 99th percentile {fidelity.kl_p99:.4f}, largest "
            f"{fidelity.kl_max:.4f}; SQNR 1st percentile {fidelity.sqnr_p1_db:.1f} dB"
        )


def tune_summary(
    comparison: Comparison,
    verdict: Verdict,
    trials: tuple[TrialRow, ...],
    missed: str,
    places: Mapping[str, Path],
    ended: Unfinished | None = None,
    *,
    zoo: bool = False,
) -> str:
    """First which limit ended it, and whether int8 pays when it does not; then the trials, the
    verdict on the best, and where everything is."""
    first = [unfinished(ended) if ended else "", worth(comparison, trials)]
    parts = [text for text in first if text]
    parts += [""] if parts else []
    failed = [f"✗ {t.recipe}: {' '.join(t.error.split())}" for t in trials if t.error]
    parts += [
        table_of(comparison_tables.trials(trials)),
        *failed,
        "",
        _judged(comparison, verdict, zoo=zoo),
    ]
    parts += [missed] if missed else []
    width = max(len(name) for name in places) + 1
    return "\n".join(
        [*parts, "", *(f"{name + ':':{width}} {path}" for name, path in places.items())]
    )


def zoo_row(name: str, size: int, accuracy: Accuracy) -> str:
    """One model as the ONNX model zoo's README lists it."""
    top5 = NOTHING if accuracy.top5 is None else f"{100 * accuracy.top5.value:.2f}"
    row = [name, megabytes(size), f"{100 * accuracy.top1.value:.2f}", top5]
    return table(comparison_tables.ZOO, [row], right=" rrr")


def accuracy_summary(result: Accuracy | None, images: int) -> str:
    """Top-1 and top-5 with their intervals."""
    if result is None:
        return f"{images} images without labels: no accuracy. Predictions are in the run folder."
    rates = [_rate("Top-1", result.top1)]
    if result.top5 is not None:
        rates.append(_rate("Top-5", result.top5))
    return "\n".join(rates)


def _rate(name: str, share: Share) -> str:
    return (
        f"{name} {percent(share.value)}  95% interval {percents(share.interval)}  "
        f"({share.count:,} of {share.n:,})"
    )


def predict_summary(answers: Sequence[ImageAnswer]) -> str:
    """Each image's best classes."""
    rows = []
    for found in answers:
        cells = [
            [str(x.index), x.name.split(",")[0], percent(x.probability)] for x in found.guesses
        ]
        cells = cells or [[NOTHING, "no answer: the model gave a NaN", NOTHING]]
        rows += [[found.image if i == 0 else "", *row] for i, row in enumerate(cells)]
    return table(["image", "index", "class", "probability"], rows, right=" r r")


def inspected_summary(found: Inspected, *, scales: bool, form: Form = "table") -> str:
    """Whichever view was asked for; ``form`` is that of operators' scales."""
    if found.portability is not None:
        return portability_summary(found.portability)
    if found.layers is not None:
        return layers_summary(found.layers)
    if found.sensitivity is not None:
        return sensitivity_summary(found.sensitivity)
    if found.audit is not None:
        return audit_summary(found.audit)
    if found.stored is not None:
        return stored_summary(found.stored)
    if found.target is not None:
        return target_summary(found.target)
    if found.operators is not None:
        return operators_text(found.operators, form)
    return "" if found.inspection is None else inspect_summary(found.inspection, scales=scales)


def portability_summary(found: Portability) -> str:
    """The sentence, the worst layers, and how many layers are safe."""
    worst = found.in_state("saturates")
    rows = [
        [x.name, f"{x.pair_sums:,}", f"{x.saturated:,}", f"{x.share:.4%}", number(x.sqnr_db, ".1f")]
        for x in worst[:LAYERS_SHOWN]
    ]
    head = ["layer", "pair sums", "saturate", "share", "SQNR dB"]
    lines = [f"{found.name}: {cpus_line(found.outcome)}", ""]
    lines += [table(head, rows, right=" rrrr"), ""] if rows else []
    if len(worst) > LAYERS_SHOWN:
        lines.append(f"and {len(worst) - LAYERS_SHOWN} more layers (portability.json has all)")
    counts = {state: len(found.in_state(state)) for state in _STATES}
    lines += [f"{words}: {counts[state]}" for state, words in _STATES.items() if counts[state]]
    return "\n".join(lines)


_STATES: dict[AccumulatorState, str] = {
    "not emulated": "Layers with dynamic activation ranges whose weights allow saturation",
    "not seen": "Layers whose weights allow saturation, but these images did not cause it",
    "impossible": "Layers whose weights make saturation impossible",
}


def layers_summary(found: LayerReport) -> str:
    """Every layer, the first break, what to exclude, what could not be compared."""
    head = ["layer", "operator", "tensor", "accumulated", "drop", "local", "weights"]
    rows = [
        [x.node or "(input)", x.op_type, x.tensor, *map(_db, (x.accumulated, x.drop, x.local)),
         _db(x.weight)]
        for x in found.layers
    ]  # fmt: skip
    lines = [
        f"{found.int8} against {found.fp32}, SQNR in dB on {found.images} images",
        "",
        table(head, rows, right="   rrrr"),
        "",
        comparison_tables.break_words(found),
    ]
    if found.rescaled:
        lines.append("The int8 file equalized channels: fp32 was brought to their scales.")
    if found.unmatched:
        lines.append(f"Without a counterpart in the int8 file: {', '.join(found.unmatched)}.")
    if found.exclude:
        lines += ["Layers far below the others, to try in a recipe:", "", _exclude(found.exclude)]
    else:
        lines.append("No layer stands out: nothing to exclude.")
    return "\n".join(lines)


def _exclude(nodes: Sequence[str]) -> str:
    """The list as a recipe wants it."""
    return "\n".join(["exclude:", *(f"  - {json.dumps(name)}" for name in nodes)])


def sensitivity_summary(found: Sensitivity) -> str:
    """Every group, the costliest first, and what to exclude."""
    head = ["group", "with", "alone: KL", "of all", "SQNR", "left out: KL falls by", "SQNR"]
    rows = [
        [x.name, ", ".join(x.nodes[1:]), f"{x.alone.kl:.5f}", _share_of(x.alone.kl, found.whole.kl),
         _db(x.alone.sqnr_db), f"{x.gain:.5f}", _db(x.left_out.sqnr_db)]
        for x in found.groups
    ]  # fmt: skip
    lines = [
        f"{found.model}, plainly quantized, against fp32 on {found.images} images: "
        f"KL {found.whole.kl:.5f}, SQNR {_db(found.whole.sqnr_db)} dB",
        "",
        table(head, rows, right="  rrrrr"),
        "",
    ]
    if not found.exclude:
        return "\n".join([*lines, "No group stands out: nothing to exclude."])
    return "\n".join([*lines, "Groups to try in a recipe:", "", _exclude(found.exclude)])


def _share_of(part: float, whole: float) -> str:
    return percent(part / whole, 1) if whole > 0 else NOTHING


def _db(value: float | None) -> str:
    return number(value, ".1f")


def _output_words(i: Inspection) -> str:
    return f" ({i.output_kind}, {i.num_classes} classes)"


def inspect_summary(i: Inspection, *, scales: bool) -> str:
    """The model's outside, its operators, and what runs in int8."""
    lines = [
        f"{i.name}: opset {i.opset}, {megabytes(i.size_bytes)}, {i.parameters:,} parameters, "
        f"{i.macs / 1e6:,.2f} M MACs an image",
        f"sha256   {i.sha256}",
        *(f"input    {_tensor(t)} ({i.layout})" for t in i.inputs),
        *(f"output   {_tensor(t)}{_output_words(i) if t == i.judged else ''}" for t in i.outputs),
        f"graph    {_census(i.op_census)}",
        f"runs as  {_census(i.executed_census)} (ONNX Runtime, optimization {i.optimization})",
        f"kernels  {len(i.of_kind('int8'))} int8, {len(i.of_kind('fp32'))} fp32, "
        f"{len(i.of_kind('quantize'))} quantize or dequantize, {len(i.of_kind('move'))} that only "
        "move data",
    ]
    if i.levels is not None:
        lines.append(f"levels   {levels_line(i.levels)}")
    if i.is_quantized:
        lines += ["", *_fp32_nodes(i)]
    if i.quantized_tensors:
        shown = "" if scales else " (--scales lists them)"
        lines.append(f"{len(i.quantized_tensors)} quantized tensors{shown}")
    if scales:
        lines += ["", _scales(i.quantized_tensors)]
    return "\n".join(lines)


def _tensor(t: TensorInfo) -> str:
    return f"{t.name} {t.dtype} [{', '.join('N' if d is None else str(d) for d in t.shape)}]"


def _census(census: dict[str, int]) -> str:
    return ", ".join(f"{n} {op}" for op, n in census.items())


def _fp32_nodes(i: Inspection) -> list[str]:
    nodes = i.of_kind("fp32")
    lines = [f"{k.op_type} {k.name}: fp32, {k.reason}" for k in nodes[:FP32_SHOWN]]
    more = len(nodes) - FP32_SHOWN
    return [*lines, f"and {more} more fp32 nodes (inspection.json has all)"] if more > 0 else lines


def _scales(tensors: tuple[QuantizedTensor, ...]) -> str:
    rows = [
        [
            t.name,
            t.role,
            t.dtype,
            str(t.channels),
            _span(t.scale_min, t.scale_max, ".4g"),
            _span(t.zero_point_min, t.zero_point_max, "d"),
        ]
        for t in tensors
    ]
    return table(["tensor", "role", "type", "channels", "scale", "zero point"], rows)


def _span(low: float, high: float, form: str) -> str:
    return format(low, form) if low == high else f"{low:{form}} to {high:{form}}"


def cache_listing(rows: Sequence[tuple[CacheEntry, str]], folder: Path, limit: int) -> str:
    """The cache's entries, the most recently used first, and how much of its limit they take."""
    cells = [
        [entry.kind, gigabytes(entry.size), _local(entry.used), text or NOTHING]
        for entry, text in rows
    ]
    head = ["kind", "size", "last used", "what it is of"]
    total = f"{_entries(rows)} of at most {gigabytes(limit)} in {folder}"
    return "\n".join([table(head, cells, right=" r"), "", total]).strip()


def cache_cleared(rows: Sequence[tuple[CacheEntry, str]], stuck: int, folder: Path) -> str:
    """What was freed, and what could not be."""
    kept = f"\n{stuck} could not be removed." if stuck else ""
    return f"Removed {_entries(rows)} from {folder}{kept}"


def _entries(rows: Sequence[tuple[CacheEntry, str]]) -> str:
    size = gigabytes(sum(entry.size for entry, _ in rows))
    return f"{len(rows)} {'entry' if len(rows) == 1 else 'entries'}, {size}"


def _local(stamp: float) -> str:
    return f"{datetime.fromtimestamp(stamp):%Y-%m-%d %H:%M}"
