"""Tries the quantlab that is installed: its files, and a model quantized and compared in small.

make wheel runs this with the Python of an empty environment in which only the wheel is installed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import quantlab
from quantlab.testing import listed_folder, tiny_classifier

OF_THE_PACKAGE = ("py.typed", "tuning/photos.yaml", "report/templates", "serve/web/templates")
PASS_OR_INCONCLUSIVE = (0, 3)


def check_files() -> None:
    """Raises SystemExit where the wheel lacks a file that is no Python."""
    package = Path(quantlab.__file__).parent
    lacking = [name for name in OF_THE_PACKAGE if not (package / name).exists()]
    found = [str(path) for path in distribution("quantlab").files or []]
    lacking += [] if any(path.endswith("licenses/LICENSE") for path in found) else ["LICENSE"]
    if lacking:
        sys.exit(f"The installed quantlab lacks {', '.join(lacking)}.")


def check_commands(folder: Path) -> None:
    """Raises SystemExit where a command does not end as it should."""
    tiny_classifier(folder / "m.onnx")
    listed_folder(folder / "val", [0, 1, 2, 3] * 5)
    size = ["--size", "32"]
    quantize = ["quantize", "--model", "m.onnx", "--data", "val", "--output", "int8.onnx", *size]
    compare = ["compare", "m.onnx", "int8.onnx", "--data", "val", "--no-bench", *size]
    for words, codes in ((["--version"], (0,)), (quantize, (0,)), (compare, PASS_OR_INCONCLUSIVE)):
        line = [sys.executable, "-m", "quantlab", *words]
        if subprocess.run(line, cwd=folder).returncode not in codes:
            sys.exit(f"quantlab {' '.join(words)} failed.")


if __name__ == "__main__":
    check_files()
    with tempfile.TemporaryDirectory() as folder:
        check_commands(Path(folder))
    print(f"quantlab {quantlab.__version__} in {Path(quantlab.__file__).parent} works.")
