"""The exception classes of quantlab. Each is shown to the user in one or two lines, exit code 2.

QuantlabError
├── ModelError      the model file, or what its graph holds
├── DataError       images, labels, lists, datasets
│   └── LabelError  labels that are missing, cannot be read or do not fit the model
├── RecipeError     recipes, pipelines and other YAML
├── QuantizeError   an engine could not quantize the model
├── OutputError     a file could not be written
├── FetchError      a download is missing or is not what was promised
├── IsaChangeError       int8 answers were asked of another kind of CPU than before; exit code 4
├── RecordError     a stored run, predictions or measurement cannot be read
├── ClusterError    work that was to run elsewhere could not
└── MissingExtraError    an optional package is not installed
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any


class QuantlabError(Exception):
    """An error with a ``problem`` (what is wrong, where) and perhaps a ``remedy`` (how to mend it).

    Examples:
        >>> from quantlab import QuantlabError, evaluate
        >>> from quantlab.testing import example_model
        >>> try:
        ...     evaluate(example_model(), "nowhere/")
        ... except QuantlabError as error:
        ...     type(error).__name__, error.problem
        ('DataError', 'nowhere: no such folder or file.')
    """

    exit_code = 2

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as it is, whatever the subclass is made from: workers raise these too."""
        return _again, (type(self), self.problem, self.remedy)


def _again(kind: type[QuantlabError], problem: str, remedy: str) -> QuantlabError:
    error = kind.__new__(kind)
    QuantlabError.__init__(error, problem, remedy)
    return error


class ModelError(QuantlabError):
    """A model file, or its graph, cannot be used."""


class DataError(QuantlabError):
    """Images, labels, lists or datasets cannot be used."""


class LabelError(DataError):
    """Labels that are missing, cannot be read or do not fit the model: the images may serve where
    no labels are needed."""


class RecipeError(QuantlabError):
    """A recipe, a pipeline or other YAML is wrong."""


class QuantizeError(QuantlabError):
    """An engine could not quantize the model."""


class OutputError(QuantlabError):
    """A file could not be written."""


class FetchError(QuantlabError):
    """A download is missing or has another digest than was published."""


class IsaChangeError(QuantlabError):
    """The CPU has other int8 instructions than the CPU of the baseline."""

    exit_code = 4


class RecordError(QuantlabError):
    """A stored run, predictions or measurement cannot be read."""


class ResumeError(RecordError):
    """A run cannot be resumed as asked; nothing of it was changed."""


class ClusterError(QuantlabError):
    """Distributed work failed: no scheduler, other software versions, lost workers."""


class WorkersLostError(ClusterError):
    """Workers ended ``times`` times on the same work, which seems to end them."""

    def __init__(self, times: int) -> None:
        super().__init__(
            f"workers ended {times} times on the same work.",
            "Memory may be short: give them more, or have fewer (--executor process:N).",
        )


class MissingExtraError(QuantlabError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed.",
            f"Install it with: pip install 'quantlab[{extra}]'",
        )


def shown(text: object, most: int = 200) -> str:
    """Untrusted text made fit for a message: printable, one line, bounded length."""
    words = str(text)
    line = "".join(letter if letter.isprintable() else "?" for letter in words[:most])
    return line + "…" if len(words) > most else line


def meant(word: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``Did you mean NAME?`` with the nearest of the known names; nothing where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(str(word), [*known], n=1, cutoff=cutoff)
    return f"Did you mean {near[0]}?" if near else ""


def disk_is_full(error: BaseException) -> bool:
    """Whether the error means that the disk, or the user's quota, is full. numpy reports only how
    many values it could not write."""
    if not isinstance(error, OSError):
        return False
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or " requested and " in str(error)
