"""ci/try_wheel.py: what it asks of an installed quantlab works with this one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from scripts import loaded


@pytest.fixture
def script() -> ModuleType:
    return loaded("ci/try_wheel.py")


def test_the_commands_end_as_they_should(script: ModuleType, tmp_path: Path) -> None:
    script.check_commands(tmp_path)
    assert (tmp_path / "int8.onnx").is_file()


def test_a_command_that_fails_is_named(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "tiny_classifier", lambda path: path.write_bytes(b"no model"))
    with pytest.raises(SystemExit, match=r"quantlab quantize .* failed"):
        script.check_commands(tmp_path)


def test_a_file_that_is_lacking_is_named(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "OF_THE_PACKAGE", ("py.typed", "nothing.yaml"))
    with pytest.raises(SystemExit, match=r"lacks nothing\.yaml"):
        script.check_files()
