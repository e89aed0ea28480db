"""Whatever another package's engine does, a model or an error of two lines comes back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from waiting import deadline_from, gone, pids_in, until

from quantlab.errors import OutputError, QuantizeError
from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.recipe import Recipe
from quantlab.testing.models import tiny_classifier

ENGINES = """
import errno, os, signal, subprocess, sys, time
import numpy as np, onnx
from onnx import helper, numpy_helper
from quantlab.errors import QuantizeError

class Good:
    name = "good"

    def quantize(self, model, recipe, calibration):
        proto = model.proto()
        for _ in range(2):
            assert sum(len(batch) for batch in calibration) == len(calibration) == 3
        assert (model.layout, model.name, recipe.percentile) == ("NCHW", "mine", 77.25)
        model.path.write_bytes(b"spoilt")
        kernel = next(t for t in proto.graph.initializer if t.name == "stem.w")
        values = numpy_helper.to_array(kernel)
        scale = np.float32(np.abs(values).max() / 127)
        whole = np.round(values / scale).astype(np.int8)
        kernel.CopyFrom(numpy_helper.from_array(whole, "stem.q"))
        proto.graph.initializer.append(numpy_helper.from_array(scale, "scale"))
        node = helper.make_node("DequantizeLinear", ["stem.q", "scale"], ["stem.w"])
        proto.graph.node.insert(0, node)
        return proto

class Bad:
    name = "bad"

    def quantize(self, model, recipe, calibration):
        exec(os.environ["BAD_DOES"])
        return eval(os.environ.get("BAD_GIVES", "None"))
"""


class Images:
    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        yield np.zeros((2, 3, 32, 32), np.float32)
        yield np.ones((1, 3, 32, 32), np.float32)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model, beside an installed package that offers engines, and temporary files of its own."""
    info = tmp_path / "site" / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[quantlab.engines]\ngood = acme_engines:Good\nbad = acme_engines:Bad\n"
        "lost = acme_engines:Lost\ngone = acme_missing:Gone\nempty = acme_engines:dict\n"
    )
    (info.parent / "acme_engines.py").write_text(ENGINES)
    monkeypatch.syspath_prepend(str(info.parent))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    path = tiny_classifier(tmp_path / "mine.onnx")
    return Model.load(path).with_overrides(layout="NCHW")


def run(model: Model, engine: str) -> onnx.ModelProto:
    recipe = Recipe(name="r", engine=engine, percentile=77.25)
    return get_engine(engine).quantize(model, recipe, Images())


def test_the_model_comes_back_and_the_users_file_is_out_of_reach(
    model: Model, tmp_path: Path
) -> None:
    assert "DequantizeLinear" in {node.op_type for node in run(model, "good").graph.node}
    model.check_unchanged()
    assert "acme_engines" not in sys.modules
    assert not list((tmp_path / "tmp").iterdir())


BROKEN = "onnx.ModelProto(ir_version=8)"


@pytest.mark.parametrize(
    ("does", "gives", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "0", r"^the engine bad of acme crashed \(SIGSEGV"),
        ("os._exit(3)", "0", "ended early with exit code 3"),
        ("exit('bye')", "0", r"called exit\(bye\)"),
        ("raise ValueError('a\\nb')", "0", "failed: ValueError: a b"),
        ("raise QuantizeError('too deep.', 'Cut it.')", "0", "^too deep.\nCut it.$"),
        ("", "None", "quantize returned NoneType, not an onnx.ModelProto"),
        ("", BROKEN, "made a broken file"),
        ("", "model.proto()", "has left every node in fp32"),
    ],
)
def test_each_way_to_fail(
    does: str, gives: str, said: str, model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BAD_DOES", does)
    monkeypatch.setenv("BAD_GIVES", gives)
    with pytest.raises(QuantizeError, match=said) as caught:
        run(model, "bad")
    assert len(str(caught.value).splitlines()) == 2
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("name", ["lost", "gone", "empty"])
def test_an_engine_that_cannot_be_loaded_names_its_package(name: str, model: Model) -> None:
    with pytest.raises(QuantizeError, match=f"the engine {name} of acme"):
        run(model, name)


def test_a_hang_is_ended_with_all_its_processes(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setenv("QUANTLAB_ENGINE_TIMEOUT", "1s")
    monkeypatch.setattr(subprocess, "Popen", deadline_from(lambda: len(pids_in(pids)) == 2))
    monkeypatch.setenv(
        "BAD_DOES",
        "other = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{other.pid}}')\n"
        "time.sleep(600)",
    )
    with pytest.raises(QuantizeError, match="did not finish in 1 s and was stopped"):
        run(model, "bad")
    until(lambda: all(map(gone, pids_in(pids))))


def test_a_deadline_must_be_a_duration(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTLAB_ENGINE_TIMEOUT", "soon")
    with pytest.raises(QuantizeError, match="QUANTLAB_ENGINE_TIMEOUT: 'soon' is not a duration"):
        run(model, "good")


def test_a_full_disk_is_not_the_engines_fault(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAD_DOES", "raise OSError(errno.ENOSPC, 'No space left on device')")
    with pytest.raises(OutputError, match="the disk is full") as caught:
        run(model, "bad")
    assert "TMPDIR" in caught.value.remedy
