"""One version, and a changelog that fits it."""

from __future__ import annotations

import datetime
import re
import tomllib
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from packaging.version import Version

import quantlab

ROOT = Path(__file__).parents[1]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
SECTIONS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
HEADING = re.compile(
    r"^## (?P<version>\d+\.\d+\.\d+) - (?P<date>unreleased|\d{4}-\d\d-\d\d)$", re.M
)


def mistakes(changelog: str, version: str) -> list[str]:
    """What is wrong with the changelog of a package of this version."""
    headings = re.findall(r"^## .*$", changelog, re.M)
    found = [match for line in headings if (match := HEADING.fullmatch(line))]
    wrong = [line for line in headings if not HEADING.fullmatch(line)]
    wrong += [name for name in re.findall(r"^### (.*)$", changelog, re.M) if name not in SECTIONS]
    versions = [Version(match["version"]) for match in found]
    if versions != sorted(set(versions), reverse=True):
        wrong.append("the newest version comes first, each once")
    wrong += [
        f"{match['version']} has no date" for match in found[1:] if match["date"] == "unreleased"
    ]
    package = Version(version)
    if not found or versions[0] != Version(package.base_version):
        wrong.append(f"the newest section is not that of {package.base_version}")
    elif package.is_devrelease != (found[0]["date"] == "unreleased"):
        wrong.append("a version has a date once it is released, and only then")
    wrong += [
        match["date"]
        for match in found
        if match["date"] != "unreleased" and not _is_date(match["date"])
    ]
    return wrong


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def test_the_changelog_fits_the_version() -> None:
    assert mistakes(CHANGELOG, quantlab.__version__) == []


@pytest.mark.parametrize(
    ("changelog", "version", "mistake"),
    [
        ("## 0.2.0 - unreleased", "0.3.0.dev0", "is not that of 0.3.0"),
        ("## 0.2.0 - unreleased", "0.2.0", "has a date once it is released"),
        ("## 0.2.0 - 2027-01-31", "0.2.0.dev0", "has a date once it is released"),
        ("## 0.2.0 - 2027-02-31", "0.2.0", "2027-02-31"),
        ("## Unreleased\n## 0.2.0 - 2027-01-31", "0.2.0", "## Unreleased"),
        ("## 0.2.0 - 2027-01-31\n### News", "0.2.0", "News"),
        ("## 0.3.0 - 2027-01-31\n## 0.4.0 - 2027-02-28", "0.3.0", "newest version comes first"),
        ("## 0.3.0 - 2027-01-31\n## 0.2.0 - unreleased", "0.3.0", "0.2.0 has no date"),
        ("", "0.2.0", "is not that of 0.2.0"),
    ],
)
def test_a_changelog_that_does_not_fit(changelog: str, version: str, mistake: str) -> None:
    (found,) = mistakes(changelog, version)
    assert mistake in found


def test_a_release_fits() -> None:
    text = "## 0.3.0 - 2027-03-01\n### Fixed\n- x\n## 0.2.0 - 2027-01-31\n### Added\n- y\n"
    assert mistakes(text, "0.3.0") == []


def test_the_package_is_built_with_that_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert ProjectMetadata(str(ROOT), PluginManager()).version == quantlab.__version__
