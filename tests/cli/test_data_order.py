"""Where images come from: --data, quantlab.yaml, QUANTLAB_DATA, the embedded photos."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quantlab.testing import image_folder


@pytest.fixture
def places(
    scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Path]]:
    """Makes some of the places; each holds another number of images."""

    def make(*names: str) -> dict[str, Path]:
        folders = {
            name: image_folder(tmp_path / name, 10, per_class=count, size=40, seed=count)
            for count, name in enumerate(("flag", "yaml", "environment", "photos"), 1)
        }
        monkeypatch.setattr("quantlab.verbs.inputs.fetch", lambda name, **_: folders["photos"])
        if "yaml" in names:
            (tmp_path / "quantlab.yaml").write_text("data: yaml\n")
        if "environment" in names:
            monkeypatch.setenv("QUANTLAB_DATA", str(folders["environment"]))
        return folders

    return make


def evaluated(cli: Any, scene: Any, *words: object) -> tuple[str, int]:
    said = cli("evaluate", scene.model, "--pipeline", scene.pipeline, *words)
    data = said.record.results["data"]
    return data["origin"], data["images"]


def test_the_order(cli: Any, scene: Any, places: Any, tmp_path: Path) -> None:
    folders = places("yaml", "environment")
    assert evaluated(cli, scene, "--data", folders["flag"]) == ("--data", 10)
    assert evaluated(cli, scene) == ("quantlab.yaml", 20)
    (tmp_path / "quantlab.yaml").unlink()
    assert evaluated(cli, scene) == ("QUANTLAB_DATA", 30)


def test_the_embedded_photos_come_last_and_loudly(cli: Any, scene: Any, places: Any) -> None:
    places()
    said = cli("evaluate", scene.model, "--pipeline", scene.pipeline)
    assert said.record.results["data"]["origin"] == "embedded photos"
    (warning,) = said.warnings
    assert warning.startswith("Warning: No data given: using twenty embedded photos.")


def test_quantlab_yaml_names_evaluation_data_and_a_pipeline(
    cli: Any, scene: Any, places: Any, tmp_path: Path
) -> None:
    places()
    text = f"data: yaml\neval_data: flag\npipeline: {scene.pipeline}\n"
    (tmp_path / "quantlab.yaml").write_text(text)
    said = cli("evaluate", scene.model)
    assert said.record.results["data"]["images"] == 10
    assert said.record.results["pipeline"]["name"] == "tiny"


@pytest.mark.usefixtures("no_timing", "no_database", "no_plots")
def test_tune_takes_both_from_one_place(
    cli: Any, scene: Any, places: Any, tmp_path: Path, engine: Any, monkeypatch: Any
) -> None:
    engine(0.01)
    folders = places()

    def tuned(*words: object) -> tuple[str, int, str, int]:
        results = cli(
            "tune", "--model", scene.model, "--pipeline", scene.pipeline, *words
        ).record.results
        parts = results["calibration"], results["data"]
        return tuple(p[key] for p in parts for key in ("origin", "images"))  # type: ignore[return-value]

    (tmp_path / "quantlab.yaml").write_text("data: yaml\neval_data: environment\n")
    assert tuned() == ("quantlab.yaml", 20, "quantlab.yaml", 30)
    assert tuned("--eval-data", folders["flag"]) == ("quantlab.yaml", 20, "--eval-data", 10)
    assert tuned("--data", folders["photos"]) == ("--data", 13, "--data", 27)
    (tmp_path / "quantlab.yaml").unlink()
    root = tmp_path / "root" / "imagenet"
    shutil.copytree(folders["flag"], root / "calib10")
    shutil.copytree(folders["environment"], root / "val30")
    monkeypatch.setenv("QUANTLAB_DATA", str(root.parent))
    assert tuned() == ("QUANTLAB_DATA", 10, "QUANTLAB_DATA", 30)


def test_a_wrong_quantlab_yaml_names_the_nearest_key(cli: Any, scene: Any, tmp_path: Path) -> None:
    (tmp_path / "quantlab.yaml").write_text("dta: x\n")
    said = cli("evaluate", scene.model, code=2)
    assert said.complaint == [
        f"Error: {tmp_path}/quantlab.yaml: unknown key dta.",
        "Did you mean data?",
    ]


def test_quantlab_data_that_is_no_folder(cli: Any, scene: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("QUANTLAB_DATA", "/nowhere/at/all")
    said = cli("evaluate", scene.model, "--pipeline", scene.pipeline, code=2)
    assert "QUANTLAB_DATA names /nowhere/at/all, which is not a folder." in said.complaint[0]
