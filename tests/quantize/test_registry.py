"""Engines by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from quantlab.errors import RecipeError
from quantlab.quantize import engine_names, get_engine


@pytest.mark.parametrize("name", ["ort", "quantlab", "inc", "nncf"])
def test_engines_know_their_names(name: str) -> None:
    assert get_engine(name).name == name


def test_unknown_engines_name_those_there_are() -> None:
    with pytest.raises(RecipeError, match="no engine is called 'tensorrt'") as caught:
        get_engine("tensorrt")
    assert "ort" in caught.value.remedy
    assert "quantlab" in caught.value.remedy


def test_only_the_engine_asked_for_is_imported() -> None:
    code = (
        "import sys; from quantlab.quantize import get_engine; get_engine('quantlab');"
        "print('quantlab.quantize.ort' in sys.modules, 'onnxruntime.quantization' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers engines; it is not imported."""
    info = tmp_path / "site" / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[quantlab.engines]\nacme = acme_engine:Acme\nort = acme_engine:Acme\n"
    )
    monkeypatch.syspath_prepend(str(info.parent))


@pytest.mark.usefixtures("acme")
def test_other_packages_offer_engines_and_cannot_replace_ours() -> None:
    assert get_engine("acme").name == "acme"
    assert type(get_engine("ort")).__module__ == "quantlab.quantize.ort"
    assert engine_names() == ("quantlab", "ort", "inc", "nncf", "acme")
