from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from quantlab.errors import ModelError
from quantlab.model.model import Model
from quantlab.runtime.runner import OnnxRuntimeSession, Runner
from quantlab.testing.models import tiny_classifier


def images(count: int, size: int = 32) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((count, 3, size, size)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_classifier(tmp_path / "tiny.onnx")


def test_every_form_of_a_model_gives_the_same_answers(path: Path) -> None:
    batch = images(3)
    forms = (path, str(path), path.read_bytes(), onnx.load(path), Model.load(path))
    answers = []
    for form in forms:
        with Runner(form, threads=1) as run:
            answers.append(run(batch))
    assert answers[0].shape == (3, 10)
    assert answers[0].dtype == np.float32
    for other in answers[1:]:
        np.testing.assert_array_equal(other, answers[0])


def test_the_answers_differ_from_image_to_image(path: Path) -> None:
    with Runner(path) as run:
        assert run(images(8)).std(axis=0).min() > 0.01


@pytest.mark.parametrize("fixed", [1, 4])
def test_a_fixed_batch_takes_any_number_of_images(tmp_path: Path, fixed: int) -> None:
    free = tiny_classifier(tmp_path / "free.onnx")
    bound = tiny_classifier(tmp_path / "bound.onnx", batch=fixed)
    batch = images(6)
    with Runner(free, threads=1) as a, Runner(bound, threads=1) as b:
        assert (a.batch, b.batch) == (None, fixed)
        np.testing.assert_allclose(b(batch), a(batch), atol=1e-5)


def test_uint8_nhwc_with_softmax(tmp_path: Path) -> None:
    path = tiny_classifier(tmp_path / "u8.onnx", layout="NHWC", dtype="uint8", softmax=True)
    batch = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    with Runner(path) as run:
        np.testing.assert_allclose(run(batch).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("softmax", [False, True], ids=["logit", "probability"])
def test_one_number_an_image_becomes_two_classes(tmp_path: Path, softmax: bool) -> None:
    path = tiny_classifier(tmp_path / "m.onnx", classes=1)
    with Runner(path) as run:
        logit = run(images(3))[:, 1]
    if softmax:
        proto = onnx.load(path)
        proto.graph.node[-1].output[0] = "logit"
        proto.graph.node.append(helper.make_node("Sigmoid", ["logit"], ["output"]))
        onnx.save(proto, path)
    expected = 1 / (1 + np.exp(-np.stack([-logit, logit], 1))) if softmax else None
    for form in (path, path.read_bytes(), onnx.load(path), Model.load(path)):
        with Runner(form) as run:
            found = run(images(3))
        if expected is None:
            assert (found[:, 0] == 0).all()
            assert found[:, 1].std() > 0
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    with Runner(path, output_kind="logits") as run:
        assert (run(images(3))[:, 0] == 0).all()


def test_settings_are_explicit(path: Path) -> None:
    with Runner(path, threads=2, inter_threads=1, optimization="basic") as run:
        assert isinstance(run.session, OnnxRuntimeSession)
        options = run.session.session.get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
        assert run.session.session.get_providers() == ["CPUExecutionProvider"]
    assert Runner(path).threads >= 1


def test_an_unknown_provider_names_the_available_ones(path: Path) -> None:
    with pytest.raises(ModelError, match="no execution provider MoonProvider") as caught:
        Runner(path, providers=("MoonProvider",))
    assert "CPUExecutionProvider" in caught.value.remedy


def test_an_unknown_level_names_the_levels(path: Path) -> None:
    with pytest.raises(ModelError, match="no optimization level is called 'most'"):
        Runner(path, optimization="most")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "batch",
    [images(2, size=31)[:, :2], images(2).astype(np.float64), images(2)[:, :, 0]],
    ids=["channels", "dtype", "rank"],
)
def test_a_batch_that_does_not_fit_is_one_plain_line(
    path: Path, batch: NDArray[np.generic], capfd: pytest.CaptureFixture[str]
) -> None:
    with Runner(path) as run, pytest.raises(ModelError) as caught:
        run(batch)
    assert "\n" not in str(caught.value)
    assert "ONNXRuntimeError" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_what_is_not_a_model_is_one_plain_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    for source in (tmp_path / "no.onnx", tmp_path / "absent.onnx", b"no model"):
        with pytest.raises(ModelError, match=r"^ONNX Runtime cannot load [^\n]+$"):
            Runner(source)
    assert capfd.readouterr() == ("", "")


def test_a_closed_runner_says_so(path: Path) -> None:
    with Runner(path) as run:
        pass
    run.close()
    with pytest.raises(ModelError, match="closed"):
        run(images(1))
