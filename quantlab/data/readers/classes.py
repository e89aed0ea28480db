"""Convert class names (indices, wnids, words) to label indices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from quantlab.data.readers.files import read_text
from quantlab.errors import DataError, LabelError

IMAGENET_CLASSES = 1000
SYNSET_NAMES = ("synset_words.txt", "synsets.txt")
_PARENTS = 3
_WNID = re.compile(r"n[0-9]{8}")
_INDEX = re.compile(r"[0-9]{1,9}")
_ASK_FOR_SYNSETS = "Give the list of all classes in index order (synset_words.txt) with --synsets."


def is_wnid(name: str) -> bool:
    """Whether the name is a WordNet id such as n01440764."""
    return _WNID.fullmatch(name) is not None


def is_index(name: str) -> bool:
    """Whether the name is a class index."""
    return _INDEX.fullmatch(name) is not None


@dataclass(frozen=True)
class Synsets:
    """The classes in index order. ``words`` holds each class's comma-separated synonyms."""

    path: Path
    wnids: tuple[str, ...]
    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.wnids)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every class's synonyms, or its wnid where the file has no words."""
        return tuple(w or wnid for w, wnid in zip(self.words, self.wnids, strict=True))

    def index(self, name: str) -> int | None:
        """The class of this wnid or word, or None. Raises LabelError when it means several."""
        key = _normal(name)
        found = self._first.get(key) or self._any.get(key) or []
        if len(found) > 1:
            raise LabelError(
                f"{name!r} is the name of the classes {', '.join(map(str, found))} in {self.path}.",
                "Name the folder by its wnid or class index.",
            )
        return found[0] if found else None

    @cached_property
    def _first(self) -> dict[str, list[int]]:
        """Index by wnid, by the whole text and by the first synonym."""
        table: dict[str, list[int]] = {}
        for i, (wnid, words) in enumerate(zip(self.wnids, self.words, strict=True)):
            for key in {_normal(wnid), _normal(words), _normal(words.split(",")[0])} - {""}:
                table.setdefault(key, []).append(i)
        return table

    @cached_property
    def _any(self) -> dict[str, list[int]]:
        table: dict[str, list[int]] = {}
        for i, words in enumerate(self.words):
            for key in {_normal(word) for word in words.split(",")} - {""}:
                table.setdefault(key, []).append(i)
        return table


@dataclass(frozen=True)
class Resolved:
    """The label index of every class name, the rule by which it was found, and the names of all
    classes."""

    indices: tuple[int, ...]
    rule: str
    class_names: tuple[str, ...] | None


def find_synsets(
    folder: Path, explicit: Path | None = None, num_classes: int | None = None
) -> Synsets | None:
    """The classes in ``explicit``, or in a synset file of the folder or of up to three parents.

    One that was found, not given, is passed over when it does not fit the model's ``num_classes``.
    Raises DataError for an unreadable file.
    """
    if explicit is not None:
        return read_synsets(explicit)
    places = [folder.resolve(), *folder.resolve().parents][: _PARENTS + 1]
    for place in places:
        for name in SYNSET_NAMES:
            if (place / name).is_file():
                synsets = read_synsets(place / name)
                return synsets if num_classes in (None, len(synsets)) else None
    return None


def read_synsets(path: Path) -> Synsets:
    """A file of lines ``wnid`` or ``wnid word, synonym, …`` in index order. Raises DataError."""
    rows = [line.split(None, 1) for line in read_text(path).splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if not is_wnid(row[0]):
            raise DataError(
                f"{path}, line {number}: {row[0][:40]!r} is not a wnid (n and eight digits).",
                "Each line is a wnid, optionally followed by its names; line 1 is class 0.",
            )
    if not rows:
        raise DataError(f"{path} names no classes.")
    wnids = tuple(row[0] for row in rows)
    return Synsets(path, wnids, tuple(row[1].strip() if len(row) > 1 else "" for row in rows))


def resolve(
    names: Sequence[str],
    synsets: Synsets | None,
    *,
    where: str,
    num_classes: int | None = None,
    explicit: bool = False,
) -> Resolved:
    """The label index of each of the sorted, different class names.

    Indices speak for themselves; wnids and words are looked up in ``synsets``; else, when these
    are all classes there are, their sorted order counts. ``explicit``: the user gave the synsets,
    so every name must be in them. Raises LabelError naming what cannot be resolved.
    """
    if all(is_index(name) for name in names):
        rule = "class indices"
        return Resolved(tuple(int(n) for n in names), rule, fitting_names(synsets, num_classes))
    if synsets is not None:
        found = [synsets.index(name) for name in names]
        indices = tuple(i for i in found if i is not None)
        if len(indices) == len(names):
            kind = "wnids" if all(map(is_wnid, names)) else "class names"
            return Resolved(indices, f"{kind} in {synsets.path.name}", synsets.class_names)
        if explicit or 2 * len(indices) >= len(names):
            raise _unknown(names, found, synsets, where)
    return _by_order(names, where, num_classes)


def fitting_names(synsets: Synsets | None, num_classes: int | None) -> tuple[str, ...] | None:
    """The class names if their number is that of the model's classes."""
    if synsets is None or num_classes not in (None, len(synsets)):
        return None
    return synsets.class_names


def _unknown(
    names: Sequence[str], found: Sequence[int | None], synsets: Synsets, where: str
) -> LabelError:
    unknown = [name for name, index in zip(names, found, strict=True) if index is None]
    return LabelError(
        f"{where}: {len(unknown)} of {len(names)} classes are not in {synsets.path}: "
        f"{shorten(unknown)}.",
        "Rename them to wnids, class indices or names in that file.",
    )


def _by_order(names: Sequence[str], where: str, num_classes: int | None) -> Resolved:
    wnids = all(is_wnid(name) for name in names)
    expected = num_classes or (IMAGENET_CLASSES if wnids else len(names))
    if len(names) != expected:
        raise LabelError(
            f"{where} holds {len(names)} of {expected} classes ({shorten(names, 3)}), so their "
            "order does not tell the labels.",
            _ASK_FOR_SYNSETS,
        )
    kind = "wnids" if wnids else "class names"
    return Resolved(tuple(range(len(names))), f"sorted order of {len(names)} {kind}", tuple(names))


def _normal(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def shorten(names: Sequence[str], limit: int = 10) -> str:
    """The first names, and the number of the others."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
