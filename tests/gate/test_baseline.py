"""What a baseline holds, and what can be decided without its answers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantlab.errors import RecordError
from quantlab.evaluate.predictions import Predictions
from quantlab.gate import baseline as module
from quantlab.gate.baseline import (
    Answers,
    Baseline,
    as_yaml,
    baseline_of,
    decide_unpaired,
    differences,
    is_accepted_file,
    load_answers,
    load_baseline,
)
from quantlab.gate.rules import parse_rules
from quantlab.stats.paired import independent_decline
from quantlab.testing import fake_predictions

HERE = {"isa": "avx2", "quantlab": "0.1", "onnxruntime": "1.2", "pillow": "10", "cpu": "some"}


def made(predictions: Predictions) -> Baseline:
    return baseline_of(predictions, predictions.accuracy, size_bytes=4_000_000, environment=HERE)


def kept(predictions: Predictions, folder: Path) -> tuple[Baseline, Path]:
    """The baseline with its answers beside it."""
    path = folder / "b.yaml"
    predictions.save(path.with_suffix(".npz"), compressed=True)
    digest = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
    found = made(predictions).model_copy(
        update={"predictions": Answers(file="b.npz", sha256=digest)}
    )
    path.write_text(as_yaml(found, "quantlab baseline update m.onnx"))
    return found, path


def test_it_goes_to_yaml_and_back(tmp_path: Path) -> None:
    predictions = fake_predictions(300, 20, 0.1, 1)
    found, path = kept(predictions, tmp_path)
    assert load_baseline(path) == found
    assert path.read_text().splitlines()[1] == "# quantlab baseline update m.onnx"
    assert len(path.read_text().splitlines()) < 45
    again = load_answers(found, path)
    assert again is not None
    np.testing.assert_array_equal(again.outputs, predictions.outputs)
    assert again.digests == predictions.digests
    path.with_suffix(".npz").unlink()
    assert load_answers(found, path) is None


def test_the_same_answers_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    kept(fake_predictions(50, 5, 0.1, 1), tmp_path)
    kept(fake_predictions(50, 5, 0.1, 1), tmp_path / "a")
    assert (tmp_path / "b.npz").read_bytes() == (tmp_path / "a" / "b.npz").read_bytes()


def test_answers_that_unpack_to_too_much_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = replace(fake_predictions(400, 50, 0, 1), outputs=np.zeros((400, 50), np.float32))
    found, path = kept(flat, tmp_path)
    size = path.with_suffix(".npz").stat().st_size
    monkeypatch.setattr(module, "MOST_STORED", size)
    with pytest.raises(RecordError, match="when unpacked"):
        load_answers(found, path)
    monkeypatch.setattr(module, "MOST_STORED", size - 1)
    with pytest.raises(RecordError, match="no baseline's answers"):
        load_answers(found, path)


def test_answers_of_another_model_are_refused(tmp_path: Path) -> None:
    found, path = kept(fake_predictions(50, 5, 0.1, 1), tmp_path)
    other = found.model_copy(update={"model": found.model.model_copy(update={"sha256": "0" * 64})})
    with pytest.raises(RecordError, match="answers of another model"):
        load_answers(other, path)


def test_differences_are_by_key() -> None:
    a, b = (made(fake_predictions(300, 20, flip, 1)) for flip in (0.0, 0.1))
    assert differences(a, a) == ()
    keys = {row.key for row in differences(a, b)}
    assert {"model.sha256", "model.name", "metrics.top1.right"} <= keys
    assert not any(key.startswith("data") for key in keys)


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ("top1.decline <= 40%", "pass"),
        ("top1.decline <= 30pp", "pass"),
        ("top1.decline <= 1%", "fail"),
        ("top1.decline <= 0.5pp", "fail"),
        ("top5.decline <= 1%", "pass"),
        ("agreement >= 50%", "inconclusive"),
        ("kl <= 9", "inconclusive"),
        ("class.decline <= 90pp", "inconclusive"),
        ("latency.p50.ratio <= 9, required", "inconclusive"),
        ("size <= 4MB", "pass"),
        ("size <= 3MB", "fail"),
    ],
)
def test_without_answers_only_accuracies_and_the_size_are_judged(rule: str, status: str) -> None:
    before, after = fake_predictions(400, 20, 0, 1), fake_predictions(400, 20, 0.5, 1)
    found = decide_unpaired(made(before), after.accuracy, 3_500_000, parse_rules([rule]))
    assert found.status == status


def test_the_interval_is_newcombes() -> None:
    before, after = fake_predictions(400, 20, 0, 1), fake_predictions(400, 20, 0.1, 1)
    counts = [int((p.top(1)[:, 0] == p.labels).sum()) for p in (before, after)]
    (judged,) = decide_unpaired(
        made(before), after.accuracy, None, parse_rules(["top1.decline <= 1pp"])
    ).judged
    expected = independent_decline(counts[0], 400, counts[1], 400, relative=False)
    assert judged.verdict.interval == expected
    assert judged.verdict.measured == pytest.approx((counts[0] - counts[1]) / 400)


def test_unlabelled_images_and_a_model_that_is_never_right() -> None:
    bare = fake_predictions(400, 20, 0, 1, labelled=False)
    rules = parse_rules(["top1.decline <= 1%"])
    assert made(bare).metrics == {}
    assert decide_unpaired(made(bare), None, None, rules).status == "inconclusive"
    wrong = fake_predictions(400, 20, 0, 1)
    assert wrong.labels is not None
    never = replace(wrong, labels=(wrong.top(1)[:, 0] + 1) % 20)
    found = decide_unpaired(made(never), never.accuracy, None, rules)
    assert "no accuracy to lose" in found.judged[0].verdict.reason


def test_the_accepted_file_passes_without_its_answers() -> None:
    before = fake_predictions(40, 20, 0, 1)
    accepted = made(before)
    here = {"isa": accepted.isa, **accepted.versions}
    assert is_accepted_file(accepted, before.model_sha256, here)
    assert is_accepted_file(accepted, before.model_sha256, {**here, "quantlab": "9"})
    for other in ("isa", "onnxruntime", "pillow"):
        assert not is_accepted_file(accepted, before.model_sha256, {**here, other: "another"})
    assert not is_accepted_file(accepted, "f" * 64, here)
    texts = ("top1.decline <= 0%", "kl <= 0", "agreement >= 100%", "class.decline <= 1pp")
    latency = ("latency.p50.ratio <= 1, required", "size <= 4MB")
    rules = parse_rules([*texts, *latency])
    found = decide_unpaired(accepted, before.accuracy, 3_500_000, rules, accepted_file=True)
    assert found.status == "pass"
    assert [j.verdict.unchanged for j in found.judged] == [True] * 4 + [False] * 2
    faster = parse_rules(["latency.p50.ratio <= 0.9, required"])
    assert decide_unpaired(accepted, None, 1, faster, accepted_file=True).status == "fail"
