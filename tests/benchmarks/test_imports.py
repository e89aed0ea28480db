"""Every benchmark finds what it imports from quantlab: most run for hours, and in no test."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_it_imports_is_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("quantlab"):
            module = import_module(node.module or "")
            for name in node.names:
                there = hasattr(module, name.name)
                assert there or import_module(f"{node.module}.{name.name}"), name.name
