from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.errors import DataError
from quantlab.evaluate import predictions
from quantlab.evaluate.device import match_names, read_answers
from quantlab.testing import fake_predictions, truncate

SCORES = np.array([[0.5, 2.5, 1.0], [3.0, -1.0, 0.25]], np.float32)


def text(tmp_path: Path, content: str) -> Path:
    (tmp_path / "answers.txt").write_text(content)
    return tmp_path / "answers.txt"


@pytest.mark.parametrize("names", [np.array(["a", "ü"]), np.array([b"a", "ü".encode()])])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_an_npz_of_names_and_outputs(tmp_path: Path, names: Any, dtype: str) -> None:
    np.savez_compressed(tmp_path / "a.npz", names=names, outputs=SCORES.astype(dtype))
    found = read_answers(tmp_path / "a.npz")
    assert found.names == ("a", "ü")
    assert found.outputs is not None
    assert found.outputs.dtype == np.float32
    assert np.array_equal(found.outputs, SCORES)
    assert found.top.tolist() == [[1, 2, 0], [0, 2, 1]]
    assert (found.has_five, found.output_kind) == (True, "logits")


def test_quantlabs_own_predictions(tmp_path: Path) -> None:
    known = fake_predictions(4, 6, 0, 1)
    known.save(tmp_path / "predictions.npz")
    found = read_answers(tmp_path / "predictions.npz")
    assert found.names == known.names
    assert np.array_equal(found.outputs, known.outputs)
    np.savez(tmp_path / "bad.npz", meta=np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="not a readable predictions file"):
        read_answers(tmp_path / "bad.npz")


def test_a_text_of_scores(tmp_path: Path) -> None:
    found = read_answers(text(tmp_path, "a.png 0.5 2.5 1\n\nd/b.png,3e0,-1,0.25\n"))
    assert found.names == ("a.png", "d/b.png")
    assert np.array_equal(found.outputs, SCORES)


def test_a_text_of_classes(tmp_path: Path) -> None:
    found = read_answers(text(tmp_path, "a.png 7\nb.png 1 0 5\n"))
    assert found.outputs is None
    assert found.top.tolist() == [[7, -1, -1], [1, 0, 5]]
    assert not found.has_five
    assert read_answers(text(tmp_path, "a 5 4 3 2 1\nb 9 8 7 6 5 4\n")).has_five
    assert not read_answers(text(tmp_path, "a 5 4 3 2\nb 9 8 7 6 5 4\n")).has_five


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([[0.25, 0.75], [1, 0]], "probabilities"),
        ([[0.25, 0.75], [0.2, 0.2]], "logits"),
        ([[-0.25, 1.25], [1, 0]], "logits"),
        ([[np.nan, 1], [1, 0]], "logits"),
    ],
)
def test_probabilities_are_known_by_their_sum(tmp_path: Path, rows: Any, kind: str) -> None:
    np.savez(tmp_path / "a.npz", names=["a", "b"], outputs=np.array(rows, np.float32))
    assert read_answers(tmp_path / "a.npz").output_kind == kind


@pytest.mark.parametrize("kind", ["bin", "txt", "npz", "only.npz"])
def test_a_folder_of_one_file_an_image(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "results"
    for name, row in zip(("x/a.JPEG", "b.JPEG"), SCORES, strict=True):
        path = folder / f"{name}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "bin":
            row.astype("<f4").tofile(path)
        elif kind == "txt":
            path.write_text("\n".join(map(str, row.tolist())))
        elif kind == "npz":
            np.savez(path, outputs=row[None], other=np.zeros(2))
        else:
            np.savez(path, row)
    (folder / "notes.md").write_text("not a result")
    found = read_answers(folder)
    assert [name.split(".")[0] for name in found.names] == ["b", "x/a"]
    assert np.array_equal(found.outputs, SCORES[::-1])


def test_a_folder_of_classes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("3 1\n")
    (tmp_path / "b.txt").write_text("2")
    found = read_answers(tmp_path)
    assert found.outputs is None
    assert found.top.tolist() == [[3, 1], [2, -1]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("a\n", "'a' has no answer"),
        ("a 0.5 1.5\nb 0.5\n", "do not all have the same number of scores"),
        ("a 0.5 x\n", "could not convert string to float: 'x'"),
        ("a 1 1\n", r"'a' has whole numbers .*\n.*decimal point"),
        ("a 1 -2\n", "'a' has whole numbers"),
        ("a 0.5\n", "holds one score an image"),
    ],
)
def test_texts_that_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_answers(text(tmp_path, content))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"outputs": SCORES}, "does not hold the arrays 'names'"),
        ({"names": ["a", "b"]}, "does not hold the arrays"),
        ({"names": [1, 2], "outputs": SCORES}, "does not hold the arrays"),
        ({"names": [["a"], ["b"]], "outputs": SCORES}, "does not hold the arrays"),
        ({"names": ["a"], "outputs": SCORES}, "has 1 names and 2 rows"),
        ({"names": ["a"], "outputs": SCORES[0]}, r"outputs are float32 \[3\], not numbers \["),
        ({"names": [], "outputs": SCORES[:0]}, "does not hold|not numbers"),
        ({"names": ["a", "b"], "outputs": SCORES > 0}, "outputs are bool"),
        ({"names": ["a", "b"], "outputs": SCORES[:, :1]}, "one score an image"),
        ({"names": ["a"], "outputs": np.array([[{}]])}, "is not a readable .npz"),
    ],
)
def test_archives_that_cannot_be_read(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_answers(tmp_path / "a.npz")


def test_damaged_archives_and_missing_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "a.npz", names=["a", "b"], outputs=SCORES)
    monkeypatch.setattr(predictions, "MAX_BYTES", 100)
    with pytest.raises(DataError, match=r"a\.npz is larger than"):
        read_answers(tmp_path / "a.npz")
    truncate(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a\.npz is not a readable \.npz: .*\nSave it again"):
        read_answers(tmp_path / "a.npz")
    for name in ("none.npz", "none.txt"):
        with pytest.raises(DataError, match=r"none\.\w+ cannot be read: no such file"):
            read_answers(tmp_path / name)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no results"),
        ({"a.bin": b"abcd", "b.txt": b"1"}, r"holds files of \.bin, \.txt"),
        ({"a.bin": b"abc"}, r"a\.bin holds 3 bytes, which is no row"),
        ({"a.bin": b""}, r"a\.bin holds 0 bytes"),
        ({"a.bin": bytes(8), "b.bin": bytes(12)}, r"b\.bin holds 3 numbers, a\.bin 2"),
        ({"a.bin": bytes(4)}, "holds one score"),
        ({"a.txt": b"1", "b.txt": b" "}, r"'b\.txt' has no answer"),
        ({"a.npz": b"PK"}, r"a\.npz is not a readable \.npz"),
    ],
)
def test_folders_that_cannot_be_read(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_answers(tmp_path)


def test_folders_of_odd_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=SCORES, y=SCORES)
    with pytest.raises(DataError, match=r"a\.npz does not hold the array 'outputs'"):
        read_answers(tmp_path)
    np.savez(tmp_path / "a.npz", x=np.array(["text", "more"]))
    with pytest.raises(DataError, match=r"a\.npz holds <U4, not numbers"):
        read_answers(tmp_path)


@pytest.mark.parametrize(
    ("names", "others", "rows"),
    [
        (["a.JPEG", "b.png"], ["b.bin", "a.JPEG.npz"], [1, 0]),
        (["0/x.png", "1/x.png"], ["1/x.txt", "0/x.txt"], [1, 0]),
        (["0/x.png", "1/x.png"], ["x.txt"], [-1, -1]),
        (["0/x.png", "1/y.png"], ["y.txt", "z.txt"], [-1, 0]),
        (["x.png"], ["0/x.png", "1/x.png"], [-1]),
        (["val.rec[0]", "val.rec[1]"], ["val.rec[1].npz", "./val.rec[0].npz"], [1, 0]),
        (["v1.5", "v1.6"], ["v1.6", "v1.5"], [1, 0]),
        ([".png"], ["d\\.png"], [0]),
    ],
)
def test_names_are_matched_without_endings(
    names: list[str], others: list[str], rows: list[int]
) -> None:
    assert match_names(names, others).tolist() == rows


def test_two_results_of_one_image() -> None:
    with pytest.raises(DataError, match="1 images have more than one result, first a"):
        match_names(["a.png"], ["a.png", "a.bin"])
