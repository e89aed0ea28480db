"""quantlab init, and tune with a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from quantlab.verbs.config import Config, load_config

INC = """
model: {{name: tiny, framework: onnxrt_qlinearops}}
quantization:
  calibration:
    sampling_size: 12
    dataloader:
      dataset: {{ImageFolder: {{root: {data}}}}}
      transform:
        Resize: {{size: 36}}
tuning:
  accuracy_criterion: {{absolute: 0.3}}
  random_seed: 11
evaluation:
  accuracy:
    dataloader:
      dataset: {{ImageFolder: {{root: {data}}}}}
      transform:
        Resize: {{size: 36}}
        CenterCrop: {{size: 32}}
        Normalize: {{mean: [127.0], std: [64.0]}}
  surprise: 1
"""


def test_init_writes_the_defaults_and_replaces_nothing(cli: Any) -> None:
    assert cli("init").out == "Wrote quantlab.yaml\n"
    assert load_config() == Config()
    Path("quantlab.yaml").write_text("seed: 4\n")
    said = cli("init", code=2)
    assert said.complaint[0] == "Error: quantlab.yaml exists already and was not changed."
    assert Path("quantlab.yaml").read_text() == "seed: 4\n"
    cli("init", "--force")
    assert load_config() == Config()


@pytest.mark.usefixtures("no_timing", "no_database")
def test_the_run_folder_repeats_the_tune(
    cli: Any, scene: Any, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(0.01)
    (tmp_path / "quantlab.yaml").write_text(
        f"model: {scene.model}\ndata: scene/data\npipeline: {scene.pipeline}\nseed: 4\n"
        "images_per_class: 2\n"
    )
    first = cli("tune", "--seed", 6, "--output", "a.onnx")
    assert first.record.spec["seed"] == 6
    origins = {name: first.record.origins[name] for name in ("seed", "data", "budget", "output")}
    assert origins == {
        "seed": "--seed", "data": "quantlab.yaml", "budget": "default", "output": "--output"
    }  # fmt: skip
    assert first.record.results["calibration"]["images"] == 20
    assert first.record.results["calibration"]["origin"] == "quantlab.yaml"
    kept = _kept(first.folder)
    assert (kept["seed"], kept["data"]) == (6, str(scene.data))
    assert kept["output"] == str(tmp_path / "a.onnx")
    before = (tmp_path / "a.onnx").read_bytes()
    for folder, words in (
        (tmp_path, ("--config", first.folder / "quantlab.yaml")),
        (first.folder, ()),
    ):
        monkeypatch.chdir(folder)
        again = cli("tune", *words)
        assert _kept(again.folder) == kept
        assert (tmp_path / "a.onnx").read_bytes() == before


def _kept(folder: Path) -> dict[str, Any]:
    """The settings in a run folder; the int8 file's place is told from there."""
    kept: dict[str, Any] = yaml.safe_load((folder / "quantlab.yaml").read_text())
    return {**kept, "output": str((folder / kept["output"]).resolve())}


@pytest.mark.usefixtures("no_timing", "no_database")
def test_a_named_file_stands_instead_of_the_one_here(
    cli: Any, scene: Any, engine: Any, tmp_path: Path
) -> None:
    engine(0.01)
    (tmp_path / "quantlab.yaml").write_text("data: nowhere\nthreads: 3\n")
    other = tmp_path / "elsewhere" / "mine.yaml"
    other.parent.mkdir()
    other.write_text(f"model: {scene.model}\ndata: ../scene/data\npipeline: ../scene/pipeline.yaml")
    said = cli("tune", "--config", other)
    assert said.record.results["data"]["origin"] == "mine.yaml"
    assert said.record.spec["threads"] == 0


@pytest.mark.usefixtures("no_timing", "no_database")
def test_neural_compressors_file_and_flags(
    cli: Any, scene: Any, engine: Any, tmp_path: Path
) -> None:
    engine(0.01)
    (tmp_path / "inc.yaml").write_text(INC.format(data="scene/data"))
    words = ("--config", "inc.yaml", "--input_model", scene.model, "--output_model", "out.onnx")
    said = cli("tune", *words)
    assert Path("out.onnx").is_file()
    assert said.record.results["calibration"]["images"] == 12
    assert said.record.results["data"]["images"] == 28
    table = (said.folder / "mapped.md").read_text()
    assert "calibration_size: 12" in table
    assert "| evaluation.surprise" in said.err
    kept = yaml.safe_load((said.folder / "quantlab.yaml").read_text())
    assert (kept["criterion"], kept["seed"]) == ("top1.decline <= 30pp", 11)
    assert kept["pipeline"]["mean"] == [127, 127, 127]
    assert kept["search"] == {"format": ["qoperator"]}
    assert said.repeat[:5] == ["tune", str(scene.model), "--config", "inc.yaml", "--output"]


def test_a_file_of_labels_in_the_configuration(cli: Any, scene: Any, tmp_path: Path) -> None:
    data = scene.labelled_by_itself("own", 50)
    (data / "val.txt").rename(tmp_path / "labels.txt")
    text = f"eval_data: {data}\neval_list: labels.txt\npipeline: {scene.pipeline}\n"
    (tmp_path / "quantlab.yaml").write_text(text)
    assert cli("evaluate", scene.model).out.startswith("Top-1 100.00%")


def test_tune_without_a_model_says_where_to_name_it(cli: Any) -> None:
    assert "Missing argument 'MODEL', and no quantlab.yaml names" in cli("tune", code=2).err
