"""int8 files on an emulated CPU."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (16, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def cpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The benchmark, which lies in no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import cpus

    yield cpus
    for name in ("cpus", "contenders", "fidelity", "fidelity_table", "images"):
        sys.modules.pop(name)


def test_targets_are_asked_for_by_name(cpus: ModuleType) -> None:
    named = cpus.contenders(["openvino", "arm64"])
    assert [(c.name, c.recipe.target) for c in named] == [
        ("quantlab target openvino", "openvino"), ("quantlab target arm64", "arm64"),
    ]  # fmt: skip
    assert cpus.contenders(()) == cpus.CONTENDERS


class Batches:
    """Calibration images, in one batch."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __iter__(self) -> Any:
        yield IMAGES


def bright(path: Path) -> Path:
    """A network whose sums of two products are as large as 8 bits allow: weights and inputs are all
    positive."""
    weights = {
        "w": RNG.uniform(0.5, 1, (8, 3, 3, 3)),
        "v": RNG.uniform(0.5, 1, (8, 8, 1, 1)),
        "m": RNG.standard_normal((5, 8)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="a"),
        helper.make_node("Relu", ["a"], ["b"], name="b"),
        helper.make_node("Conv", ["b", "v"], ["c"], name="c"),
        helper.make_node("Relu", ["c"], ["d"], name="d"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="e"),
        helper.make_node("Flatten", ["e"], ["f"], name="f"),
        helper.make_node("Gemm", ["f", "m"], ["y"], transB=1, name="y"),
    ]
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.mark.emulator
@pytest.mark.skipif(platform.machine() != "x86_64", reason="Haswell is emulated on x86")
def test_default_files_answer_alike_on_a_cpu_without_vnni(cpus: ModuleType, tmp_path: Path) -> None:
    model, files = Model.load(bright(tmp_path / "bright.onnx")), []
    for portable in (True, False):
        recipe = Recipe(portable=portable, placement="widest")
        files.append(tmp_path / f"{portable}.onnx")
        onnx.save(get_engine("quantlab").quantize(model, recipe, Batches()), files[-1])
    here, haswell = cpus.hosts(sys.executable, "", "", "")
    fp32 = here.answers([model.path], IMAGES)[0]
    first, found = here.answers(files, IMAGES), haswell.answers(files, IMAGES)
    ours, other = cpus.compared(["default", "not portable"], haswell, fp32, first, found)
    assert ours.sqnr_db > 25
    assert ours.apart <= 1e-4 * np.abs(fp32).max()
    assert other.apart > 0.1 * np.abs(fp32).max()
    assert other.sqnr_db < 20


def test_a_table_has_the_hosts_of_a_file_together(cpus: ModuleType) -> None:
    here, _, arm64 = cpus.hosts("python", "", "root:site", "")
    assert arm64.command[:5] == ["qemu-aarch64-static", "-cpu", "max", "-L", "root"]
    assert arm64.variables == {"PYTHONPATH": "site"}
    fp32 = np.eye(4, dtype=np.float32)
    answers = [fp32 + np.float32(0.1), np.roll(fp32, 1, axis=1)]
    rows = [
        *cpus.compared(["a", "b"], here, fp32, answers, answers),
        *cpus.compared(["a", "b"], arm64, fp32, answers, answers[::-1]),
    ]
    lines = cpus.table(rows)
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| a", "| a", "| b", "| b"]
    assert rows[0].apart == 0
    assert rows[2].agree == 0
    assert lines[3].endswith("| 1.1 | 0.0 |")
