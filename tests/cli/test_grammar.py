"""One grammar for all verbs: the model comes first, flags may stand in, mistakes get a hint."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from quantlab import __version__
from quantlab.cli import VERBS, main
from quantlab.cli.params import taken
from quantlab.model.model import Model
from quantlab.recipe import Recipe
from quantlab.serve.requests import command_of
from quantlab.verbs.options.option import declared

TAKES_A_MODEL = (
    *("tune", "quantize", "evaluate", "predict", "bench", "compare", "gate", "inspect"),
    "baseline update",
)


def parsed(words: list[str]) -> dict[str, Any]:
    """What click makes of a command line."""
    path = words[:2] if words[0] in ("baseline", "data") and words[0] != "data" else words[:1]
    return command_of(path).make_context(path[-1], words[len(path) :]).params


@pytest.mark.parametrize("verb", TAKES_A_MODEL)
def test_the_model_is_the_first_argument_and_a_flag(verb: str) -> None:
    words = verb.split()
    rest = {"predict": ["a.jpg"], "compare": ["int8.onnx"]}.get(verb, [])
    expected = parsed([*words, "m.onnx", *rest])
    assert "m.onnx" in next(str(v) for k, v in expected.items() if k in ("model", "models", "fp32"))
    for flag in ("--model", "--input_model"):
        assert parsed([*words, flag, "m.onnx", *rest]) == expected
        assert parsed([*words, *rest, f"{flag}=m.onnx"]) == expected


def test_a_flag_stands_for_the_second_argument_too() -> None:
    expected = parsed(["data", "npz", "m.onnx", "-o", "out"])
    assert expected["model"] == "m.onnx"
    assert parsed(["data", "--model", "m.onnx", "npz", "-o", "out"]) == expected
    assert parsed(["validate", "-c", "m.yaml"]) == parsed(["validate", "m.yaml"])


def test_words_behind_two_dashes_are_no_flags() -> None:
    assert taken(["a", "--f", "b", "--", "--f", "c"], ["--f"]) == (["b"], ["a", "--", "--f", "c"])
    assert taken(["--f=b", "--g", "c", "--f"], ["--f"]) == (["b"], ["--g", "c", "--f"])


def test_every_output_is_o() -> None:
    for verb in ("tune", "quantize", "data"):
        command = command_of([verb])
        assert any("-o" in param.opts for param in command.params), verb
    for name in ("ledger", "trend"):
        assert any("-o" in param.opts for param in command_of(["runs", name]).params), name


def test_quantize_by_single_fields(cli: Any, scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scene.folder)
    words = ("--ranges", "mse", "--per-tensor", "--calibration-size", 12, "--format", "QDQ")
    said = cli("quantize", scene.model, *scene.words, *words, "--activations", "s8")
    assert Model.load(Path("tiny.int8.onnx")).is_quantized
    made = Recipe.model_validate(said.record.results["recipe"])
    assert made == Recipe(ranges="mse", per_channel=False, calibration_size=12, activations="s8")
    assert "--per-tensor" in said.repeat
    wrong = cli("quantize", scene.model, *scene.words, "--format", "qoperator", "--activations",
                "u16", code=2)  # fmt: skip
    assert "8-bit activations" in wrong.err


def test_fields_that_are_not_asked_for_are_the_recipes() -> None:
    found = parsed(["quantize", "m.onnx"])
    assert {found[name] for name in ("engine", "per_channel", "format", "ranges")} == {None}


def test_single_fields_override_the_recipe() -> None:
    recipe = Recipe(calibration_size=12, ranges="mse")
    assert recipe.changed({}) is recipe
    assert recipe.changed({"images_per_class": 2}) == Recipe(images_per_class=2, ranges="mse")


def test_the_configuration_names_the_models(
    cli: Any, scene: Any, monkeypatch: pytest.MonkeyPatch, no_timing: None, no_plots: None
) -> None:
    monkeypatch.chdir(scene.folder)
    for words in (("evaluate",), ("compare", "--no-bench"), ("bench",)):
        assert "no quantlab.yaml names" in cli(*words, code=2).err
    Path("quantlab.yaml").write_text("model: tiny.onnx\ndata: data\npipeline: pipeline.yaml\n")
    assert "INT8" in cli("compare", "--no-bench", code=2).err
    assert cli("evaluate").repeat[1].endswith("tiny.onnx")
    assert "Models compared" not in cli("inspect").out
    cli("quantize", scene.model, *scene.words)
    compared = cli("compare", "--no-bench", code=None).repeat[1:3]
    assert [Path(each).name for each in compared] == ["tiny.onnx", "tiny.int8.onnx"]
    assert cli("bench").out.count("tiny.int8") == 2
    assert "tiny.int8" not in cli("inspect").out


def test_the_version() -> None:
    assert __version__ in CliRunner().invoke(main, ["-V"]).stdout


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("tun m.onnx", "Did you mean tune?"),
        ("runs lst", "Did you mean ls?"),
        ("tune m.onnx --modl x", "Did you mean --model?"),
        ("tune m.onnx --buget 5m", "Did you mean --budget?"),
        ("tune m.onnx --strategy ladr", "Did you mean ladder?"),
        ("quantize tiny.onnx --target tensort", "Did you mean tensorrt?"),
        ("quantize tiny.onnx --engine quantlib", "Did you mean quantlab?"),
        ("evaluate tiny.onnx --pipeline torchvison", "Did you mean torchvision?"),
        ("gate a.onnx b.onnx --require 'top1.declin <= 1%'", "Did you mean top1.decline"),
        ("quantize tiny.onnx --recipe wrong.yaml", "Did you mean ranges?"),
        ("bench tiny.onnx --rounds x", "'x' is not a valid whole number."),
    ],
)
def test_a_mistake_is_answered_by_the_nearest(
    cli: Any, scene: Any, words: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scene.folder)
    Path("wrong.yaml").write_text("rangs: mse\n")
    assert hint in cli(*shlex.split(words), code=2).err


def test_what_is_far_from_everything_gets_no_hint(cli: Any) -> None:
    assert "Did you mean" not in cli("frobnicate", code=2).err
    assert "Did you mean" not in cli("evaluate", "--nope", code=2).err


@pytest.mark.parametrize(
    "words", [("evaluate", "nowhere.onnx"), ("evaluate", "--nope"), ("gate", "a", "b", "c")]
)
def test_errors_are_json_too(
    cli: Any, words: tuple[str, ...], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    said = cli(*words, "--json", code=2)
    told = json.loads(said.out)
    assert told.keys() == {"error", "remedy", "exit_code"}
    assert told["error"] in said.err
    assert told["exit_code"] == 2


def test_a_server_of_the_environment_is_for_verbs_that_it_does(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUANTLAB_SERVER", "http://127.0.0.1:9")
    cli("runs", "ls")
    assert "works here" in cli("--server", "http://127.0.0.1:9", "runs", "ls", code=2).err
    assert "works here" in cli("runs", "ls", "--server", "http://127.0.0.1:9", code=2).err


def test_no_argument_has_a_flag_of_another_option() -> None:
    for verb in VERBS:
        command = command_of([verb])
        for each in getattr(command, "commands", {verb: command}).values():
            known = declared(each.model).values()
            flags = [flag for one in known for flag in (*one.flags, *one.instead)]
            assert len(flags) == len(set(flags)), verb
