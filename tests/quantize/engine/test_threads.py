"""The same seed gives the same bytes, whatever the number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from threadpoolctl import threadpool_info, threadpool_limits

from quantlab.model.model import Model
from quantlab.quantize.engine import QuantlabEngine, weights
from quantlab.quantize.engine.rounding import round_rows
from quantlab.recipe import Recipe
from quantlab.runtime import graphs
from quantlab.testing import image_folder, tiny_classifier

PIPELINE = (
    "resizer: pillow-bilinear\nresize: 51\ncrop: 51\nmean: [127, 127, 127]\nstd: [64, 64, 64]\n"
)


def softplus_classifier(path: Path) -> Path:
    """Its Softplus of a constant differs in the last bit where two threads divide the tensor."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": np.zeros((24, 3, 3, 3), np.float32),
        "b1": np.full(24, 1.6235275, np.float32),
        "w2": rng.standard_normal((24, 24, 3, 3)).astype(np.float32),
        "w3": rng.standard_normal((10, 24)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1] * 4),
        helper.make_node("Softplus", ["c1"], ["s"]),
        helper.make_node("Conv", ["s", "w2"], ["c2"]),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["y"], transB=1),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 51, 51])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])
    tensors = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "softplus", [given], [made], tensors)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def quantized(threads: int, output: Path, *options: object) -> bytes:
    """What a process of its own writes that finds so many cores."""
    code = (
        "import quantlab.runtime.environment as e;"
        f"e.default_threads = lambda: {threads};"
        "from quantlab.cli import main; main()"
    )
    line = [sys.executable, "-c", code, "quantize", "--quiet", "--output", output, *options]
    count = str(threads)
    limits = {"OPENBLAS_NUM_THREADS": count, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    subprocess.run([str(word) for word in line], check=True, env=os.environ | limits)
    return output.read_bytes()


def test_the_command_writes_the_same_bytes(tmp_path: Path) -> None:
    model = softplus_classifier(tmp_path / "softplus.onnx")
    (tmp_path / "p.yaml").write_text(PIPELINE)
    data = image_folder(tmp_path / "images", 10, per_class=2, size=60)
    options = ("--model", model, "--data", data, "--pipeline", tmp_path / "p.yaml")
    one, two = (quantized(n, tmp_path / f"{n}.onnx", *options) for n in (1, 2))
    assert one == two


@pytest.mark.data
def test_mobilenet_is_the_same_bytes(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text("calibration_size: 8\n")
    options = (
        *("--model", data_root / "models" / "mobilenetv2-12.onnx"),
        *("--data", data_root / "imagenet" / "calib1000"),
        *("--recipe", tmp_path / "few.yaml"),
    )
    one, two = (quantized(n, tmp_path / f"{n}.onnx", *options) for n in (1, 2))
    assert one == two


def test_one_thread_computes_what_decides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums that a BLAS or ONNX Runtime divides among threads differ in their last bits."""
    sessions, blas = [], []

    def create_session(*args: Any, threads: int, **options: Any) -> Any:
        sessions.append(threads)
        return real(*args, threads=threads, **options)

    def rounded(*args: Any) -> Any:
        blas.extend(i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas")
        return round_rows(*args)

    real = graphs.create_session
    monkeypatch.setattr(graphs, "create_session", create_session)
    monkeypatch.setattr(weights, "round_rows", rounded)
    model = Model.load(tiny_classifier(tmp_path / "tiny.onnx"))
    with threadpool_limits(2, "blas"):
        quantize(model)
    assert set(sessions) == {1}
    assert set(blas) <= {1}


def quantize(model: Model) -> onnx.ModelProto:
    images = np.random.default_rng(1).standard_normal((6, 3, 32, 32)).astype(np.float32)

    class Images:
        def __len__(self) -> int:
            return len(images)

        def __iter__(self) -> Any:
            return iter([images])

    return QuantlabEngine().quantize(model, Recipe(), Images())
