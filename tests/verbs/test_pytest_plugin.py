"""The pytest plugin, in pytest runs of their own."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import evaluate

from quantlab.data.crops import load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner
from quantlab.testing import blind_model, listed_folder, near_model, tiny_classifier

pytest_plugins = ["pytester"]
for needed in ("numpy.fft", "scipy.stats", "quantlab.cli.gate", "quantlab.verbs.gate"):
    import_module(needed)
"""Pytester forgets what a run of it has imported first, and NumPy cannot be imported twice."""

PIPELINE = """
{name: tiny, resizer: pillow-bilinear, resize: 36, crop: 32, mean: [127, 127, 127],
 std: [64, 64, 64]}
"""
FIXED = 'data="val", pipeline="p.yaml", threads=1'


@pytest.fixture
def repo(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A model repository: fp32, an int8 that is the same, one that is nearly, one that never gives
    its usual answer."""
    monkeypatch.setenv("QUANTLAB_CACHE", str(pytester.path / "cache"))
    monkeypatch.setattr("quantlab.verbs.publish.draw", lambda *_, **__: {})
    root = pytester.path
    (root / "p.yaml").write_text(PIPELINE)
    model = tiny_classifier(root / "fp32.onnx")
    folder = listed_folder(root / "val", [0] * 60, seed=2)
    dataset = open_dataset(folder)
    crops = load_crops(dataset, get_pipeline(root / "p.yaml"), cache_dir=root / "cache")
    with Runner(Model.load(model), threads=1) as runner:
        answers = evaluate(Model.load(model), crops, runner).top(1)[:, 0]
    lines = zip(dataset.names, answers.tolist(), strict=True)
    (folder / "val.txt").write_text("".join(f"{name} {answer}\n" for name, answer in lines))
    (root / "int8.onnx").write_bytes(model.read_bytes())
    near_model(model, root / "near.onnx")
    blind_model(model, root / "broken.onnx", [int(np.bincount(answers).argmax())])
    return pytester


def outcomes(repo: pytest.Pytester, body: str, *words: str, **expected: int) -> Any:
    repo.makepyfile(body)
    result = repo.runpytest("-p", "no:cacheprovider", *words)
    result.assert_outcomes(**expected)
    return result


def test_the_gate_does_not_write_over_its_inputs(repo: pytest.Pytester) -> None:
    before = (repo.path / "fp32.onnx").read_bytes()
    result = outcomes(
        repo,
        f"""
        def test_int8(quantlab_gate):
            quantlab_gate("fp32.onnx", "int8.onnx", comment="fp32.onnx", {FIXED})
        """,
        failed=1,
    )
    result.stdout.fnmatch_lines(["*--comment*would write what MODELS reads.*"])
    assert (repo.path / "fp32.onnx").read_bytes() == before


def test_the_gate_passes_and_returns_the_decision(repo: pytest.Pytester) -> None:
    outcomes(
        repo,
        f"""
        def test_int8(quantlab_gate):
            found = quantlab_gate(
                "fp32.onnx", "int8.onnx", max_decline="20%", require="portable", {FIXED}
            )
            assert found.status == "pass"
            assert found.judged[1].rule.text == "portable"
            assert found.judged[0].rule.text == "top1.decline <= 20%"
        """,
        passed=1,
    )


def test_a_regression_fails_with_the_gates_words(repo: pytest.Pytester) -> None:
    result = outcomes(
        repo,
        f"""
        import pytest

        @pytest.mark.quantlab_gate({FIXED})
        def test_int8(quantlab_gate):
            quantlab_gate("fp32.onnx", "broken.onnx", max_decline="1%", require="kl <= 9")
        """,
        failed=1,
    )
    result.stdout.fnmatch_lines(["*FAIL: broken against fp32 on 60 images*"])
    assert "Traceback" not in result.stdout.str()
    assert "def gate" not in result.stdout.str()


INCONCLUSIVE = f"""
    def test_int8(quantlab_gate):
        quantlab_gate("fp32.onnx", "near.onnx", max_decline="1%", {FIXED})
"""


def test_an_unchanged_model_passes_on_any_number_of_images(repo: pytest.Pytester) -> None:
    outcomes(repo, INCONCLUSIVE.replace("near", "int8"), passed=1)


def test_inconclusive_is_an_outcome_of_its_own(repo: pytest.Pytester) -> None:
    result = outcomes(repo, INCONCLUSIVE, failed=1)
    result.stdout.fnmatch_lines(["*INCONCLUSIVE: near against fp32*", "*images would decide it*"])
    for outcome, counted in (("xfail", "xfailed"), ("skip", "skipped")):
        option = f"--quantlab-inconclusive={outcome}"
        result = outcomes(repo, INCONCLUSIVE, option, "-ra", **{counted: 1})
        assert "INCONCLUSIVE" in result.stdout.str()
    repo.makeini("[pytest]\nquantlab_inconclusive = skip\n")
    outcomes(repo, INCONCLUSIVE, skipped=1)
    outcomes(repo, INCONCLUSIVE, "--quantlab-inconclusive=fail", failed=1)
    one = INCONCLUSIVE.replace("max_decline", 'inconclusive="xfail", max_decline')
    outcomes(repo, one, xfailed=1)


def test_a_reference_that_guesses_judges_nothing(repo: pytest.Pytester) -> None:
    labels = repo.path / "val" / "val.txt"
    pairs = (line.split() for line in labels.read_text().splitlines())
    labels.write_text("".join(f"{name} {(int(label) + 1) % 10}\n" for name, label in pairs))
    result = outcomes(repo, INCONCLUSIVE, failed=1)
    result.stdout.fnmatch_lines(["*could not judge: fp32 is right on 0 of 60 images*"])


def test_a_baseline_and_the_default_rule(repo: pytest.Pytester, cli_update: Any) -> None:
    cli_update(repo.path)
    outcomes(
        repo,
        f"""
        def test_int8(quantlab_gate):
            quantlab_gate("int8.onnx", baseline="b.yaml", require=["agreement >= 90%"], {FIXED})

        def test_rule(quantlab_gate):
            quantlab_gate("int8.onnx", baseline="b.yaml", {FIXED})

        def test_other(quantlab_gate):
            quantlab_gate("near.onnx", baseline="b.yaml", inconclusive="skip", {FIXED})
        """,
        passed=2,
        skipped=1,
    )


@pytest.fixture
def cli_update() -> Any:
    def update(root: Path) -> None:
        words = ["baseline", "update", "fp32.onnx", "--data", "val", "--pipeline", "p.yaml"]
        command = [sys.executable, "-m", "quantlab", *words, "--baseline", "b.yaml", "-q"]
        subprocess.run(command, cwd=root, check=True, capture_output=True)

    return update


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ('"fp32.onnx", "gone.onnx"', "gone.onnx"),
        ('"int8.onnx"', "nothing to be compared with"),
        ('"fp32.onnx", "int8.onnx", require="top1 > 1%"', "there is no metric top1"),
        ('"fp32.onnx", "int8.onnx", dat="val"', "Did you mean data?"),
        ('"fp32.onnx", "int8.onnx", inconclusive="maybe"', "is not one of fail, xfail, skip"),
    ],
)
def test_what_cannot_be_judged_fails_in_a_line(
    repo: pytest.Pytester, call: str, problem: str
) -> None:
    body = f"def test_int8(quantlab_gate):\n    quantlab_gate({call})\n"
    assert problem in outcomes(repo, body, failed=1).stdout.str()


def test_a_wrong_ini_key_is_told(repo: pytest.Pytester) -> None:
    repo.makeini("[pytest]\nquantlab_inconclusive = maybe\n")
    result = repo.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*quantlab_inconclusive is one of fail, xfail, skip*"])


def test_collection_imports_nothing_heavy() -> None:
    code = (
        "import sys, quantlab.verbs.pytest_plugin\n"
        "print([n for n in ('numpy', 'onnx', 'onnxruntime', 'scipy', 'pydantic', 'click')"
        " if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
