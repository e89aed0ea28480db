"""How the program ends: by its exit code, with all said and cleaned up, and soon."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import atexit
from quantlab import cli

class Library:
    def __del__(self):
        print("taken apart")

def work(**options):
    atexit.register(print, "cleaned up")
    {work}

library, main, cli.main = Library(), cli.main, work
cli.run()
"""


def ended(*words: str, work: str = "main(**options)") -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", PROGRAM.format(work=work), *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "code"), [(("--version",), 0), (("nonsense",), 2), (("evaluate", "none.onnx"), 2)]
)
def test_an_exit_code_is_the_end(words: tuple[str, ...], code: int) -> None:
    done = ended(*words)
    assert done.returncode == code
    assert done.stdout.splitlines()[-1:] == ["cleaned up"]
    assert bool(done.stderr) == bool(code)


def test_an_error_that_nobody_foresaw_is_told_by_python() -> None:
    done = ended(work="1 / 0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert done.stdout.splitlines() == ["cleaned up", "taken apart"]
