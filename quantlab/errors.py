"""What can go wrong, as a tree. Each reaches the user as one or two lines and exit code 2.

QuantlabError
├── ModelError      the model file, or what its graph holds
├── DataError       images, labels, lists, datasets
├── RecipeError     recipes, pipelines and other YAML
├── QuantizeError   an engine could not quantize the model
├── OutputError     a file could not be written
├── FetchError      a download is missing or is not what was promised
├── IsaChange       int8 answers were asked of another kind of CPU than before; exit code 4
├── RecordError     a stored run, predictions or measurement cannot be read
└── MissingExtra    an optional package is not installed
"""

from __future__ import annotations

import errno


class QuantlabError(Exception):
    """What is wrong and where, then (optionally, on a second line) how to mend it."""

    exit_code = 2

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class ModelError(QuantlabError):
    """The model file, or what its graph holds."""


class DataError(QuantlabError):
    """Images, labels, lists, datasets."""


class RecipeError(QuantlabError):
    """Recipes, pipelines and other YAML."""


class QuantizeError(QuantlabError):
    """An engine could not quantize the model."""


class OutputError(QuantlabError):
    """A file could not be written."""


class FetchError(QuantlabError):
    """A download is missing or is not what was promised."""


class IsaChange(QuantlabError):
    """Int8 answers were asked of a CPU with other int8 instructions than before."""

    exit_code = 4


class RecordError(QuantlabError):
    """A stored run, predictions or measurement cannot be read."""


class ResumeError(RecordError):
    """A run cannot be taken up as asked; nothing of it was changed."""


class MissingExtra(QuantlabError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed.",
            f"Install it with: pip install 'quantlab[{extra}]'",
        )


def disk_is_full(error: BaseException) -> bool:
    """Whether it says that the disk, or the user's share of it, is full. numpy says only how many
    values it could not write."""
    if not isinstance(error, OSError):
        return False
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or " requested and " in str(error)
