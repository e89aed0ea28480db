"""The peers' process: ``python child.py FOLDER``, for any Python that has the peer's package.

Standalone: numpy, onnx, onnxruntime and the peer; for some OpenVINO; quantlab only for engines of
other packages.
FOLDER holds ``model.onnx``, ``images.npy`` (batches, one np.save after the other), ``task.json``.
``quantized.onnx`` (or OpenVINO IR, ``quantized.xml``) and, last of all, ``answer.json`` are
written. Without an answer the process has died, or with exit code FULL found no room to write.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PeerTask = dict[str, Any]
MODEL, IMAGES, QUANTIZED = "model.onnx", "images.npy", "quantized.onnx"
QUANTIZED_IR = "quantized.xml"
FULL = errno.ENOSPC


class _DiskFullError(Exception):
    """There is no room to write."""


class CriterionUnmetError(Exception):
    """The peer ended without a model."""


def main() -> None:
    """Works on the task and answers; whatever the peer raises, exit() included, is an answer."""
    code = 0
    try:
        _work()
    except _DiskFullError:
        code = FULL
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # threads that the peer has left running do not matter any more


def _work() -> None:
    folder = Path(sys.argv[1])
    here = Path(__file__).resolve().parent
    # The peers' packages must not be mistaken for the files beside this one.
    sys.path[:] = [p for p in sys.path if Path(p).resolve() != here]
    task = json.loads((folder / "task.json").read_text())
    threading.Thread(target=_end_with_parent, args=(task["parent"],), daemon=True).start()
    os.chdir(folder)
    try:
        seconds = {"inc": inc, "nncf": nncf}.get(task["peer"], offered)(task["options"])
        answer: PeerTask = {"seconds": seconds, "peak_rss_bytes": _peak_rss_bytes()}
    except CriterionUnmetError as error:
        answer = {"unmet": str(error)}
    except ImportError as error:
        answer = {"missing": (error.name or "").split(".")[0], "problem": str(error)}
    except SystemExit as error:
        answer = {"exit": str(error.code)}
    except BaseException as error:
        if _is_full(error):
            raise _DiskFullError from error
        logging.exception("failed")
        answer = {"problem": f"{type(error).__name__}: {error}"}
        if hasattr(error, "problem") and hasattr(error, "remedy"):
            answer = {"refused": [error.problem, error.remedy]}
    try:
        (folder / "answer.part").write_text(json.dumps(answer))
    except OSError as error:
        raise _DiskFullError from error
    (folder / "answer.part").replace(folder / "answer.json")


def _is_full(error: BaseException) -> bool:
    """As quantlab.errors.disk_is_full."""
    if not isinstance(error, OSError):
        return False
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or " requested and " in str(error)


def _end_with_parent(parent: int) -> None:
    """With the processes that it has started, when it leads a group of them."""
    while os.getppid() == parent:
        time.sleep(0.5)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _peak_rss_bytes() -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM:")), None)


def batches(path: str = IMAGES) -> Iterator[Any]:
    """The stored batches, in order."""
    import numpy as np

    with Path(path).open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        while file.tell() < end:
            yield np.load(file)


def chunks(size: int, path: str = IMAGES) -> Iterator[Any]:
    """The stored images, ``size`` at a time."""
    for batch in batches(path):
        for start in range(0, len(batch), size):
            yield batch[start : start + size]


def inc(options: PeerTask) -> float:
    """Neural Compressor. Returns the seconds it took, without its import."""
    _restore_onnx_mapping()
    errors = _Errors()
    from neural_compressor import PostTrainingQuantConfig, quantization
    from neural_compressor.adaptor.ox_utils import calibrator
    from neural_compressor.config import AccuracyCriterion, TuningCriterion

    logging.getLogger("neural_compressor").addHandler(errors)
    percentile = options["percentile"]
    known: dict[str, Any] = calibrator.CALIBRATOR
    usual = known["percentile"]
    known["percentile"] = lambda: usual(percentile=percentile)
    tuning = options["tuning"]
    config = dict(options["config"])
    if tuning is not None:
        config["accuracy_criterion"] = AccuracyCriterion(**tuning["accuracy"])
        config["tuning_criterion"] = TuningCriterion(**tuning["search"])
    start = time.perf_counter()
    found = quantization.fit(
        MODEL,
        PostTrainingQuantConfig(**config),
        calib_dataloader=_IncLoader(options["batch"]),
        eval_func=None if tuning is None else _Judge(options["batch"]),
    )
    if found is None:
        raise CriterionUnmetError(errors.first)
    found.save(QUANTIZED)
    return time.perf_counter() - start


def _restore_onnx_mapping() -> None:
    """onnx 1.18 dropped ``onnx.mapping``, which Neural Compressor 2.4.1 reads."""
    import numpy as np
    import onnx

    if hasattr(onnx, "mapping"):
        return
    to_numpy: dict[int, Any] = {}
    to_tensor: dict[Any, int] = {}
    for number in onnx.TensorProto.DataType.values():
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
        except (KeyError, TypeError, ValueError):
            continue
        to_numpy[number] = dtype
        to_tensor.setdefault(dtype, number)
    mapping: Any = types.ModuleType("onnx.mapping")
    mapping.TENSOR_TYPE_TO_NP_TYPE, mapping.NP_TYPE_TO_TENSOR_TYPE = to_numpy, to_tensor
    sys.modules["onnx.mapping"] = mapping
    vars(onnx)["mapping"] = mapping


class _Errors(logging.Handler):
    """Keeps what Neural Compressor logs as an error: it catches its own and returns None."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not self.first and "Not found any quantized model" not in text:
            self.first = text


class _IncLoader:
    """What Neural Compressor takes for a data loader: batches with a label each."""

    def __init__(self, batch: int) -> None:
        self.batch_size = batch

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        for images in chunks(self.batch_size):
            yield images, 0


class _Judge:
    """Top-1 of a model on ``eval.npy``: against ``labels.npy``, else the fp32 model's answers."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        if Path("labels.npy").exists():
            import numpy as np

            self._wanted = np.load("labels.npy")
        else:
            self._wanted = self._answers(MODEL)

    def __call__(self, model: Any) -> float:
        given = self._answers(model.SerializeToString())
        return float((given[: len(self._wanted)] == self._wanted).mean())

    def _answers(self, model: Any) -> Any:
        import numpy as np
        import onnxruntime

        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        outputs = [session.run(None, {name: x})[0] for x in chunks(self._batch, "eval.npy")]
        return np.concatenate(outputs).argmax(axis=1)


def nncf(options: PeerTask) -> float:
    """NNCF on the ONNX graph, or on OpenVINO's of it. Returns the seconds it took, without its
    import."""
    from nncf import Dataset, IgnoredScope, QuantizationPreset, quantize
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        OverflowFix,
        QuantizationParameters,
    )
    from nncf.quantization.range_estimator import (
        RangeEstimatorParameters,
        RangeEstimatorParametersSet,
    )

    # NNCF's own choice is the mean per tensor, but the extremes where it quantizes the channels of
    # an activation one by one; its MEAN_MINMAX forces the mean there too, which costs 9 dB.
    ranges = {
        "minmax": RangeEstimatorParametersSet.MINMAX,
        "mean": RangeEstimatorParameters(),
    }
    advanced = AdvancedQuantizationParameters(
        overflow_fix=OverflowFix.ENABLE if options["portable"] else OverflowFix.DISABLE,
        disable_bias_correction=options["bias_correction"] == "off",
        activations_range_estimator_params=ranges[options["ranges"]],
        weights_quantization_params=QuantizationParameters(per_channel=options["per_channel"]),
    )
    load, save = _of_openvino() if options["backend"] == "openvino" else _of_onnx()
    model = load(MODEL)
    name = options["input"]
    images = Dataset(_Feeds(options["batch"], name))
    start = time.perf_counter()
    found = quantize(
        model,
        images,
        preset=QuantizationPreset.MIXED,
        subset_size=options["images"],
        fast_bias_correction=options["bias_correction"] != "accurate",
        ignored_scope=IgnoredScope(names=_all_names(options["exclude"]), validate=False),
        advanced_parameters=advanced,
    )
    save(found)
    return time.perf_counter() - start


def _of_onnx() -> tuple[Callable[[str], Any], Callable[[Any], object]]:
    import onnx

    return onnx.load, lambda found: onnx.save(found, QUANTIZED)


def _of_openvino() -> tuple[Callable[[str], Any], Callable[[Any], object]]:
    import openvino

    def save(found: Any) -> None:
        openvino.save_model(found, QUANTIZED_IR, compress_to_fp16=False)

    return openvino.Core().read_model, save


def _all_names(nodes: list[str]) -> list[str]:
    """Nodes by ONNX's names and by OpenVINO's, where a convolution with a bias is two nodes."""
    return [*nodes, *(f"{name}/WithoutBiases" for name in nodes)]


class _Feeds:
    """Batches by the input's name."""

    def __init__(self, batch: int, name: str) -> None:
        self._batch, self._name = batch, name

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for images in chunks(self._batch):
            yield {self._name: images}


def offered(options: PeerTask) -> float:
    """The engine of another package. Returns the seconds it took, without its import."""
    sys.path[:] = options["path"]
    import onnx

    from quantlab.quantize.peers.offered_child import made

    proto, seconds = made(options, Path(MODEL), batches)
    onnx.save(proto, QUANTIZED)
    return seconds


if __name__ == "__main__":
    main()
