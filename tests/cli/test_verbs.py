"""Every verb from end to end on tiny models and images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quantlab.runs.record import RunRecord
from quantlab.testing import tiny_classifier

pytestmark = pytest.mark.usefixtures("no_timing", "no_database", "no_plots")

VERBS = (
    "init",
    "tune",
    "quantize",
    "evaluate",
    "validate",
    "predict",
    "bench",
    "compare",
    "gate",
    "baseline",
    "inspect",
    "data",
    "fetch",
    "recipes",
    "runs",
    "cache",
)
ARTIFACTS = {
    "init": set(),
    "tune": {
        "config",
        "report",
        "html_report",
        "measurements",
        "fp32_predictions",
        "int8_predictions",
    },
    "quantize": set(),
    "evaluate": {"predictions"},
    "validate": {"predictions"},
    "predict": set(),
    "bench": {"measurements"},
    "compare": {"report", "html_report", "measurements", "fp32_predictions", "int8_predictions"},
    "gate": {"gate", "report", "html_report", "fp32_predictions", "int8_predictions"},
    "baseline": set(),
    "inspect": {"inspection"},
    "data": set(),
    "fetch": set(),
    "recipes": set(),
    "runs": set(),
    "cache": set(),
}
"""What is in the run folder afterwards, trials apart."""
INCONCLUSIVE = 3
LOOKING = ("init", "predict", "inspect", "fetch", "recipes", "runs", "cache")
"""Verbs that keep a run only where --runs-dir is given."""


@pytest.fixture
def words(
    scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[list[str], int]]:
    """A verb's command line and the exit code it should end with."""
    other = tiny_classifier(scene.folder / "other.onnx", seed=1)
    config = scene.folder / "config.yaml"
    config.write_text(f"model: {scene.model}\n")
    monkeypatch.setattr("quantlab.verbs.inputs.fetch", lambda name, **_: scene.data / "0")
    output = ["--output", str(tmp_path / "int8.onnx")]
    model, near, data = str(scene.model), str(scene.near()), list(scene.words)
    lines: dict[str, tuple[list[str], int]] = {
        "init": (["--force"], 0),
        "tune": (["--model", model, *data, *output], 0),
        "quantize": (["--model", model, *data, *output], 0),
        "evaluate": ([model, *data], 0),
        "validate": (["-c", str(config), "--data_dir", str(scene.data), *data[2:]], 0),
        "predict": ([model, str(scene.data / "0" / "000.png"), *scene.words[2:]], 0),
        "bench": ([model, str(other), "--batch", "1", "--batch", "2"], 0),
        "compare": ([model, near, *data], INCONCLUSIVE),
        "gate": ([model, near, *data], INCONCLUSIVE),
        "baseline": (["update", model, *data], 0),
        "inspect": ([model, "--scales"], 0),
        "data": (["npz", "--model", model, *data, "--output", str(tmp_path / "npz")], 0),
        "fetch": (["photos"], 0),
        "recipes": ([], 0),
        "runs": (["ledger", "--output", str(tmp_path / "reports")], 0),
        "cache": (["ls"], 0),
    }
    kept = ["--runs-dir", "runs"]
    lines = {k: (v[0] + kept if k in LOOKING else v[0], v[1]) for k, v in lines.items()}
    return lambda verb: ([verb, *lines[verb][0]], lines[verb][1])


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_leaves_a_run_and_touches_no_input(
    verb: str, cli: Any, scene: Any, words: Any
) -> None:
    line, code = words(verb)
    before = scene.snapshot()
    said = cli(*line, code=code)
    assert scene.snapshot() == before
    record = said.record
    assert (record.status, record.verb, record.error) == ("success", verb, None)
    assert record.finished
    assert record.environment["onnxruntime"]
    assert record.results
    kept = {name for name in record.artifacts if not name.startswith(("trial", "predictions 0"))}
    assert kept == ARTIFACTS[verb]
    for name in record.artifacts.values():
        assert (said.folder / name).stat().st_size > 0
    assert {p.name for p in said.folder.rglob(".*")} <= {".lock"}


@pytest.mark.parametrize("verb", VERBS)
def test_results_go_to_stdout_and_talk_to_stderr(verb: str, cli: Any, words: Any) -> None:
    line, code = words(verb)
    said = cli(*line, code=code)
    assert said.out.strip()
    assert "Run:" not in said.out
    assert "Repeat:" not in said.out
    assert said.err.splitlines()[-2:] == [
        f"Run:    {said.folder}",
        f"Repeat: {said.record.command}",
    ]
    quiet = cli(*line, "--quiet", code=code)
    assert quiet.complaint == []
    assert quiet.out.strip()


@pytest.mark.parametrize("verb", VERBS)
def test_the_printed_command_repeats_the_run(verb: str, cli: Any, words: Any) -> None:
    line, code = words(verb)
    first = cli(*line, code=code)
    again = cli(*first.repeat, code=code)
    assert again.folder != first.folder
    assert again.repeat == first.repeat
    assert again.out.replace(str(again.folder), str(first.folder)) == first.out


@pytest.mark.parametrize("verb", VERBS)
def test_json_is_the_record_and_nothing_else(verb: str, cli: Any, words: Any) -> None:
    line, code = words(verb)
    said = cli(*line, "--json", "--runs-dir", "json-runs", code=code)
    printed = RunRecord.model_validate_json(said.out)
    assert said.complaint == []
    (folder,) = Path("json-runs").iterdir()
    assert json.loads((folder / "run.json").read_text()) == json.loads(said.out)
    assert printed.status == "success"
    assert printed.warnings == [w.removeprefix("Warning: ") for w in said.warnings]


@pytest.mark.parametrize("verb", LOOKING)
def test_a_verb_that_lists_or_looks_leaves_nothing(
    verb: str, cli: Any, words: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line, code = words(verb)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    said = cli(*line[:-2], code=code)
    assert said.out.strip()
    assert "Run:" not in said.err
    left = [path.name for path in Path().iterdir()]
    assert left == (["quantlab.yaml"] if verb == "init" else [])
    printed = RunRecord.model_validate_json(cli(*line[:-2], "--json", code=code).out)
    assert (printed.status, printed.verb) == ("success", verb)


@pytest.mark.parametrize(
    "line",
    [
        "evaluate MODEL --data nowhere",
        "tune nowhere.onnx",
        "tune MODEL --data nowhere",
        "quantize MODEL --data nowhere",
        "compare MODEL nowhere.onnx",
        "bench nowhere.onnx",
        "gate MODEL nowhere.onnx",
    ],
)
def test_a_failed_usage_leaves_nothing(
    line: str, cli: Any, scene: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    words = [str(scene.model) if word == "MODEL" else word for word in line.split()]
    assert "Error: " in cli(*words, code=2).err
    assert list(Path().iterdir()) == []
    Path("runs").mkdir()
    cli(*words, code=2)
    assert [path.name for path in Path().rglob("*")] == ["runs"]


def test_quantize_writes_what_it_says(cli: Any, scene: Any, tmp_path: Path) -> None:
    target = tmp_path / "new" / "int8.onnx"
    said = cli("quantize", "--model", scene.model, *scene.words, "--output", target)
    check, wrote = said.out.splitlines()
    assert check.startswith("On 32 images that calibrated: SQNR ")
    assert wrote == f"Wrote {target} ({target.stat().st_size / 1e6:.2f} MB)"
    output = said.record.results["output"]
    assert output["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()


def test_quantize_by_a_recipe_file_and_seed(cli: Any, scene: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: mine\nengine: ort\nranges: minmax\nimages_per_class: 2\nseed: 3\n")
    line = ["quantize", "--model", scene.model, *scene.words, "--recipe", recipe]
    said = cli(*line, "--output", tmp_path / "a.onnx")
    assert "Quantizing by recipe mine, calibrated on 20 images." in said.err
    assert said.record.results["recipe"]["seed"] == 3
    seeded = cli(*line, "--seed", 9, "--output", tmp_path / "b.onnx")
    assert seeded.record.results["recipe"]["seed"] == 9


def test_formats_without_a_fast_kernel_are_named(cli: Any, scene: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: a16w8\nactivations: u16\n")
    target = tmp_path / "a16.onnx"
    line = ("--recipe", recipe, "--output", target)
    said = cli("quantize", "--model", scene.model, *scene.words, *line)
    sentence = "a format for fidelity or NPUs, not for speed on a CPU."
    assert sentence in " ".join(said.err.split())
    compared = cli("compare", scene.model, target, *scene.words, code=INCONCLUSIVE)
    assert sentence in " ".join((compared.folder / "report.md").read_text().split())


def test_evaluate_says_accuracy_with_intervals(cli: Any, scene: Any) -> None:
    data = scene.labelled_by_itself("own", 50)
    line = ("evaluate", scene.model, "--data", data, "--pipeline", scene.pipeline)
    said = cli(*line, "--log-interval", 16)
    assert said.out.startswith("Top-1 100.00%  95% interval 92.87% to 100.00%  (50 of 50)\nTop-5 ")
    running = [line for line in said.err.splitlines() if line.endswith(" fps")]
    assert [line.split(", speed ")[0] for line in running] == [
        f"{n} samples, acc-top1 1.0000, acc-top5 1.0000" for n in (16, 32, 48)
    ]


def test_evaluate_without_labels(cli: Any, scene: Any) -> None:
    said = cli("evaluate", scene.model, *scene.words[2:], "--data", scene.data / "3")
    assert said.out == "4 images without labels: no accuracy. Predictions are in the run folder.\n"
    assert said.record.results["accuracy"] is None


def test_an_unknown_pipeline_is_assumed_loudly(cli: Any, scene: Any) -> None:
    said = cli("evaluate", scene.model, "--data", scene.data)
    assert said.warnings == [
        "Warning: No pipeline is known for tiny.onnx: torchvision is assumed (--pipeline names "
        "another)."
    ]
    assert said.record.results["pipeline"]["name"] == "torchvision"


def test_a_quantized_file_knows_its_pipeline_and_its_calibration_images(
    cli: Any, scene: Any, tmp_path: Path
) -> None:
    target = tmp_path / "int8.onnx"
    cli("quantize", "--model", scene.model, *scene.words, "--output", target)
    said = cli("evaluate", target, "--data", scene.data)
    assert said.record.results["pipeline"]["name"] == "tiny"
    assert said.warnings == []
    flattered = cli("compare", scene.model, target, *scene.words, code=INCONCLUSIVE)
    assert "40 of these 40 images calibrated int8.onnx: they flatter it." in flattered.err


def test_compare_of_a_model_with_itself(cli: Any, scene: Any) -> None:
    data = scene.labelled_by_itself("own")
    line = ("--data", data, "--pipeline", scene.pipeline, "--max-decline", "20%")
    said = cli("compare", scene.model, scene.model, *line)
    comparison = said.record.results["comparison"]
    assert said.out.startswith("PASS: ")
    assert comparison["fidelity"]["identical"]
    assert comparison["fidelity"]["agreement"]["value"] == 1
    assert (said.folder / "report.md").read_text().startswith("# PASS: ")
    assert said.record.command in (said.folder / "report.md").read_text()


def test_compare_exits_with_the_verdict(cli: Any, scene: Any) -> None:
    other = tiny_classifier(scene.folder / "other.onnx", seed=1)
    data = scene.labelled_by_itself("own")
    line = ("--data", data, "--pipeline", scene.pipeline, "--no-bench")
    assert cli("compare", scene.model, other, *line, code=1).out.startswith("FAIL: ")
    near = cli("compare", scene.model, scene.near(), *line, code=INCONCLUSIVE)
    assert near.out.startswith("INCONCLUSIVE: ")
    assert cli("compare", scene.model, scene.model, *line).out.startswith("PASS: ")


def test_compare_without_labels_stands_on_fidelity(cli: Any, scene: Any) -> None:
    other = tiny_classifier(scene.folder / "other.onnx", seed=1)
    line = ("--data", scene.data / "3", "--pipeline", scene.pipeline)
    said = cli("compare", scene.model, other, *line, code=INCONCLUSIVE)
    assert "no labels to judge accuracy by" in said.out
    assert "Top-1" not in said.out
    assert "Agreement" in said.out


@pytest.mark.parametrize(
    "parts",
    [
        {"layout": "NHWC", "dtype": "uint8"},
        {"softmax": True},
        {"batch": 1},
        {"batch": 3, "softmax": True},
        {"opset": 7, "batch_norm": True},
    ],
)
def test_evaluate_and_compare_any_kind_of_model(
    parts: dict[str, Any], cli: Any, scene: Any
) -> None:
    model = scene.teach(tiny_classifier(scene.folder / "kind.onnx", **parts))
    said = cli("evaluate", model, *scene.words)
    assert said.record.results["data"]["images"] == 40
    compared = cli("compare", model, model, *scene.words, "--no-bench")
    assert compared.record.results["comparison"]["fidelity"]["identical"]


def test_overrides_are_recorded(cli: Any, scene: Any) -> None:
    said = cli("evaluate", scene.model, *scene.words, "--output-kind", "probabilities")
    assert said.record.results["model"]["output_kind"] == "probabilities"
    assert said.record.spec["output_kind"] == "probabilities"


def test_inspect_lists_scales(cli: Any, scene: Any, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    cli("quantize", "--model", scene.model, *scene.words, "--output", target)
    short, long = cli("inspect", target), cli("inspect", target, "--scales", "--runs-dir", "runs")
    assert "(--scales lists them)" in short.out
    assert "zero point" in long.out
    inspection = json.loads((long.folder / "inspection.json").read_text())
    assert all(t["scale_min"] > 0 for t in inspection["quantized_tensors"])
    assert inspection["is_quantized"]


def test_recipes_lists_published_models_and_the_ladder(cli: Any) -> None:
    said = cli("recipes")
    assert "mobilenetv2-12" in said.out
    assert "The ladder that tune climbs:" in said.out


def test_a_known_name_is_fetched_with_a_line_saying_so(
    cli: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(name: str, **_: object) -> Path:
        asked.append(name)
        return Path(scene.model)

    monkeypatch.setattr("quantlab.verbs.inputs.fetch", fetch)
    said = cli("inspect", "mobilenetv2-12.onnx")
    assert asked == ["mobilenetv2-12"]
    expected = "mobilenetv2-12.onnx is not here: fetching the published model mobilenetv2-12."
    assert expected in said.err


def test_a_file_of_that_name_comes_first(cli: Any, scene: Any) -> None:
    Path("mobilenetv2-12.onnx").write_bytes(scene.model.read_bytes())
    assert "is not here" not in cli("inspect", "mobilenetv2-12.onnx").err
