"""Open a dataset from a path: detect its format and call the reader of that format."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol

from quantlab._util.paths import is_url
from quantlab._util.reporter import Counted
from quantlab.data.dataset import Dataset, Opening
from quantlab.data.labels import check_labels
from quantlab.data.remote import fetched
from quantlab.errors import DataError, QuantlabError

GROUP = "quantlab.readers"
"""The entry point group by which other packages offer readers: a file ending without its dot, and a
Reader. A folder of such files is read by it too."""
NPZ_LIST = "npz_datalist.txt"
LIST_NAMES = ("val.txt", "val_label.txt", "val_map.txt", NPZ_LIST)
FILES = {
    ".npz": "npz",
    ".rec": "recordio",
    ".mdb": "lmdb",
    ".tar": "webdataset",
    ".parquet": "parquet",
}
"""The readers of files, by the file's ending."""
FOLDERS = {"data.mdb": "lmdb", "*.tar": "webdataset", "*.parquet": "parquet"}
"""The readers of folders, by what lies in them."""


class DatasetReader(Protocol):
    """Reads the file or folder ``path``; ``labelled=False`` leaves labels aside."""

    def __call__(self, path: Path, *, labelled: bool) -> Dataset: ...


_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def open_dataset(
    path: Path | str,
    *,
    list_file: Path | None = None,
    synsets: Path | None = None,
    num_classes: int | None = None,
    labelled: bool = True,
    progress: Counted | None = None,
) -> Dataset:
    """The images under ``path``, indexed but not yet read.

    What a URL names is fetched into the cache first (``data.remote``); ``progress(bytes, total)``
    is of that.

    A file with one of the ``endings()``, a folder with such files in it, a folder with a list file
    (LIST_NAMES or ``list_file``), a folder of class folders, or a folder of images without labels.
    ``synsets`` names the classes in index order; ``num_classes`` (the model's) makes sure that
    labels fit; ``labelled=False`` leaves labels aside, and a list is one of images only. Raises
    LabelError for labels that cannot be read or do not fit, DataError, MissingExtraError.

    Examples:
        >>> from quantlab import open_dataset
        >>> from quantlab.testing import image_folder
        >>> from pathlib import Path
        >>> dataset = open_dataset(image_folder(Path("images"), classes=2, per_class=1))
        >>> dataset[1].label, dataset[1].image.size
        (1, (64, 64))
    """
    place = str(path) if is_url(path) else str(Path(path).absolute())
    folder = fetched(place, progress=progress) if is_url(path) else Path(path)
    dataset = _open(folder, list_file, synsets, num_classes, labelled)
    if len(dataset) == 0:
        raise DataError(
            f"{path} holds no images.",
            "Give a folder with images or one of the files of docs/data.md.",
        )
    if num_classes is not None and dataset.labels is not None:
        check_labels(dataset.labels, num_classes, dataset.names)
    opening = Opening(place, _absolute(list_file), _absolute(synsets), num_classes, labelled)
    return replace(dataset, root=place if is_url(path) else dataset.root, opening=opening)


def _absolute(file: Path | None) -> Path | None:
    return None if file is None else file.absolute()


def reopen(opening: Opening) -> Dataset:
    """The dataset again, here or in another process that sees the same files. Raises DataError."""
    return open_dataset(
        opening.path,
        list_file=opening.list_file,
        synsets=opening.synsets,
        num_classes=opening.num_classes,
        labelled=opening.labelled,
    )


def _open(
    path: Path,
    list_file: Path | None,
    synsets: Path | None,
    num_classes: int | None,
    labelled: bool,
) -> Dataset:
    from quantlab.data.readers import imagefolder, listed, unlabelled

    if path.name == NPZ_LIST and path.is_file():
        path, list_file = path.parent, path
    if (reader := _reader(path)) is not None:
        return reader(path, labelled=labelled)
    if path.is_file():
        raise _not_data(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder or file.", "Give the folder with the images.")
    if (found := list_file or _find_list(path)) is not None:
        return listed.read(path, found, synsets=synsets, num_classes=num_classes, labelled=labelled)
    if labelled and _has_class_folders(path):
        return imagefolder.read(path, synsets=synsets, num_classes=num_classes)
    return unlabelled.read(path)


def endings() -> tuple[str, ...]:
    """The endings of files that are datasets: quantlab's, then those of other packages' readers."""
    return (*FILES, *sorted(set(_offered()) - set(FILES)))


@cache
def _offered() -> dict[str, EntryPoint]:
    return {f".{entry.name.lower()}": entry for entry in entry_points(group=GROUP)}


def _reader(path: Path) -> DatasetReader | None:
    """What reads this file or folder by itself, if anything.

    A folder with images in it is one of images, whatever else lies there.
    """
    from quantlab.data.readers import files, webdataset

    if path.is_dir():
        names = files.names(path)
        wilds = {**FOLDERS, **{f"*{ending}": ending for ending in endings() if ending not in FILES}}
        found = [reader for wild, reader in wilds.items() if fnmatch.filter(names, wild)]
        return _reader_of(found[0]) if found and not files.images_below(path)[0] else None
    if path.is_file():
        ending = path.suffix.lower()
        return _reader_of(FILES.get(ending, ending)) if ending in endings() else None
    return _reader_of("webdataset") if webdataset.is_pattern(path) else None


def _reader_of(name: str) -> DatasetReader:
    """quantlab's reader of that module, or another package's of that ending."""
    if not name.startswith("."):
        read: DatasetReader = import_module(f"{__name__}.{name}").read
        return read
    entry = _offered()[name]
    owner = entry.dist.name if entry.dist is not None else entry.value

    def offered(path: Path, *, labelled: bool) -> Dataset:
        try:
            made = entry.load()(path, labelled=labelled)
        except QuantlabError:
            raise
        except Exception as error:  # somebody else's code may raise anything
            reason = f"{type(error).__name__}: {error}"
            raise DataError(
                f"{path}: the reader of {name} files of {owner} failed: {reason}",
                f"Update or remove {owner}.",
            ) from error
        if not isinstance(made, Dataset):
            raise DataError(
                f"{path}: the reader of {name} files of {owner} gave a {type(made).__name__}.",
                f"It must give a Dataset. Update or remove {owner}.",
            )
        return made

    return offered


def _not_data(path: Path) -> DataError:
    if path.suffix.lower() in (".zip", ".gz", ".tgz"):
        return DataError(f"{path} is an archive.", "Unpack it and give the folder.")
    return DataError(
        f"{path} is not a data set.",
        f"Give a folder of images or a file ({', '.join(endings())}); a list of labels lies in "
        "that folder.",
    )


def _find_list(path: Path) -> Path | None:
    return next((path / name for name in LIST_NAMES if (path / name).is_file()), None)


def _has_class_folders(path: Path) -> bool:
    """Whether labels are in folder names: no image in the folder itself, class folders in it."""
    from quantlab.data.readers import classes, files

    folders = files.folders(path)
    if not folders or files.holds_image(path):
        return False
    if {folder.lower() for folder in folders} <= _SPLITS:
        raise DataError(
            f"{path} holds the folders {', '.join(folders)}, which are splits and not classes.",
            f"Give one of them, such as {path / folders[-1]}.",
        )
    named = all(classes.is_index(name) or classes.is_wnid(name) for name in folders)
    return named or any(files.holds_image(path / name) for name in folders)
