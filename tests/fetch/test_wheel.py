"""pip in a child process, and wheels as zip files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from waiting import HANGS

from quantlab.errors import FetchError
from quantlab.fetch import wheel as module
from quantlab.fetch.wheel import download_wheel, member_names, read_member

NAME = "tiny-1.0-py3-none-any.whl"
METADATA = b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Dist: does-not-exist\n"
MEMBERS = {
    "tiny/weights.pth": b"12345",
    "tiny-1.0.dist-info/METADATA": METADATA,
    "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny-1.0.dist-info/RECORD": b"",
}


@pytest.fixture
def closed_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip sees one folder of wheels and nothing else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "mirror"))


@pytest.mark.usefixtures("closed_network")
def test_pip_brings_the_wheel_alone(make_wheel, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    made = make_wheel(NAME, MEMBERS)
    (tmp_path / "pip.py").write_text("raise SystemExit('not this one')")
    got = download_wheel("tiny", "1.0", NAME, tmp_path / "got")
    assert got.read_bytes() == made.read_bytes()
    assert list((tmp_path / "got").iterdir()) == [got]


@pytest.mark.usefixtures("closed_network")
def test_pip_failures_take_one_line(make_wheel, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make_wheel(NAME, MEMBERS)
    with pytest.raises(FetchError) as error:
        download_wheel("tiny", "2.0", NAME, tmp_path / "got")
    assert error.value.problem.startswith("pip: Could not find a version")
    assert "\n" not in error.value.problem
    with pytest.raises(FetchError, match="pip downloaded another file"):
        download_wheel("tiny", "1.0", "tiny-1.0-py2-none-any.whl", tmp_path / "got")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo '/usr/bin/python: No module named pip' >&2; exit 1", "no pip"),
        ("echo 'WARNING: Retrying (Retry(total=0' >&2; exit 1", "cannot reach the package index"),
        ("exit 1", "failed without a word"),
        ("sleep 5", "did not finish within 1 s"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for Python")
def test_what_keeps_pip_from_working(
    script: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(fake))
    with pytest.raises(FetchError, match=reason):
        download_wheel("tiny", "1.0", NAME, tmp_path, seconds=1 if script == "sleep 5" else HANGS)


def test_members_are_read_by_name(make_wheel) -> None:  # type: ignore[no-untyped-def]
    wheel = make_wheel(NAME, {"b/2.jpg": b"2", "b/1.jpg": b"1", "b/1.txt": b""})
    assert member_names(wheel, "b/*.jpg") == ["b/1.jpg", "b/2.jpg"]
    assert read_member(wheel, "b/2.jpg") == b"2"
    with pytest.raises(FetchError, match=r"holds no b/\*\.png"):
        member_names(wheel, "b/*.png")
    with pytest.raises(FetchError, match=r"holds no b/3\.jpg"):
        read_member(wheel, "b/3.jpg")


def test_members_are_bounded(make_wheel) -> None:  # type: ignore[no-untyped-def]
    wheel = make_wheel(NAME, {"big": bytes(1001)})
    assert len(read_member(wheel, "big", max_bytes=1001)) == 1001
    with pytest.raises(FetchError, match="larger than 1000 bytes"):
        read_member(wheel, "big", max_bytes=1000)


def test_damaged_wheels_are_told(make_wheel) -> None:  # type: ignore[no-untyped-def]
    wheel = make_wheel(NAME, {"a": b"some content"})
    wheel.write_bytes(wheel.read_bytes().replace(b"some content", b"more content"))
    with pytest.raises(FetchError, match="damaged"):
        read_member(wheel, "a")
    wheel.write_bytes(b"not a zip file")
    with pytest.raises(FetchError, match="not a readable wheel"):
        read_member(wheel, "a")
