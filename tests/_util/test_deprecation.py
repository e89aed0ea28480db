"""Deprecations: seen once by the user, and removed when they are due."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.version import Version

import quantlab
from quantlab._util.deprecation import warn_deprecated

PACKAGE = Path(quantlab.__file__).parent
MINORS = 2
"""A name works for so many minor versions before 1.0, the one that deprecates it among them."""


class Deprecation(NamedTuple):
    place: str
    since: Version
    removed_in: Version

    def too_short(self) -> bool:
        if self.removed_in.major > self.since.major:
            return False
        return self.since.major > 0 or self.removed_in.minor < self.since.minor + MINORS

    def due(self, version: Version) -> bool:
        return self.removed_in <= Version(version.base_version)


def deprecations(source: str, place: str) -> Iterator[Deprecation]:
    """The calls of warn_deprecated. A version that is not written out is an error."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("warn_deprecated"):
            given = {word.arg: ast.literal_eval(word.value) for word in node.keywords
                     if word.arg in ("since", "removed_in")}  # fmt: skip
            versions = {name: Version(text) for name, text in given.items()}
            yield Deprecation(f"{place}:{node.lineno}", **versions)


def old() -> int:
    warn_deprecated("old()", since="0.3.0", removed_in="0.5.0", instead="new()")
    return 1


def test_the_warning_blames_the_line_that_uses_the_old_name() -> None:
    words = r"^old\(\) is deprecated since quantlab 0.3.0 and goes in 0.5.0: use new\(\) instead.$"
    with pytest.warns(FutureWarning, match=words) as caught:
        assert old() == 1
    assert caught[0].filename == __file__


def test_a_user_sees_it_once_by_default() -> None:
    code = (
        "from quantlab._util.deprecation import warn_deprecated\n"
        "def old():\n"
        "    warn_deprecated('old()', since='0.3.0', removed_in='0.5.0', instead='new()')\n"
        "for _ in range(3):\n"
        "    old()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("FutureWarning: old() is deprecated") == 1


def test_nothing_is_overdue_and_nothing_goes_too_soon() -> None:
    version = Version(quantlab.__version__)
    found = [
        each
        for path in PACKAGE.rglob("*.py")
        for each in deprecations(path.read_text(), str(path.relative_to(PACKAGE)))
    ]
    assert not [each.place for each in found if each.due(version)], "delete it: it is due"
    assert not [each.place for each in found if each.too_short()], "see docs/versions.md"


TOY = "deprecation.warn_deprecated('a', since='{}', removed_in='{}', instead='b')"


@pytest.mark.parametrize(
    ("since", "removed_in", "version", "due", "too_short"),
    [
        ("0.3.0", "0.5.0", "0.4.7", False, False),
        ("0.3.0", "0.5.0", "0.5.0.dev0", True, False),
        ("0.3.0", "0.5.0", "0.5.1", True, False),
        ("0.3.0", "0.4.0", "0.3.0", False, True),
        ("0.9.0", "1.0.0", "0.9.0", False, False),
        ("1.8.2", "1.12.0", "1.8.2", False, True),
        ("1.8.2", "2.0.0", "1.8.2", False, False),
    ],
)
def test_the_search_finds_what_is_due(
    since: str, removed_in: str, version: str, due: bool, too_short: bool
) -> None:
    (found,) = deprecations(TOY.format(since, removed_in), "toy.py")
    assert (found.due(Version(version)), found.too_short()) == (due, too_short)


def test_a_computed_version_is_refused() -> None:
    with pytest.raises(ValueError, match="malformed node"):
        list(deprecations("warn_deprecated('a', since=SINCE, removed_in='1.0.0')", "toy.py"))
