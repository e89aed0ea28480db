"""quantlab.yaml: its schema, what flags do to it, and the files that are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from quantlab.errors import RecipeError
from quantlab.recipe import Recipe
from quantlab.tune.ladder import ladder
from quantlab.verbs.config import (
    Config,
    dump,
    effective,
    load,
    load_config,
    narrowed,
    resolve,
    settled,
    template,
)
from quantlab.verbs.options.shared import DataOptions
from quantlab.verbs.options.tune import TuneOptions

DOCS = Path(__file__).parents[2] / "docs" / "config.md"
KEYS = [key.alias or name for name, key in Config.model_fields.items()]
FULL = """
model: m.onnx
data: train
list: train/val.txt
eval_data: val
eval_list: val.txt
synsets: words.txt
pipeline: {resizer: pillow-bilinear, resize: 36, crop: 32, mean: [0, 0, 0], std: [1, 1, 1]}
recipe: r.yaml
target: openvino
output: out/int8.onnx
criterion: agreement >= 96%
tolerance: 0.1%
strategy: tpe
engines: [quantlab, ort]
inc_strategy: bayesian
search: {ranges: [mean, mse], exclude: [[], [a, b]], percentile: [99]}
images_per_class: 2
calibration_size: 50
runtime: openvino
seed: 3
budget: 2m
early_stop: report
max_trials: 9
target_speedup: 1.5
threads: 4
bench: {batch_sizes: [1, 8], rounds: 5, seconds: 3s, threads: 2}
storage: sqlite:///study.db
gate: {require: [top5.decline <= 1%, "kl <= 0.1, advisory"], baseline: accepted.yaml}
"""


def config(tmp_path: Path, text: str) -> Config:
    (tmp_path / "quantlab.yaml").write_text(text)
    return load_config(tmp_path)


def test_every_key_can_be_given(tmp_path: Path) -> None:
    full = config(tmp_path, FULL)
    assert set(yaml.safe_load(FULL)) | {"engine"} == set(KEYS)
    assert full.budget == 120
    assert full.tolerance == pytest.approx(0.001)
    assert full.search["exclude"] == ((), ("a", "b"))
    assert full.search["percentile"] == (99.0,)
    assert full.bench.batch_sizes == (1, 8)
    assert full.bench.seconds == 3
    with pytest.raises(ValidationError, match="frozen"):
        full.seed = 4  # type: ignore[misc]


def test_paths_are_relative_to_the_file_and_names_stay_names(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "r.yaml").write_text("name: mine\n")
    found = config(folder, FULL)
    assert found.data == folder / "train"
    assert found.list_file == folder / "train/val.txt"
    assert (found.eval_list, found.output) == (folder / "val.txt", folder / "out/int8.onnx")
    assert found.recipe == str(folder / "r.yaml")
    assert found.model == "m.onnx"
    named = folder / "other.yaml"
    named.write_text("data: /images\npipeline: tf\n")
    assert load(named).config.data == Path("/images")
    assert load_config(named).pipeline == "tf"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dta: x", "unknown key dta.\nDid you mean data?"),
        ("list_file: x", "unknown key list_file.\nDid you mean list?"),
        ("bench: {round: 3}", "unknown key bench.round.\nDid you mean rounds?"),
        ("search: {rangs: [mse]}", "search: unknown key rangs.\nDid you mean ranges?"),
        ("search: {ranges: [guess]}", "search: ranges: Input should be 'minmax', 'mean'"),
        ("search: {ranges: mse}", "search.ranges: Input should be a valid tuple"),
        ("search: {ranges: []}", "search: ranges: give at least one value"),
        ("search: {images_per_class: [0]}", "search: images_per_class: Input should be greater"),
        ("pipeline: {resizr: x}", "pipeline: unknown key resizr.\nDid you mean resizer?"),
        ("pipeline: {resizer: pillow-bilinear}", "pipeline: resize: Field required"),
        ("strategy: lader", "strategy: Input should be 'ladder'"),
        ("budget: soon", "budget: 'soon' is not a duration such as 90s, 5m or 1h"),
        ("tolerance: 3", "tolerance: 3 is not a share such as 1% or 0.01"),
        ("seed: -1", "seed: Input should be greater"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(RecipeError) as error:
        config(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path}/quantlab.yaml: {problem}")


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = config(tmp_path, "seed: 5\nthreads: 2\ncriterion: 2%\n")
    settings = effective(file, {"seed": 7, "max_decline": "0.5pp", "layout": "NCHW"})
    assert set(settings) == set(Config.model_fields)
    assert (settings["seed"], settings["threads"], settings["budget"]) == (7, 2, 300.0)
    assert settings["criterion"] == "top1.decline <= 0.5pp"
    assert "layout" not in settings
    both = {"criterion": "kl <= 0.01", "max_decline": "0.5pp"}
    assert effective(file, both)["criterion"] == "kl <= 0.01"
    assert effective(Config(), {}) == Config().model_dump()


@pytest.mark.parametrize(
    ("flag", "gone"),
    [
        ("data", {"list_file", "eval_data", "eval_list"}),
        ("eval_data", {"eval_list"}),
        ("engine", {"engines"}),
        ("images_per_class", {"calibration_size"}),
        ("seed", set()),
    ],
)
def test_a_flag_drops_what_the_file_says_of_the_same_matter(
    tmp_path: Path, flag: str, gone: set[str]
) -> None:
    file = config(tmp_path, FULL)
    value = {"data": Path("x"), "eval_data": Path("y"), "engine": "ort"}.get(flag, 4)
    settings, plain = effective(file, {flag: value}), file.model_dump()
    changed = {key for key in plain if settings[key] != plain[key]}
    assert changed == gone | {flag}
    assert not any(settings[key] for key in gone)


def test_one_folder_for_both_is_divided(tmp_path: Path) -> None:
    same = "data: x\nlist: a.txt\neval_data: x\neval_list: "
    assert effective(config(tmp_path, f"{same}a.txt"), {})["eval_data"] is None
    assert effective(config(tmp_path, f"{same}b.txt"), {})["eval_data"] == tmp_path / "x"


def test_what_is_dumped_repeats_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").touch()
    settings = effective(config(tmp_path, FULL), {"data": Path("here"), "model": "m.onnx"})
    run = tmp_path / "run"
    run.mkdir()
    (run / "quantlab.yaml").write_text(dump({**settings, "layout": "NCHW"}, "One.\nTwo."))
    assert (run / "quantlab.yaml").read_text().startswith("# One.\n# Two.\nmodel: /")
    monkeypatch.chdir(run)
    again = effective(load_config(), {})
    assert again["data"] == tmp_path / "here"
    assert again["model"] == str(tmp_path / "m.onnx")
    unchanged = set(settings) - {"data", "model"}
    assert {k: again[k] for k in unchanged} == {k: settings[k] for k in unchanged}


def test_json_settings_can_be_dumped() -> None:
    settings = {"model": "m", "search": {"ranges": ["mse"]}, "engines": [], "budget": 60.0}
    assert yaml.safe_load(dump(settings))["search"] == {"ranges": ["mse"]}


def test_the_template_has_every_key_and_means_the_defaults(tmp_path: Path) -> None:
    text = template()
    assert list(yaml.safe_load(text)) == KEYS
    assert config(tmp_path, text) == Config()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert len(comments) > len(KEYS)
    assert all(key.description for key in Config.model_fields.values())
    assert max(map(len, text.splitlines())) <= 100


def test_the_page_tells_every_key() -> None:
    page = DOCS.read_text()
    assert [key for key in KEYS if f"`{key}`" not in page] == []


def test_recipes_are_made_to_keep_to_the_space() -> None:
    rungs = narrowed(ladder(), {"format": ["qoperator"], "ranges": ["mean", "minmax"]})
    assert {rung.format for rung in rungs} == {"qoperator"}
    assert {rung.ranges for rung in rungs} == {"mean"}
    assert len({rung.digest for rung in rungs}) == len(rungs)
    assert narrowed(ladder(), {}) == ladder()
    impossible: dict[str, Any] = {"format": ["qoperator"], "activations": ["u16"]}
    assert narrowed([Recipe()], impossible) == ()


def test_narrowed_recipes_follow_the_defaults_of_their_types() -> None:
    made = narrowed([Recipe(name="start")], {"activations": ["u16"]})
    assert [(r.ranges, r.range_search) for r in made] == [("minmax", False)]


@pytest.mark.parametrize("place", ["{a: b}", "[a]", "3"])
def test_a_place_that_is_none_is_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "quantlab.yaml").write_text(f"data: {place}\n")
    with pytest.raises(RecipeError, match=r"quantlab.yaml: data"):
        load_config(tmp_path)


def test_every_value_has_an_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUANTLAB_DATA", raising=False)
    file = config(tmp_path, "seed: 5\nlist: l.txt\ncriterion: 2%\n")
    found = resolve(TuneOptions, {"threads": 2, "max_decline": "1%"}, file, "quantlab.yaml")
    origins = found.pop("origins")
    assert found == {k: v for k, v in effective(file, {"threads": 2, "max_decline": "1%"}).items()
                     if k != "rules"}  # fmt: skip
    named = {k: v for k, v in origins.items() if v != "default"}
    assert named == {
        "threads": "--threads", "max_decline": "--max-decline", "criterion": "--max-decline",
        "seed": "quantlab.yaml", "list_file": "quantlab.yaml",
    }  # fmt: skip
    monkeypatch.setenv("QUANTLAB_DATA", "images")
    assert resolve(TuneOptions, {}, file, "x.yaml")["origins"]["data"] == "QUANTLAB_DATA"


def test_options_are_settled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config(tmp_path, "data: there\nlist: l.txt\nthreads: 3\n")
    found = settled(DataOptions(max_bad=0.5))
    assert (found.data, found.list_file) == (tmp_path / "there", tmp_path / "l.txt")
    assert (found.origins["data"], found.origins["max_bad"]) == ("quantlab.yaml", "--max-bad")
    (tmp_path / "quantlab.yaml").write_text("data: elsewhere\n")
    assert settled(found) is found
    given = settled(DataOptions(data=Path("here")))
    assert (given.data, given.list_file, given.origins["data"]) == (Path("here"), None, "--data")
