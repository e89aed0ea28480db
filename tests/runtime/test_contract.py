"""What holds of every Runner, whatever runs the model, and of the fake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quantlab.data.threads import ordered_map
from quantlab.errors import ModelError
from quantlab.runtime.openvino import OpenVinoSession
from quantlab.runtime.runner import Runner
from quantlab.testing.models import FakeRunner, tiny_classifier

Make = Callable[..., Any]


def images(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((count, 3, 32, 32)).astype(np.float32)


@pytest.fixture(params=["onnxruntime", "openvino", "fake"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes a runner of ten classes; ``batch`` is a fixed batch size."""

    def made(batch: int | None = None, **settings: Any) -> Any:
        if request.param == "fake":
            return FakeRunner()
        path = tiny_classifier(tmp_path / f"{batch}.onnx", batch="N" if batch is None else batch)
        return Runner(path, runtime=request.param, threads=1, **settings)

    return made


def test_answers_are_float32_one_row_an_image(make: Make) -> None:
    with make() as run:
        found = run(images(3))
    assert (found.shape, found.dtype) == ((3, 10), np.float32)


def test_the_same_images_give_the_same_answers(make: Make) -> None:
    with make() as run, make() as other:
        np.testing.assert_array_equal(run(images(4)), other(images(4)))


def test_an_image_s_answer_does_not_depend_on_its_batch(make: Make) -> None:
    given = images(5)
    with make() as run:
        alone = np.concatenate([run(given[i : i + 1]) for i in range(5)])
        np.testing.assert_allclose(run(given), alone, atol=1e-5)
        np.testing.assert_allclose(run(given[:3]), alone[:3], atol=1e-5)


def test_what_was_answered_stays_when_more_is_asked(make: Make) -> None:
    with make() as run:
        first = run(images(2))
        kept = first.copy()
        run(images(2)[::-1])
    np.testing.assert_array_equal(first, kept)


def test_a_fixed_batch_takes_any_number_of_images(make: Make) -> None:
    with make(batch=4) as bound, make() as free:
        np.testing.assert_allclose(bound(images(6)), free(images(6)), atol=1e-5)


def test_threads_may_ask_at_the_same_time(make: Make) -> None:
    given = images(24)
    with make() as run:
        expected = run(given)
        found = list(ordered_map(lambda i: run(given[2 * i : 2 * i + 2]), 12, 4))
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)


def test_closing_twice_does_nothing(make: Make) -> None:
    run = make()
    run.close()
    run.close()


@pytest.mark.parametrize(
    "batch",
    [images(2)[:, :2], images(2).astype(np.float64), images(2)[:, :, 0]],
    ids=["channels", "dtype", "rank"],
)
@pytest.mark.parametrize("make", ["onnxruntime", "openvino"], indirect=True)
def test_a_batch_that_does_not_fit_is_one_plain_line(
    make: Make, batch: NDArray[np.generic], capfd: pytest.CaptureFixture[str]
) -> None:
    with make() as run, pytest.raises(ModelError, match="cannot run the model on this") as caught:
        run(batch)
    assert "\n" not in str(caught.value)
    assert "src/" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("make", ["onnxruntime", "openvino"], indirect=True)
def test_a_closed_runner_says_so(make: Make) -> None:
    with make() as run:
        pass
    with pytest.raises(ModelError, match="closed"):
        run(images(1))


def test_both_runtimes_answer_alike(tmp_path: Path) -> None:
    path = tiny_classifier(tmp_path / "tiny.onnx")
    answers = []
    for runtime in ("onnxruntime", "openvino"):
        with Runner(path, runtime=runtime) as run:
            answers.append(run(images(8)))
    np.testing.assert_allclose(*answers, atol=1e-4)
    assert not np.array_equal(*answers) or answers[0].std() > 0


def test_an_image_alone_is_computed_alone_in_openvino(tmp_path: Path) -> None:
    path = tiny_classifier(tmp_path / "tiny.onnx")
    with Runner(path, runtime="openvino", threads=1) as run:
        run(images(8))
        run(images(3))
        run(images(1))
        session = run.session
    assert isinstance(session, OpenVinoSession)
    assert [shape[0] for shape in session._compiled] == [8, 1]
