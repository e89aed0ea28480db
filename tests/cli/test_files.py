"""Inputs and outputs of all verbs: each path has a role, and no output ever overwrites an input."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest

from quantlab.cli import VERBS
from quantlab.cli.files import Verb, role_of
from quantlab.cli.params import RoleType
from quantlab.model.model import Model
from quantlab.serve.requests import command_of
from quantlab.verbs.roles import Fills, Reads, Writes

NO_PATHS = {
    *(
        "require",
        "provider",
        "output_name",
        "target",
        "split",
        "max_decline",
        "criterion",
        "engine",
        "executor",
        "since",
    ),
    *("experiment", "verb", "host", "name", "log"),
}
"""Texts that name no file. A model to look for in the history is a name too, and has a role
elsewhere."""
NAMES_OF_RUNS = {("runs", "ls"), ("runs", "trend")}


def leaves() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, by its words."""
    for verb in VERBS:
        command = command_of((verb,))
        if isinstance(command, click.Group):
            yield from (((verb, name), command.commands[name]) for name in command.commands)
        else:
            yield (verb,), command


COMMANDS = dict(leaves())


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_path_has_a_role(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    assert isinstance(command, Verb)
    for param in command.params:
        kind = param.type
        assert not isinstance(kind, click.Path | click.File), param.name
        if isinstance(kind, RoleType):
            assert isinstance(kind.role, Reads | Writes | Fills)
        elif isinstance(kind, click.types.StringParamType):
            of_runs = words in NAMES_OF_RUNS and param.name == "model"
            assert param.name in NO_PATHS or of_runs, param.name


def by_role(command: click.Command, *roles: type) -> list[click.Parameter]:
    """The options and arguments of these roles."""
    return [p for p in command.params if isinstance(role_of(p), roles) and p.name != "name"]


def pairs() -> Iterator[tuple[tuple[str, ...], str, str]]:
    for words, command in COMMANDS.items():
        for output in by_role(command, Writes, Fills):
            for read in by_role(command, Reads):
                yield words, str(output.name), str(read.name)


PAIRS = list(pairs())


def line(words: tuple[str, ...], values: dict[str, str]) -> list[str]:
    """A command line with these values, and what else it must have."""
    options, arguments = list(words), list[str]()
    for param in COMMANDS[words].params:
        value = values.get(str(param.name))
        if value is None and param.required:
            kind = param.type
            value = kind.choices[0] if isinstance(kind, click.Choice) else "none"
        if value is None:
            continue
        flag = next((flag for flag in param.opts if flag.startswith("--")), param.opts[0])
        if isinstance(param, click.Option):
            options.append(f"{flag}={value}")
        else:
            arguments.append(value)
    return [*options, *arguments]


def url_or_path(words: tuple[str, ...], name: str, path: str) -> str:
    """A database is named by a URL."""
    return f"sqlite:///{path}" if name in ("db", "storage") else path


def test_the_pairs_are_many() -> None:
    verbs = {words for words, _, _ in PAIRS}
    assert len(PAIRS) > 150
    assert {("tune",), ("gate",), ("baseline", "update"), ("runs", "export"), ("fetch",)} <= verbs


@pytest.mark.parametrize(
    ("words", "output", "read"), PAIRS, ids=[f"{' '.join(w)} {o} {r}" for w, o, r in PAIRS]
)
@pytest.mark.usefixtures("here")
def test_no_output_is_an_input(words: tuple[str, ...], output: str, read: str, cli: Any) -> None:
    Path("precious.onnx").write_bytes(b"precious")
    Path("link.onnx").symlink_to("precious.onnx")
    before = sorted(path.name for path in Path().iterdir())
    values = {read: "precious.onnx", output: url_or_path(words, output, "link.onnx")}
    forced = any(p.name == "force" for p in COMMANDS[words].params)
    for more in [[], ["--force"]] if forced else [[]]:
        said = cli(*line(words, values), *more, code=2)
        assert "would write what" in said.err or "would both write" in said.err, said.err
        assert len(said.err.splitlines()) == 2
    assert Path("precious.onnx").read_bytes() == b"precious"
    assert sorted(path.name for path in Path().iterdir()) == before


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and nothing that the environment names."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("QUANTLAB_DATA", "GITHUB_STEP_SUMMARY", "QUANTLAB_SERVER_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


def refused(cli: Any, *words: object) -> str:
    """What it says, the first line without the Error."""
    err: str = cli(*words, code=2).err
    assert len(err.splitlines()) == 2, err
    return err.splitlines()[0].removeprefix("Error: ")


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.usefixtures("here")
def test_what_is_read_unnamed_is_not_written(
    cli: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images and lists of a folder, external data, the configuration, what it and the environment
    name, and what follows from a name."""
    proto = onnx.load(scene.model)
    onnx.save(
        proto, "big.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    big = Path("big.onnx").absolute()
    image = next(scene.data.rglob("*.png"), None) or next(scene.data.rglob("*.jp*"))
    labels = scene.data / "synset_words.txt"
    labels.write_text("n00000001 a\n")
    Path("quantlab.yaml").write_text(f"model: {big}\noutput: {big}\nrecipe: recipe.yaml\n")
    Path("recipe.yaml").write_text("name: mine\n")
    before = digests(scene.folder) | digests(Path())
    quantize = ("quantize", "--model", big, *scene.words, "--force", "--output")
    for victim in (image, labels, "weights.bin", "quantlab.yaml", "recipe.yaml", scene.pipeline):
        assert f"--output {victim} would write what" in refused(cli, *quantize, victim)
    assert "--output" in refused(cli, "tune")
    assert "what MODEL reads" in refused(cli, "tune", "--force")
    assert "what output of quantlab.yaml reads" in refused(
        cli, "gate", "--comment", big, "--force", "--data", scene.data
    ).replace("model of", "output of")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(scene.model))
    assert "--summary" in refused(cli, "gate", scene.model, big, *scene.words)
    monkeypatch.setenv("QUANTLAB_DATA", str(scene.data))
    words = ("quantize", "--model", scene.model, "--force", "--output", image)
    assert "what QUANTLAB_DATA reads" in refused(cli, *words)
    assert digests(scene.folder) | digests(Path()) == before


@pytest.mark.usefixtures("here")
def test_answers_beside_a_baseline_are_guarded_too(cli: Any, scene: Any) -> None:
    archive = Path("images.npz")
    np.savez(archive, images=np.zeros((2, 40, 40, 3), np.uint8))
    before = archive.read_bytes()
    words = ("baseline", "update", scene.model, "--pipeline", scene.pipeline, "--data", archive)
    assert "what --data reads" in refused(cli, *words, "--baseline", "images.yaml", "--force")
    words = ("baseline", "update", scene.model, *scene.words)
    assert "no answers" in refused(cli, *words, "--baseline", "images.yaml")
    assert archive.read_bytes() == before


OWN = {
    "quantize": "quantize --model MODEL DATA --output FILE.onnx",
    "baseline": "baseline update MODEL DATA --baseline FILE.yaml",
    "junit": "gate MODEL MODEL DATA --junit FILE.xml",
    "comment": "gate MODEL MODEL DATA --comment FILE.md",
    "benchmark": "gate MODEL MODEL DATA --benchmark-json FILE.json",
    "export json": "bench MODEL --export FILE.json",
    "export csv": "bench MODEL --export FILE.csv",
    "export md": "bench MODEL --export FILE.md",
    "ledger": "runs ledger --output FOLDER",
    "trend svg": "runs trend tiny --plot FILE.svg",
    "trend png": "runs trend tiny --plot FILE.png",
    "npz": "data npz --model MODEL DATA --output FOLDER",
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.usefixtures("here", "no_timing", "no_database")
def test_quantlab_replaces_its_own_and_nothing_else(name: str, cli: Any, scene: Any) -> None:
    """Written twice; then every file of it is somebody else's, and is only replaced when forced."""
    named = {"MODEL": [str(scene.model)], "DATA": list(scene.words)}
    words = [w for word in shlex.split(OWN[name]) for w in named.get(word, [word])]
    words = [word.replace("FILE", "out/file").replace("FOLDER", "out") for word in words]
    cli("evaluate", scene.model, *scene.words)
    cli(*words, code=None)
    written = digests(Path("out"))
    assert written
    cli(*words, code=None)
    assert digests(Path("out")).keys() == written.keys()
    for file in map(Path, written):
        mine = file.read_bytes()
        file.write_bytes(b"somebody else's")
        assert f"{file}: it is there already" in refused(cli, *words)
        assert file.read_bytes() == b"somebody else's"
        cli(*words, "--force", code=None)
        assert file.read_bytes() != b"somebody else's"
        file.write_bytes(mine)


@pytest.mark.usefixtures("here")
def test_each_ready_input_is_kept_from_the_images(cli: Any, scene: Any) -> None:
    words = ("data", "npz", "--model", scene.model, *scene.words, "--output", "set")
    cli(*words)
    image = next(path for path in sorted(scene.data.rglob("*")) if path.is_file())
    last = max(Path("set").rglob("*.npz"))
    last.unlink()
    last.hardlink_to(image)
    before = digests(Path("set")) | digests(scene.data)
    assert f"--output {last} would write what --data reads" in refused(cli, *words, "--force")
    assert digests(Path("set")) | digests(scene.data) == before


@pytest.mark.usefixtures("here")
def test_an_int8_file_is_replaced_and_its_fp32_model_is_not(cli: Any, scene: Any) -> None:
    words = ("quantize", "--model", scene.model, *scene.words, "--output")
    cli(*words, "int8.onnx")
    assert Model.load("int8.onnx").is_quantized
    cli(*words, "int8.onnx")
    Path("other.onnx").write_bytes(scene.model.read_bytes())
    assert "no int8 model that quantlab wrote" in refused(cli, *words, "other.onnx")


@pytest.mark.usefixtures("here")
def test_files_of_runs_are_no_outputs(cli: Any, scene: Any) -> None:
    words = ("quantize", "--model", scene.model, *scene.words, "--output")
    run = cli(*words, "int8.onnx").folder
    kept = run / "copy.onnx"
    kept.write_bytes(Path("int8.onnx").read_bytes())
    assert "what --runs-dir reads" in refused(cli, *words, kept)
