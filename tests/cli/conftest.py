"""A command line in this process, and a small scene for it: a model, images, a pipeline."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import optuna
import pytest
from answering import evaluate
from click.testing import CliRunner
from onnx import numpy_helper
from optuna.storages import InMemoryStorage

from quantlab.cli import main
from quantlab.data.crops import load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import QuantizeError
from quantlab.model.model import Model
from quantlab.runs.record import RunRecord, load_record
from quantlab.runtime.runner import Runner
from quantlab.testing import (
    fake_bench,
    image_folder,
    listed_folder,
    near_model,
    taught,
    tiny_classifier,
)
from quantlab.tune import study

PIPELINE = """
name: tiny
resizer: pillow-bilinear
resize: 36
crop: 32
mean: [127, 127, 127]
std: [64, 64, 64]
"""


@dataclass(frozen=True)
class Said:
    """What one command answered."""

    code: int
    out: str
    err: str

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return Path(self._line("Run"))

    @property
    def record(self) -> RunRecord:
        """Its record on disk."""
        return load_record(self.folder)

    @property
    def repeat(self) -> list[str]:
        """The words after ``quantlab`` that repeat it."""
        return shlex.split(self._line("Repeat"))[1:]

    @property
    def warnings(self) -> list[str]:
        """Its warnings."""
        return [line for line in self.err.splitlines() if line.startswith("Warning: ")]

    @property
    def complaint(self) -> list[str]:
        """The lines on stderr that are not warnings."""
        return [line for line in self.err.splitlines() if not line.startswith("Warning: ")]

    def _line(self, name: str) -> str:
        found = re.search(rf"^{name}:\s+(.*)$", self.err, re.MULTILINE)
        assert found, self.err
        return found[1]


Cli = Callable[..., Said]


@pytest.fixture
def cli() -> Cli:
    """``cli("evaluate", model, ...)``: the command's answer; its exit code is ``code``."""

    def run(*words: object, code: int | None = 0) -> Said:
        result = CliRunner().invoke(main, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        said = Said(result.exit_code, result.stdout, result.stderr)
        assert code is None or said.code == code, said
        assert "Traceback" not in said.err
        assert "\x1b" not in said.out + said.err
        return said

    return run


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other program uses the machine, as far as bench is told."""
    monkeypatch.setattr("quantlab.verbs.bench.busy_note", lambda: "")


@dataclass(frozen=True)
class Scene:
    """Forty images of ten classes, a model and the pipeline between them."""

    folder: Path
    model: Path
    data: Path
    pipeline: Path
    kept: Path
    """Where image sets are kept for the next tests that want the same."""

    @property
    def words(self) -> tuple[str, ...]:
        """The options that name the images and the pipeline."""
        return ("--data", str(self.data), "--pipeline", str(self.pipeline))

    def untaught(self) -> Path:
        """The model as it was before it learnt: it answers a few classes most of the time, and
        small changes of its weights change no answer."""
        return tiny_classifier(self.model)

    def labelled_by_itself(
        self, name: str, count: int = 60, seed: int = 5, model: Path | None = None
    ) -> Path:
        """Images that the model, or another, is always right about."""
        answering = digest(model or self.model)[:16]
        kept = self.kept / f"{count}-{seed}-{answering}-{digest(self.pipeline)[:16]}"
        if not kept.exists():
            listed_folder(kept, [i % 10 for i in range(count)], seed=seed)
            lines = (kept / "val.txt").read_text().split()[::2]
            rows = zip(lines, self.answers(kept, model), strict=True)
            (kept / "val.txt").write_text("".join(f"{n} {a}\n" for n, a in rows))
        return Path(shutil.copytree(kept, self.folder / name))

    def near(self) -> Path:
        """A model whose outputs are nearly the model's own, and whose answers are its own."""
        return near_model(self.model, self.folder / "near.onnx")

    def teach(self, model: Path) -> Path:
        """The tiny model, taught the scene's images: one that guesses is judged by nobody."""
        return taught(model, self.data, self.pipeline)

    def answers(self, folder: Path, path: Path | None = None) -> list[int]:
        """The model's first answer, or another's, on each image."""
        model = Model.load(path or self.model)
        crops = load_crops(
            open_dataset(folder), get_pipeline(self.pipeline), cache_dir=self.folder / "answers"
        )
        with Runner(model, threads=1) as runner:
            found: list[int] = evaluate(model, crops, runner).top(1)[:, 0].tolist()
        return found

    def snapshot(self) -> dict[str, str]:
        """The sha256 of every file of the scene."""
        return {str(p): digest(p) for p in sorted(self.folder.rglob("*")) if p.is_file()}


def digest(path: Path) -> str:
    """A file's sha256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scene that every test gets a copy of, and with image sets."""
    folder = tmp_path_factory.mktemp("kept")
    _scene(folder / "scene", folder, made=False)
    return folder


@pytest.fixture
def scene(tmp_path: Path, kept: Path) -> Scene:
    """The scene, in a folder of its own."""
    return _scene(Path(shutil.copytree(kept / "scene", tmp_path / "scene")), kept, made=True)


def _scene(folder: Path, kept: Path, made: bool) -> Scene:
    """What is in this folder, or will be."""
    found = Scene(folder, folder / "tiny.onnx", folder / "data", folder / "pipeline.yaml", kept)
    if not made:
        image_folder(found.data, 10, per_class=4, size=40)
        found.pipeline.write_text(PIPELINE)
        found.teach(tiny_classifier(found.model))
    return found


@pytest.fixture
def no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies are made up: the first model 10 ms, the others 5 ms."""
    monkeypatch.setattr("quantlab.verbs.bench.bench", fake_bench)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have no pictures, which take most of a tiny model's time."""
    monkeypatch.setattr("quantlab.verbs.publish.draw", lambda *_, **__: {})


@pytest.fixture
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's own study is kept in memory: its tables take a third of a tiny tune's time."""
    kept = dict[str, InMemoryStorage]()
    create = study.optuna.create_study

    def created(*, storage: str | None = None, **rest: Any) -> optuna.Study:
        if storage is None or not storage.endswith("/study.db"):
            return create(storage=storage, **rest)
        return create(storage=kept.setdefault(storage, InMemoryStorage()), **rest)

    monkeypatch.setattr(study.optuna, "create_study", created)


class FakeEngine:
    """The fp32 graph with noise on its last weights: ``noise`` gives the amount for each recipe.

    None instead of an amount fails, an exception is raised.
    """

    name = "fake"

    def __init__(self, *noise: float | BaseException | None) -> None:
        self.noise = noise
        self.calls = 0

    def quantize(self, model: Model, recipe: object, calibration: object) -> onnx.ModelProto:
        """See Engine.quantize."""
        amount = self.noise[min(self.calls, len(self.noise) - 1)]
        self.calls += 1
        if isinstance(amount, BaseException):
            raise amount
        if amount is None:
            raise QuantizeError("this recipe is beyond the engine.")
        return noisy(model.proto(), amount)


def noisy(proto: onnx.ModelProto, amount: float) -> onnx.ModelProto:
    """The graph with the classifier's weights turned into ``amount`` times noise, partly."""
    for tensor in proto.graph.initializer:
        if tensor.name == "fc.w":
            weights = numpy_helper.to_array(tensor)
            noise = np.random.default_rng(1).standard_normal(weights.shape)
            tensor.CopyFrom(
                numpy_helper.from_array((weights + amount * noise).astype(np.float32), tensor.name)
            )
    return proto


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeEngine]:
    """``engine(0.1, None, ...)``: what the trials give, one after the other."""

    def install(*noise: float | BaseException | None) -> FakeEngine:
        fake = FakeEngine(*noise)
        monkeypatch.setattr("quantlab.verbs.quantize.get_engine", lambda name: fake)
        return fake

    return install


@pytest.fixture
def parsed() -> Callable[[Said], dict[str, Any]]:
    """The one JSON document on stdout."""

    def read(said: Said) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(said.out)
        return found

    return read
