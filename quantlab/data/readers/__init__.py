"""Open a dataset from a path: detect its format and call the reader of that format."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from quantlab._util.paths import is_url
from quantlab.data.dataset import Dataset, Opening
from quantlab.data.labels import check_labels
from quantlab.data.remote import fetched
from quantlab.errors import DataError

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
Progress = Callable[[int, int], None]
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def open_dataset(
    path: Path | str,
    *,
    list_file: Path | None = None,
    synsets: Path | None = None,
    num_classes: int | None = None,
    labelled: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """The images under ``path``, indexed but not yet read.

    What a URL names is fetched into the cache first (``data.remote``); ``progress(bytes, total)``
    is of that.

    A file of one of the FILES, a folder with one of the FOLDERS in it, a folder with a list file
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
        made: Dataset = import_module(f"{__name__}.{reader}").read(path, labelled=labelled)
        return made
    if path.is_file():
        raise _not_data(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder or file.", "Give the folder with the images.")
    if (found := list_file or _find_list(path)) is not None:
        return listed.read(path, found, synsets=synsets, num_classes=num_classes, labelled=labelled)
    if labelled and _has_class_folders(path):
        return imagefolder.read(path, synsets=synsets, num_classes=num_classes)
    return unlabelled.read(path)


def _reader(path: Path) -> str | None:
    """The module that reads this file or folder by itself, if any.

    A folder with images in it is one of images, whatever else lies there.
    """
    from quantlab.data.readers import files, webdataset

    if path.is_dir():
        names = files.names(path)
        found = [reader for wild, reader in FOLDERS.items() if fnmatch.filter(names, wild)]
        return found[0] if found and not files.images_below(path)[0] else None
    if path.is_file():
        return FILES.get(path.suffix.lower())
    return "webdataset" if webdataset.is_pattern(path) else None


def _not_data(path: Path) -> DataError:
    if path.suffix.lower() in (".zip", ".gz", ".tgz"):
        return DataError(f"{path} is an archive.", "Unpack it and give the folder.")
    return DataError(
        f"{path} is not a data set.",
        f"Give a folder of images or a file ({', '.join(FILES)}); a list of labels lies in that "
        "folder.",
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
