"""The Makefile: what it says when it installs with apt-get or may not; the tag of a release."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import quantlab

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make") or "make"


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def make(folder: Path, target: str, *, user: int, apt: str = "") -> list[str]:
    """The lines of a target where only id, apt-get (when given) and no browser are in the PATH."""
    program(folder, "id", f"echo {user}")
    if apt:
        program(folder, "apt-get", apt)
    done = subprocess.run(
        [MAKE, "-f", str(ROOT / "Makefile"), target],
        cwd=folder, capture_output=True, text=True, env={"PATH": str(folder)}, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_it_says_what_it_installs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = make(tmp_path, "chromium", user=0, apt=f'echo "$@" >> {log}')
    assert lines == ["Installing chromium with apt-get …"]
    update, install = log.read_text().splitlines()
    assert update.startswith("update")
    assert install == "install -qq --no-install-recommends chromium"


def test_it_says_so_where_apt_get_fails(tmp_path: Path) -> None:
    installing, lacking = make(tmp_path, "chromium", user=0, apt="exit 100")
    assert installing == "Installing chromium with apt-get …"
    assert lacking == "No chromium: apt-get failed; the tests marked browser are left out."


@pytest.mark.parametrize(("user", "apt"), [(1000, "exit 1"), (0, "")])
def test_it_says_so_where_it_may_not_install(tmp_path: Path, user: int, apt: str) -> None:
    lines = make(tmp_path, "chromium", user=user, apt=apt)
    assert lines == ["No chromium: not root or no apt-get; the tests marked browser are left out."]


def test_it_is_quiet_where_a_browser_is(tmp_path: Path) -> None:
    program(tmp_path, "google-chrome", "exit 1")
    assert make(tmp_path, "chromium", user=0, apt="exit 1") == []


def test_postgresql_is_installed_in_the_same_way() -> None:
    line = [MAKE, "--dry-run", "-C", str(ROOT), "postgresql"]
    said = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    assert "echo 'Installing postgresql with apt-get …'" in said
    assert "No postgresql: $why; the tests marked postgres are left out." in said


def test_a_tag_that_does_not_name_the_version_is_refused(tmp_path: Path) -> None:
    """With the Python that runs the tests, and hatchling, in the place of .venv."""
    folder, log = tmp_path, tmp_path / "log"
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "python", f'exec "{sys.executable}" "$@"')
    program(tmp_path / "bin", "pip", f'echo "$@" >> {log}')
    for tag, code in ((f"v{quantlab.__version__}", 0), ("v9.9.9", 2), (quantlab.__version__, 2)):
        line = [MAKE, "-C", str(ROOT), "tag", f"TAG={tag}", f"VENV={folder}"]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == code, tag
        assert ("does not name the version" in done.stdout) == (code == 2)
    assert set(log.read_text().splitlines()) == {"install --quiet hatchling"}
