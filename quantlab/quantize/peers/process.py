"""Starting a peer's process, waiting for its model, and making one error of whatever went wrong.

A peer is somebody else's quantizer, or an engine of another package.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab._util import units
from quantlab._util.children import child as running
from quantlab._util.children import last_line
from quantlab._util.scratch import temporary_folder
from quantlab.errors import MissingExtraError, OutputError, QuantizeError, disk_is_full
from quantlab.model.large import refuse_aside
from quantlab.quantize.peers.child import FULL

R = TypeVar("R")
CHILD = Path(__file__).with_name("child.py")
TIMEOUT = 1800.0
"""Seconds that a peer may take for one model, unless the variable TIMEOUT_VARIABLE says another
duration."""
TIMEOUT_VARIABLE = "QUANTLAB_ENGINE_TIMEOUT"
_LONGEST = 300


@dataclass(frozen=True)
class Peer:
    """Somebody else's quantizer: ``product`` names it in a sentence. ``variable`` may name another
    Python that has ``module``. Without a module it is an engine that ``package`` offers. ``extra``
    is what of quantlab brings it, where that is not ``key``."""

    key: str
    product: str
    package: str
    module: str = ""
    variable: str = ""
    extra: str = ""

    @property
    def mend(self) -> str:
        """What helps when it cannot be imported."""
        if not self.module:
            return f"Update or remove {self.package}."
        extra = self.extra or self.key
        return f"Install what quantlab was tested with: pip install 'quantlab[{extra}]'"


@dataclass(frozen=True)
class PeerOutcome:
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
    timeout: float | None = None,
    arrays: Mapping[str, NDArray[np.generic]] | None = None,
    child: Path = CHILD,
) -> PeerOutcome:
    """The peer's model of ``prepared``, calibrated on the batches of ``images``.

    ``options`` is what child.py's function of that peer reads, ``arrays`` further files for it by
    name. The process works in a temporary folder and does not outlive the call.

    Raises MissingExtraError when the peer is not installed, QuantizeError when it fails, dies, or
    takes over ``timeout`` seconds (default: ``deadline()``), OutputError when the disk is full."""

    def quantized(folder: Path) -> onnx.ModelProto:
        return _quantized(peer, folder / "quantized.onnx")

    return PeerOutcome(
        *peer_result(
            peer,
            prepared,
            images,
            options,
            quantized,
            python=python,
            timeout=timeout,
            arrays=arrays,
            child=child,
        )
    )


def peer_result(
    peer: Peer,
    prepared: onnx.ModelProto,
    images: Iterable[NDArray[np.generic]],
    options: Mapping[str, Any],
    read: Callable[[Path], R],
    *,
    python: str | None = None,
    timeout: float | None = None,
    arrays: Mapping[str, NDArray[np.generic]] | None = None,
    child: Path = CHILD,
) -> tuple[R, float, int | None]:
    """As ``run_peer``, with what ``read`` takes out of the folder that the peer has worked in in
    the model's place."""
    python = python or os.environ.get(peer.variable) or _own_python(peer)
    timeout = deadline() if timeout is None else timeout
    refuse_aside(prepared, peer.product, "Use engine: quantlab.")
    with temporary_folder() as folder:
        try:
            onnx.save(prepared, folder / "model.onnx")
            for key, batches in {"images": images, **_single(arrays or {})}.items():
                _save_batches(folder / f"{key}.npy", batches)
            task = {"peer": peer.key, "parent": os.getpid(), "options": options}
            (folder / "task.json").write_text(json.dumps(task))
        except OSError as error:
            if disk_is_full(error):
                raise _full(peer) from error
            raise
        code = _run(peer, [python, str(child), str(folder)], folder, timeout)
        answer = _answer(peer, folder, code)
        return read(folder), answer["seconds"], answer["peak_rss_bytes"]


def _own_python(peer: Peer) -> str:
    if importlib.util.find_spec(peer.module) is None:
        raise MissingExtraError(peer.package, peer.key, f"the {peer.key} engine ({peer.product})")
    return sys.executable


def deadline() -> float:
    """The seconds that a peer may take. Raises QuantizeError when the variable is no duration."""
    text = os.environ.get(TIMEOUT_VARIABLE)
    try:
        return units.seconds(text) if text else TIMEOUT
    except ValueError as error:
        raise QuantizeError(f"{TIMEOUT_VARIABLE}: {error}.") from error


def _single(
    arrays: Mapping[str, NDArray[np.generic]],
) -> dict[str, Iterable[NDArray[np.generic]]]:
    return {key: [array] for key, array in arrays.items()}


def _save_batches(path: Path, images: Iterable[NDArray[np.generic]]) -> None:
    with path.open("wb") as file:
        for batch in images:
            np.save(file, batch)


def _full(peer: Peer) -> OutputError:
    return OutputError(
        f"no room for the temporary files of {peer.product}: the disk is full.",
        "Set TMPDIR to a folder with more room, or use a smaller calibration_size.",
    )


def _run(peer: Peer, command: list[str], folder: Path, timeout: float) -> int:
    """The exit code. The process and all it has started are gone when this returns or raises."""
    env = {**os.environ, "NNCF_CI": "1", "PYTHONUNBUFFERED": "1", "TMPDIR": str(folder)}
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log.txt").open("wb"))
        try:
            process = stack.enter_context(
                running(
                    command,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                )
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
                f"Use fewer calibration images or engine: quantlab, or raise {TIMEOUT_VARIABLE}.",
            ) from None


def _answer(peer: Peer, folder: Path, code: int) -> dict[str, Any]:
    """What the process has answered. Raises for every answer that is not a model."""
    if not (folder / "answer.json").exists():
        raise _full(peer) if code == FULL else _early_end(peer, code, folder)
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text())
    if answer.get("missing") == peer.module:
        raise MissingExtraError(peer.package, peer.key, f"the {peer.key} engine ({peer.product})")
    if "missing" in answer:
        raise QuantizeError(
            f"{peer.product} cannot be imported: {_line(answer['problem'])}", peer.mend
        )
    if "refused" in answer:
        raise QuantizeError(*map(_line, answer["refused"]))
    if "unmet" in answer:
        raise _unmet(peer, answer["unmet"])
    if "exit" in answer:
        raise QuantizeError(
            f"{peer.product} called exit({answer['exit']}){_said(folder)}", "Try engine: quantlab."
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


def _early_end(peer: Peer, code: int, folder: Path) -> QuantizeError:
    if code < 0:
        name = signal.Signals(-code).name
        hint = "Often memory ran out: use fewer images, or" if name == "SIGKILL" else "Use"
        return QuantizeError(f"{peer.product} crashed ({name}).", f"{hint} engine: quantlab.")
    return QuantizeError(
        f"{peer.product} ended early with exit code {code}{_said(folder)}", "Try engine: quantlab."
    )


def _said(folder: Path) -> str:
    """The last line of the log, without its time."""
    with (folder / "log.txt").open("rb") as log:
        last = last_line(log)
    return f": {_line(re.sub(r'^[-0-9:, ]+ ', '', last))}" if last else "."


def _line(text: str) -> str:
    """One line of at most 300 characters."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _quantized(peer: Peer, path: Path) -> onnx.ModelProto:
    """The model, when it is one and something in it is quantized."""
    proto = onnx.load(path)
    kinds = {node.op_type for node in proto.graph.node}
    if not any(part in kind for kind in kinds for part in ("Linear", "Integer", "NBits")):
        raise nothing_quantized(peer)
    return proto


def nothing_quantized(peer: Peer) -> QuantizeError:
    """The error about a model that the peer has made no int8 of."""
    return QuantizeError(
        f"{peer.product} has left every node in fp32.",
        "Allow a larger decline, exclude fewer nodes, or use engine: quantlab.",
    )
