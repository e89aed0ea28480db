"""Starting a peer's process, waiting for its model, and making one error of whatever went wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.errors import MissingExtra, QuantizeError

CHILD = Path(__file__).with_name("child.py")
TIMEOUT = 1800.0
_LONGEST = 300


@dataclass(frozen=True)
class Peer:
    """Somebody else's quantizer. ``variable`` may name another Python that has ``module``."""

    key: str
    product: str
    package: str
    module: str
    variable: str


@dataclass(frozen=True)
class Outcome:
    """The model that the peer has made; ``seconds`` without its imports, ``peak_rss_bytes`` of its
    whole process (None where the system does not say)."""

    proto: onnx.ModelProto
    seconds: float
    peak_rss_bytes: int | None


def run_peer(
    peer: Peer,
    prepared: onnx.ModelProto,
    images: Iterable[NDArray[np.generic]],
    options: Mapping[str, Any],
    *,
    python: str | None = None,
    timeout: float = TIMEOUT,
    arrays: Mapping[str, NDArray[np.generic]] | None = None,
    child: Path = CHILD,
) -> Outcome:
    """The peer's model of ``prepared``, calibrated on the batches of ``images``.

    ``options`` is what child.py's function of that peer reads, ``arrays`` further files for it by
    name. The process works in a temporary folder and does not outlive the call.

    Raises MissingExtra when the peer is not installed, QuantizeError when it fails, dies, or takes
    over ``timeout`` seconds.
    """
    python = python or os.environ.get(peer.variable) or _own_python(peer)
    with tempfile.TemporaryDirectory(prefix="quantlab-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        onnx.save(prepared, folder / "model.onnx")
        _save_batches(folder / "images.npy", images)
        for key, array in (arrays or {}).items():
            _save_batches(folder / f"{key}.npy", [array])
        task = {"peer": peer.key, "parent": os.getpid(), "options": options}
        (folder / "task.json").write_text(json.dumps(task))
        code = _run(peer, [python, str(child), name], folder, timeout)
        answer = _answer(peer, folder, code)
        return Outcome(
            _quantized(peer, folder / "quantized.onnx"), answer["seconds"], answer["peak_rss_bytes"]
        )


def _own_python(peer: Peer) -> str:
    if importlib.util.find_spec(peer.module) is None:
        raise MissingExtra(peer.package, peer.key, f"the {peer.key} engine ({peer.product})")
    return sys.executable


def _save_batches(path: Path, images: Iterable[NDArray[np.generic]]) -> None:
    try:
        with path.open("wb") as file:
            for batch in images:
                np.save(file, batch)
    except OSError as error:
        raise QuantizeError(
            f"cannot write the calibration images for the peer: {error.strerror}.",
            "Set TMPDIR to a folder with more room, or use a smaller calibration_size.",
        ) from error


def _run(peer: Peer, command: list[str], folder: Path, timeout: float) -> int:
    """The exit code. The process and all it has started are gone when this returns or raises."""
    with (folder / "log.txt").open("wb") as log:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "NNCF_CI": "1", "PYTHONUNBUFFERED": "1"},
            )
        except OSError as error:
            raise QuantizeError(
                f"cannot start {command[0]} for {peer.product}: {error.strerror}.",
                f"Correct {peer.variable}, or unset it to use this Python.",
            ) from error
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise QuantizeError(
                f"{peer.product} did not finish in {timeout:.0f} s and was stopped.",
                "Use fewer calibration images, another range method, or engine: quantlab.",
            ) from None
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kills the process and its children (its whole process group)."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _answer(peer: Peer, folder: Path, code: int) -> dict[str, Any]:
    """What the process has answered. Raises for every answer that is not a model."""
    log = (folder / "log.txt").read_text(errors="replace")
    if not (folder / "answer.json").exists():
        raise _early_end(peer, code, log)
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    if answer.get("missing") == peer.module:
        raise MissingExtra(peer.package, peer.key, f"the {peer.key} engine ({peer.product})")
    if "missing" in answer:
        raise QuantizeError(
            f"{peer.product} cannot be imported: {_line(answer['problem'])}",
            f"Install what quantlab was tested with: pip install 'quantlab[{peer.key}]'",
        )
    if "unmet" in answer:
        raise _unmet(peer, answer["unmet"])
    if "exit" in answer:
        raise QuantizeError(
            f"{peer.product} called exit({answer['exit']}){_said(log)}", "Try engine: quantlab."
        )
    if "problem" in answer:
        raise QuantizeError(
            f"{peer.product} failed: {_line(answer['problem'])}", "Try engine: quantlab."
        )
    return answer


def _unmet(peer: Peer, reason: str) -> QuantizeError:
    """No model was returned: an error that the peer has swallowed, or nothing met the criterion."""
    found = re.search(r"exception (.*) happened", reason, re.DOTALL)
    if reason:
        text = found.group(1) if found else reason
        return QuantizeError(f"{peer.product} failed: {_line(text)}", "Try engine: quantlab.")
    return QuantizeError(
        f"{peer.product} found no model that meets the criterion.",
        "Allow a larger decline or more trials, or use engine: quantlab.",
    )


def _early_end(peer: Peer, code: int, log: str) -> QuantizeError:
    if code < 0:
        name = signal.Signals(-code).name
        hint = "Often memory ran out: use fewer images, or" if name == "SIGKILL" else "Use"
        return QuantizeError(f"{peer.product} crashed ({name}).", f"{hint} engine: quantlab.")
    return QuantizeError(
        f"{peer.product} ended early with exit code {code}{_said(log)}", "Try engine: quantlab."
    )


def _said(log: str) -> str:
    """The last line of the log, without its time."""
    lines = [line for line in log.splitlines() if line.strip()]
    return f": {_line(re.sub(r'^[-0-9:, ]+ ', '', lines[-1]))}" if lines else "."


def _line(text: str) -> str:
    """One line of at most 300 characters."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _quantized(peer: Peer, path: Path) -> onnx.ModelProto:
    """The model, when it is one and something in it is quantized."""
    proto = onnx.load(path)
    if not any("Linear" in node.op_type or "Integer" in node.op_type for node in proto.graph.node):
        raise QuantizeError(
            f"{peer.product} has left every node in fp32.",
            "Allow a larger decline, exclude fewer nodes, or use engine: quantlab.",
        )
    return proto
