"""benchmarks/mutants.py: five hundred damaged files of each kind, and that it would see a bug."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from quantlab.errors import DataError, QuantlabError

ROOT = Path(__file__).resolve().parents[2]
COUNT = 500


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The benchmark, which lies in no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import mutants

    yield mutants
    sys.modules.pop("mutants")


@pytest.mark.parametrize("kind", ["onnx", "yaml", "npz", "jpeg"])
def test_every_mutant_is_read_or_refused(kind: str, mutants: ModuleType) -> None:
    tally = mutants.tried(kind, COUNT)
    assert tally.bugs == {}
    assert tally.outside == []
    assert all(tally.deaths.values())
    assert tally.outcomes.total() == COUNT
    assert tally.outcomes["read"] > 0.02 * COUNT, "hardly any mutant is nearly sound"
    assert tally.outcomes["refused"] > 0.2 * COUNT, "hardly any mutant is damaged"


@pytest.mark.parametrize("kind", ["onnx", "yaml", "npz", "jpeg"])
def test_sound_files_are_read(kind: str, mutants: ModuleType, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for name, content in mutants.SOUND[kind](made).items():
        folder = tmp_path / name
        folder.mkdir()
        path = tmp_path / "upload"
        path.write_bytes(content)
        assert mutants._tried(mutants.READERS[kind], path, folder) == ("read", ""), name


def test_a_seed_gives_one_mutant(mutants: ModuleType) -> None:
    corpus = {"a": bytes(range(256)) * 4, "b": b"another" * 99}
    found = [mutants.mutant("jpeg", corpus, seed) for seed in range(200)]
    assert found == [mutants.mutant("jpeg", corpus, seed) for seed in range(200)]
    assert len({content for _, content in found}) > 190
    assert sum(content != corpus[name] for name, content in found) > 190


def failing(error: Exception) -> Callable[[Path, Path], None]:
    def read(path: Path, folder: Path) -> None:
        raise error

    return read


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (DataError("it is damaged.", "Save it again."), "refused"),
        (QuantlabError("x" * 10_000), "bug"),
        (QuantlabError("a\nb", "c"), "bug"),
        (QuantlabError(""), "bug"),
        (QuantlabError("Traceback (most recent call last)"), "bug"),
        (KeyError("meta"), "bug"),
        (RecursionError(), "bug"),
        (MemoryError(), "memory"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_counts_as_a_bug(
    error: Exception, outcome: str, mutants: ModuleType, tmp_path: Path
) -> None:
    assert mutants._tried(failing(error), tmp_path, tmp_path)[0] == outcome


def test_a_process_that_dies_is_counted_and_its_mutant_named(
    mutants: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here every second mutant kills it."""
    code = (
        "import os, sys\n"
        "for line in sys.stdin:\n"
        "    if int(line) % 2:\n"
        "        os.kill(os.getpid(), 11)\n"
        '    print(\'["a", "read", ""]\', flush=True)\n'
    )

    @contextmanager
    def deadly(kind: str, place: Path) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with process:
            yield process

    replaced: Callable[[str, Path], AbstractContextManager[subprocess.Popen[str]]] = deadly
    monkeypatch.setattr(mutants, "_worker", replaced)
    tally = mutants.tried("onnx", 4)
    assert tally.outcomes == {"read": 2, "died": 2}
    assert sorted(tally.deaths) == [1, 3]
    assert all(tally.deaths.values()), "what the client is told"
    assert "| onnx | 4 | 2 | 0 | 0 | 2 | 0 |" in mutants.page({"onnx": tally}, 0)


def test_the_command(mutants: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "mutants.md"
    assert mutants.main(["--count", "20", "--kinds", "yaml,jpeg", "--out", str(out)]) == 0
    assert "| yaml | 20 |" in out.read_text()
    assert mutants.main(["--one", "jpeg:3"]) == 0
    assert Path("jpeg-3").is_file()
