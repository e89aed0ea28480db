"""ParallelRunner: the same answers, to the last bit, whatever plan makes them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from quantlab.errors import ModelError
from quantlab.evaluate import parallel
from quantlab.evaluate.execution import Execution
from quantlab.evaluate.parallel import ParallelRunner
from quantlab.evaluate.plan import ParallelPlan
from quantlab.model.model import Model
from quantlab.runtime.openvino import OpenVinoSession
from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier

IMAGES = 203
ORDER = np.random.default_rng(1).permutation(IMAGES)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


@pytest.fixture
def images() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((IMAGES, 3, 32, 32), np.float32)


def all_answers(
    run: ParallelRunner, images: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    pieces = list(run.answers(ORDER, lambda rows: images[rows]))
    return np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])


def alone(model: Model, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with Runner(model, threads=1) as run:
        return np.concatenate([run(images[i : i + 1]) for i in ORDER])


@pytest.mark.parametrize(
    "settings",
    [{}, {"threads": 1}, {"batch": 1}, {"batch": 50}, {"split": (3, 1)}, {"split": (1, 2)}],
)
@pytest.mark.parametrize("probe_from", [0, 1000])
def test_answers_are_those_of_each_image_alone(
    settings: dict[str, object],
    probe_from: int,
    model: Model,
    images: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel, "PROBE_BATCHES", probe_from)
    monkeypatch.setattr(parallel, "PROBE_SPLITS", probe_from)
    with ParallelRunner(model, Execution(**settings)) as run:  # type: ignore[arg-type]
        rows, outputs = all_answers(run, images)
        again = all_answers(run, images)[1]
    np.testing.assert_array_equal(rows, ORDER)
    np.testing.assert_array_equal(outputs, alone(model, images))
    np.testing.assert_array_equal(again, outputs)


def test_what_is_asked_for_is_used(model: Model, images: NDArray[np.float32]) -> None:
    with ParallelRunner(model, Execution(batch=7, split=(2, 1))) as run:
        all_answers(run, images)
        assert run.plan == ParallelPlan(2, 1, 7)


def test_openvino_compiles_the_model_for_two_batches_only(
    model: Model, images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the usual batch, and of the images that are computed alone."""
    shapes, compile_for = list[int](), OpenVinoSession.compile

    def counted(self: OpenVinoSession, shape: tuple[int, ...]) -> object:
        shapes.append(shape[0])
        return compile_for(self, shape)

    monkeypatch.setattr(OpenVinoSession, "compile", counted)
    monkeypatch.setattr(parallel, "PROBE_BATCHES", 0)
    model = model.with_overrides(runtime="openvino")
    with ParallelRunner(model) as run:
        outputs = all_answers(run, images)[1]
    assert sorted(shapes) == [1, 2]
    np.testing.assert_array_equal(outputs, alone(model, images))


def test_a_fixed_batch_is_kept(tmp_path: Path, images: NDArray[np.float32]) -> None:
    model = Model.load(tiny_classifier(tmp_path / "fixed.onnx", batch=3))
    with ParallelRunner(model, Execution(batch=8)) as run:
        outputs = all_answers(run, images)[1]
        assert run.plan.batch == 3
    np.testing.assert_allclose(outputs, alone(model, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("probe_from", [0, 1000])
def test_a_plan_whose_answers_differ_is_not_used(
    probe_from: int,
    model: Model,
    images: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model whose last bits depend on the batch answers each image by itself."""
    call = Runner.__call__

    def rounded(self: Runner, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        return call(self, batch) * np.float32(1 + 1e-6 * (len(batch) > 1))

    expected = alone(model, images)
    monkeypatch.setattr(Runner, "__call__", rounded)
    monkeypatch.setattr(parallel, "PROBE_BATCHES", probe_from)
    with ParallelRunner(model, Execution(threads=2)) as run:
        outputs = all_answers(run, images)[1]
        assert run.plan == ParallelPlan(2, 1, 1)
    np.testing.assert_array_equal(outputs, expected)


def test_the_fastest_plan_is_chosen(
    model: Model, images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def slow_alone(self: Runner, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        clock[0] += 0.02 / len(batch)
        return np.zeros((len(batch), 10), np.float32)

    monkeypatch.setattr(parallel, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(parallel, "ordered_map", lambda call, count, _: map(call, range(count)))
    monkeypatch.setattr(Runner, "__call__", slow_alone)
    monkeypatch.setattr(parallel, "PROBE_BATCHES", 0)
    with ParallelRunner(model, Execution(threads=1)) as run:
        all_answers(run, images)
        assert run.plan == ParallelPlan(1, 1, 8)


def test_errors_of_a_batch_reach_the_caller(model: Model) -> None:
    wrong = np.zeros((20, 3, 5), np.float32)
    with ParallelRunner(model) as run, pytest.raises(ModelError, match="cannot run"):
        list(run.answers(np.arange(20), lambda rows: wrong[rows]))


def test_no_images(model: Model) -> None:
    with ParallelRunner(model) as run:
        assert list(run.answers(np.arange(0), lambda rows: np.zeros(0))) == []
