from __future__ import annotations

from pathlib import Path

import pytest

from quantlab.data.readers.classes import find_synsets, read_synsets, resolve
from quantlab.errors import DataError

WORDS = """n01440764 tench, Tinca tinca
n01443537 goldfish, Carassius auratus
n02012849 crane
n03126707 crane
n03594945 jeep, landrover, sports car
n04285008 sports car, sport car
"""


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "synset_words.txt"
    path.write_text(WORDS)
    return path


def test_synsets_are_read_in_index_order(words: Path, tmp_path: Path) -> None:
    synsets = read_synsets(words)
    assert len(synsets) == 6
    assert synsets.wnids[1] == "n01443537"
    assert synsets.class_names[1] == "goldfish, Carassius auratus"
    bare = tmp_path / "bare.txt"
    bare.write_text("n01440764\n\nn01443537\n")
    assert read_synsets(bare).class_names == ("n01440764", "n01443537")


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("n01443537", 1),
        ("Tench", 0),
        ("tinca_tinca", 0),
        ("goldfish, Carassius auratus", 1),
        ("sports car", 5),
        ("landrover", 4),
        ("unknown", None),
    ],
)
def test_wnids_and_words_are_found(words: Path, name: str, index: int | None) -> None:
    assert read_synsets(words).index(name) == index


def test_an_ambiguous_word_is_an_error(words: Path) -> None:
    with pytest.raises(DataError, match=r"'crane' is the name of the classes 2, 3.*\n.*wnid"):
        read_synsets(words).index("crane")


@pytest.mark.parametrize(
    ("text", "message"),
    [("tench\n", r"line 1: 'tench' is not a wnid"), ("", "names no classes"), ("\xff", "line 1")],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "synsets.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_synsets(path)


def test_synsets_are_found_up_to_three_parents_up(words: Path, tmp_path: Path) -> None:
    assert words.name == "synset_words.txt"
    near, far = tmp_path / "a/b/c", tmp_path / "a/b/c/d"
    far.mkdir(parents=True)
    assert find_synsets(tmp_path) is not None
    assert find_synsets(near) is not None
    assert find_synsets(far) is None
    assert find_synsets(far, words) is not None
    assert find_synsets(near, num_classes=6) is not None
    assert find_synsets(near, num_classes=7) is None
    with pytest.raises(DataError, match=r"none\.txt cannot be read: no such file"):
        find_synsets(near, tmp_path / "none.txt")


def test_indices_speak_for_themselves(words: Path) -> None:
    resolved = resolve(["0", "003", "12"], None, where="d")
    assert (resolved.indices, resolved.rule) == ((0, 3, 12), "class indices")
    assert resolved.class_names is None
    named = resolve(["0"], read_synsets(words), where="d", num_classes=6)
    assert named.class_names is not None


def test_wnids_and_words_by_synsets(words: Path) -> None:
    synsets = read_synsets(words)
    by_wnid = resolve(["n01443537", "n03594945"], synsets, where="d")
    assert (by_wnid.indices, by_wnid.rule) == ((1, 4), "wnids in synset_words.txt")
    by_word = resolve(["goldfish", "jeep"], synsets, where="d")
    assert (by_word.indices, by_word.rule) == ((1, 4), "class names in synset_words.txt")


def test_classes_missing_from_the_synsets(words: Path) -> None:
    synsets = read_synsets(words)
    message = r"d: 1 of 2 classes are not in .*synset_words.txt: golden fish.\nRename"
    with pytest.raises(DataError, match=message):
        resolve(["golden fish", "jeep"], synsets, where="d")
    other = resolve(["cat", "dog", "jeep"], synsets, where="d")
    assert other.rule == "sorted order of 3 class names"
    with pytest.raises(DataError, match="2 of 3 classes are not in"):
        resolve(["cat", "dog", "jeep"], synsets, where="d", explicit=True)


def test_sorted_order_needs_all_classes() -> None:
    wnids = [f"n{i:08d}" for i in range(1000)]
    whole = resolve(wnids, None, where="d")
    assert (whole.indices[999], whole.rule) == (999, "sorted order of 1000 wnids")
    assert whole.class_names == tuple(wnids)
    with pytest.raises(DataError, match=r"d holds 10 of 1000 classes.*\n.*--synsets"):
        resolve(wnids[:10], None, where="d")
    assert resolve(wnids[:10], None, where="d", num_classes=10).indices == tuple(range(10))
    with pytest.raises(DataError, match="d holds 2 of 3 classes"):
        resolve(["cat", "dog"], None, where="d", num_classes=3)
