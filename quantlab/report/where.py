"""Sentences about where int8 answers hold: on which CPUs, in which runtime."""

from __future__ import annotations

from quantlab.compare.comparison import OtherCpus, OtherRuntime, Where
from quantlab.model.kinds import ONNX_RUNTIME

REMEDY = "quantize with portable: true"
IN_ONNX_RUNTIME = ", or set session.x64quantprecision to 1 there"


def where_line(where: Where | None) -> str:
    """In which runtime and on which CPU they were measured, and what other ones answer; "" where
    the model is not at hand."""
    if where is None:
        return ""
    here = "" if where.on == "unknown" else f" on {shown_isa(where.on)}"
    told = f"Measured in {where.runtime} {where.version}{here}."
    other = "" if where.other_runtime is None else f" {runtime_words(where.other_runtime)}"
    own = where.runtime == ONNX_RUNTIME
    return f"{told}{other} Other CPUs: {cpus_line(where.cpus, onnx_runtime=own)}"


def shown_isa(name: str) -> str:
    """``AVX512-VNNI``; a provider's name as it is."""
    return name if name.endswith("Provider") else name.upper()


def cpus_line(found: OtherCpus, *, onnx_runtime: bool = True) -> str:
    """What CPUs without VNNI answer, and what to do where that is not surely the same."""
    remedy = cpus_remedy(found, onnx_runtime=onnx_runtime)
    words = cpus_words(found, onnx_runtime=onnx_runtime)
    return words + (f"; {remedy}." if remedy else ".")


def cpus_remedy(found: OtherCpus, *, onnx_runtime: bool = True) -> str:
    """What makes the answers the same on every CPU; "" where they are."""
    if found.state in ("not quantized", "no pairs", "impossible"):
        return ""
    if found.state == "unknown":
        return f"for certainty {REMEDY} and judge that ONNX file"
    certain = "" if found.state == "saturates" else "for certainty "
    return f"{certain}{REMEDY}{IN_ONNX_RUNTIME if onnx_runtime else ''}"


def cpus_words(found: OtherCpus, *, onnx_runtime: bool = True) -> str:
    """What CPUs without VNNI answer, without a full stop. It is ONNX Runtime that is emulated,
    whatever else runs the model."""
    of_all = f"of {found.at_risk} of {found.layers} u8s8 layers"
    match found.state:
        case "not quantized":
            return "the same answers but for the rounding of fp32: nothing is quantized"
        case "no pairs":
            return "the same answers on every CPU: no layer sums u8s8 products in pairs"
        case "impossible":
            return "the same answers on any x86 CPU: no 16-bit pair sum can overflow"
        case "not seen":
            return (
                f"not certain without VNNI: no 16-bit pair sum overflowed on {found.images} "
                f"images, but the weights {of_all} allow it"
            )
        case "not emulated":
            return (
                f"not certain without VNNI: the weights {of_all} allow 16-bit pair sums to "
                "overflow, and with dynamic activation ranges that is not emulated"
            )
        case "unknown":
            return "not known: which layers add products in pairs cannot be read from this file"
        case "saturates":
            how = f"{found.images} images{'' if onnx_runtime else ', as in ONNX Runtime'}"
            sqnr = "" if found.sqnr_db is None else f", SQNR {found.sqnr_db:.1f} dB"
            return (
                f"not the same without VNNI: agreement {found.agreement:.1%} there (emulated on "
                f"{how}), KL {found.kl:.4f}{sqnr}: {found.share:.4%} of the 16-bit pair sums "
                f"overflow, in {found.saturating} of {found.layers} u8s8 layers"
            )


def runtime_words(found: OtherRuntime) -> str:
    """How the answers in the other runtime differ."""
    kl = "" if found.fidelity.kl is None else f", KL {found.fidelity.kl:.4f}"
    same = found.fidelity.agreement
    return (
        f"In {found.runtime} {found.version}: the same first answer on {same.count:,} of "
        f"{same.n:,} images ({same.value:.1%}){kl}."
    )
