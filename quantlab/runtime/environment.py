"""Facts of the machine and the software that a figure depends on."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil

from quantlab import __version__

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")
_ISA_FLAGS = (
    ("amx_int8", "amx-int8"),
    ("avx512_vnni", "avx512-vnni"),
    ("avx_vnni", "avx-vnni"),
    ("avx512bw", "avx512"),
    ("avx2", "avx2"),
    ("i8mm", "neon-i8mm"),
    ("asimddp", "neon-dotprod"),
    ("asimd", "neon"),
    ("neon", "neon"),
    ("sse4_1", "sse4.1"),
)
_ALONE: ContextVar[bool] = ContextVar("alone", default=False)
_PACKAGES = ("numpy", "onnx", "onnxruntime", "pillow")
_OPTIONAL = ("openvino",)
_MISSING = "not installed"


@cache
def _facts() -> dict[str, str]:
    cpus = _cpus()
    return {
        "cpu": cpu_model(cpus),
        "isa": isa(cpus),
        "physical_cores": str(_usable_cores()),
        "logical_cores": str(len(available_cpus())),
        "memory": f"{memory_bytes() / 2**30:.1f} GiB",
        "os": f"{platform.system()}-{platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "quantlab": __version__,
        **versions(),
        **{name: v for name, v in versions(_OPTIONAL).items() if v != _MISSING},
    }


def environment() -> dict[str, str]:
    """The facts by name: cpu, isa, physical_cores and logical_cores (those this process may use),
    memory, os, machine, and the versions of python, quantlab, numpy, onnx, onnxruntime, pillow, and
    openvino where it is installed.
    """
    return dict(_facts())


def versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """The installed version of each package, "not installed" for one that is missing."""
    return {name: _version(name) for name in packages}


@cache
def _version(package: str) -> str:
    variants = (
        (package, f"{package}-gpu", f"{package}-openvino") if package == "onnxruntime" else ()
    )
    for name in variants or (package,):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return _MISSING


def parse_cpuinfo(text: str) -> list[dict[str, str]]:
    """/proc/cpuinfo as one mapping per logical processor."""
    blocks = [block for block in text.split("\n\n") if block.strip()]
    pairs = [
        [line.partition(":") for line in block.splitlines() if ":" in line] for block in blocks
    ]
    return [{key.strip(): value.strip() for key, _, value in block} for block in pairs]


@cache
def _cpuinfo_text() -> str:
    try:
        return _CPUINFO.read_text(errors="replace")
    except OSError:
        return ""


def _cpus() -> list[dict[str, str]]:
    return parse_cpuinfo(_cpuinfo_text())


def cpu_model(cpus: Sequence[Mapping[str, str]]) -> str:
    """The processor's name as the system gives it."""
    for key in ("model name", "Model", "Hardware", "cpu"):
        for cpu in cpus:
            if cpu.get(key):
                return " ".join(cpu[key].split())
    return platform.processor() or platform.machine() or "unknown"


def isa(cpus: Sequence[Mapping[str, str]]) -> str:
    """The widest class of int8 instructions: "amx-int8", "avx512-vnni", "avx-vnni", "avx512",
    "avx2", "neon-i8mm", "neon-dotprod", "neon"; "unknown" where the system does not say.
    """
    flags = set(next((c.get("flags") or c.get("Features", "") for c in cpus), "").split())
    for flag, name in _ISA_FLAGS:
        if flag in flags:
            return name
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return "neon-dotprod" if apple else "unknown"


def available_cpus() -> tuple[int, ...]:
    """The numbers of the logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def default_threads() -> int:
    """The physical cores that this process may use, within a container's CPU quota; at least 1. One
    within ``one_thread``."""
    return 1 if _ALONE.get() else _usable_cores()


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit this thread to one core within the block, BLAS included: others are busy too."""
    from threadpoolctl import threadpool_limits

    token = _ALONE.set(True)
    try:
        with threadpool_limits(1):
            yield
    finally:
        _ALONE.reset(token)


def _usable_cores() -> int:
    cores = len(one_cpu_per_core(available_cpus(), _cpus()))
    return max(1, min(cores, _cpu_quota() or cores))


def one_cpu_per_core(
    available: Iterable[int], cpus: Sequence[Mapping[str, str]]
) -> tuple[int, ...]:
    """The first of the available logical processors of each physical core."""
    cores = {
        int(cpu["processor"]): (cpu.get("physical id", "0"), cpu.get("core id", cpu["processor"]))
        for cpu in cpus
        if cpu.get("processor", "").isdigit()
    }
    first: dict[tuple[str, str], int] = {}
    for number in sorted(available):
        first.setdefault(cores.get(number, ("", str(number))), number)
    return tuple(first.values())


def pick_cpus(count: int) -> tuple[int, ...]:
    """``count`` logical processors to pin to: one per physical core while they last.

    The highest numbers first, because the lowest serve most interrupts. All of them when there
    are not ``count``.
    """
    available = available_cpus()
    single = one_cpu_per_core(available, _cpus())
    siblings = [c for c in available if c not in single]
    return tuple([*reversed(single), *reversed(siblings)][:count])


def _cpu_quota() -> int | None:
    """The container's CPU quota in cores, rounded up; None without one (cgroup v2, then v1)."""
    words = _words(_CGROUP / "cpu.max") or [
        *_words(_CGROUP / "cpu" / "cpu.cfs_quota_us"),
        *_words(_CGROUP / "cpu" / "cpu.cfs_period_us"),
    ]
    if len(words) == 2 and all(w.isdigit() and int(w) > 0 for w in words):
        return math.ceil(int(words[0]) / int(words[1]))
    return None


def memory_bytes() -> int:
    """The machine's memory, or the container's limit when that is less."""
    total = psutil.virtual_memory().total
    limits = (_CGROUP / "memory.max", _CGROUP / "memory" / "memory.limit_in_bytes")
    given = [int(w) for path in limits for w in _words(path) if w.isdigit()]
    return min([total, *given])


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def peak_rss_bytes() -> int:
    """The most memory that this process has held, in bytes.

    On Linux from VmHWM, because getrusage's figure also counts the parent that started it.
    """
    for line in _status_lines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    info = psutil.Process().memory_info()
    if (peak := getattr(info, "peak_wset", None)) is not None:  # Windows
        return int(peak)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if platform.system() == "Darwin" else peak * 1024)


def _status_lines() -> list[str]:
    try:
        return Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return []
