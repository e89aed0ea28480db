from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantlab.data.dataset import ImageProblem
from quantlab.errors import DataError, RecordError
from quantlab.evaluate import predictions as module
from quantlab.evaluate.predictions import Predictions, align
from quantlab.testing.predictions import fake_predictions


def _same(a: Predictions, b: Predictions) -> bool:
    return (
        (a.names, a.digests, a.model_sha256, a.model_name, a.dataset_digest, a.problems)
        == (b.names, b.digests, b.model_sha256, b.model_name, b.dataset_digest, b.problems)
        and np.array_equal(a.outputs, b.outputs)
        and np.array_equal(a.labels, b.labels)  # type: ignore[arg-type]
        and dict(a.pipeline) == dict(b.pipeline)
        and a.output_kind == b.output_kind
    )


@pytest.mark.parametrize("labelled", [True, False])
def test_saved_and_loaded_are_the_same(tmp_path: Path, labelled: bool) -> None:
    made = fake_predictions(30, 7, 0.1, 1, labelled)
    made = replace(made, problems=(ImageProblem("x.png", "truncated"),))
    made.save(tmp_path / "p.npz")
    loaded = Predictions.load(tmp_path / "p.npz")
    assert _same(made, loaded)
    assert (loaded.labels is None) is not labelled


def test_loading_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"cannot read .*p.npz: No such file"):
        Predictions.load(tmp_path / "p.npz")


def test_every_truncation_and_damage_is_a_record_error(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    fake_predictions(5, 3, 0, 1).save(path)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 37):
        path.write_bytes(whole[:cut])
        with pytest.raises(RecordError):
            Predictions.load(path)
    for at in range(0, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            Predictions.load(path)
        except RecordError:
            continue


def _write(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


def _npy(array: object) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def test_pickles_and_false_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    _write(path, meta=_npy(np.array([{"a": 1}], object)))
    with pytest.raises(RecordError, match="not a readable"):
        Predictions.load(path)
    huge = _npy(np.zeros((1, 3), np.float32)).replace(b"(1, 3), }", b"(1, 3000000000), }")
    _write(path, outputs=huge)
    with pytest.raises(RecordError, match="not a readable"):
        Predictions.load(path)


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_predictions(5, 3, 0, 1).save(tmp_path / "p.npz")
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(RecordError, match="larger than"):
        Predictions.load(tmp_path / "p.npz")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"output_kind": "scores"},
        {"names": ["one"]},
        {"surprise": 1},
        {"problems": [{"odd": 1}]},
    ],
)
def test_wrong_contents_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "p.npz"
    made = fake_predictions(2, 3, 0, 1)
    meta = json.loads(module._pack(made).tobytes()) | change
    packed = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    _write(path, meta=_npy(packed), outputs=_npy(made.outputs), labels=_npy(made.labels))
    with pytest.raises(RecordError):
        Predictions.load(path)


def test_one_answer_for_each_image() -> None:
    made = fake_predictions(4, 3, 0, 1)
    with pytest.raises(DataError, match="each of 4 images"):
        replace(made, outputs=made.outputs[:3])


def test_logits_of_probabilities() -> None:
    made = fake_predictions(4, 3, 0, 1)
    assert made.logits is made.outputs
    soft = replace(made, outputs=np.eye(4, 3, dtype=np.float32), output_kind="probabilities")
    assert soft.logits[0, 0] == 0
    assert soft.top(1)[1, 0] == 1


def test_align_of_the_same_images_changes_nothing() -> None:
    a, b = fake_predictions(9, 3, 0, 1), fake_predictions(9, 3, 0.2, 1)
    pair = align(a, b)
    assert pair.first.outputs is a.outputs
    assert (pair.only_first, pair.only_second) == (0, 0)


def test_align_matches_by_content() -> None:
    a, b = fake_predictions(9, 3, 0, 1), fake_predictions(9, 3, 0.2, 1)
    order = np.array([4, 2, 8, 0, 6])
    pair = align(a.subset(np.arange(7)), b.subset(order))
    assert pair.first.names == ("00000.png", "00002.png", "00004.png", "00006.png")
    assert pair.first.digests == pair.second.digests
    assert (pair.only_first, pair.only_second) == (3, 1)
    np.testing.assert_array_equal(pair.second.outputs, b.outputs[[0, 2, 4, 6]])


def test_align_matches_an_image_as_often_as_it_is_there() -> None:
    a = fake_predictions(3, 3, 0, 1)
    pair = align(a.subset(np.array([0, 0, 1])), a.subset(np.array([1, 0, 2, 0, 0])))
    assert pair.first.names == ("00000.png", "00000.png", "00001.png")
    assert (pair.only_first, pair.only_second) == (0, 2)


def test_align_refuses_what_cannot_be_compared() -> None:
    a = fake_predictions(5, 3, 0, 1)
    assert a.labels is not None
    with pytest.raises(DataError, match="none is common"):
        align(a, fake_predictions(5, 3, 0, 2))
    with pytest.raises(DataError, match=r"3 classes and .* 4"):
        align(a, fake_predictions(5, 4, 0, 1))
    with pytest.raises(DataError, match="5 images different labels"):
        align(a, replace(a, labels=a.labels + 1))
    with pytest.raises(DataError, match="no image"):
        align(a.subset(np.array([], np.int64)), a)


def test_align_shares_labels() -> None:
    a = fake_predictions(5, 3, 0, 1)
    pair = align(replace(a, labels=None), a)
    np.testing.assert_array_equal(pair.first.labels, a.labels)
