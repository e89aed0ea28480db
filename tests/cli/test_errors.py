"""What the user can mend: one or two clear lines, exit code 2, no traceback."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantlab.testing import listed_folder, npz_file, tiny_classifier, truncate

pytestmark = pytest.mark.usefixtures("no_timing", "no_database", "no_plots")
Refused = Callable[..., str]


@pytest.fixture
def refused(cli: Any) -> Refused:
    """``refused("evaluate", ...)``: what the command answers, after all that must hold of it."""

    def run(*words: object) -> str:
        said = cli(*words, code=2)
        assert said.out == ""
        assert 1 <= len(said.complaint) <= 2, said.err
        assert said.complaint[0].startswith("Error: ")
        return "\n".join(said.complaint)

    return run


@pytest.mark.parametrize("verb", ["inspect", "bench", "evaluate"])
@pytest.mark.parametrize("content", [b"", b"hello, I am no model", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_not_onnx(verb: str, content: bytes, refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert "m.onnx is not a" in refused(verb, path)


@pytest.mark.parametrize("keep", [0.001, 0.2, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_model(keep: float, refused: Refused, scene: Any) -> None:
    truncate(scene.model, keep)
    line = ("--model", scene.model, *scene.words)
    assert "tiny.onnx is not a" in refused("tune", *line)
    refused("quantize", *line, "--output", "o.onnx")
    refused("inspect", scene.model)
    assert not Path("o.onnx").exists()


def test_a_missing_model_and_a_folder(refused: Refused, scene: Any) -> None:
    assert "no such model file" in refused("inspect", "nowhere.onnx")
    assert "is not a file" in refused("inspect", scene.data)


def detector(path: Path) -> Path:
    """Boxes [N, 4, boxes] and scores, as detection models have."""
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 100, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 100]),
    ]
    nodes = [helper.make_node("Flatten", ["image"], [name]) for name in ("boxes", "scores")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "d", [given], outputs)), path)
    return path


@pytest.mark.parametrize("verb", ["tune", "quantize", "evaluate", "inspect", "bench", "compare"])
def test_a_detection_model(verb: str, refused: Refused, scene: Any, tmp_path: Path) -> None:
    model = detector(tmp_path / "ssd.onnx")
    lines: dict[str, tuple[object, ...]] = {
        "tune": ("--model", model, *scene.words),
        "quantize": ("--model", model, *scene.words, "--output", "o.onnx"),
        "compare": (model, scene.model, *scene.words),
        "evaluate": (model, *scene.words),
    }
    answer = refused(verb, *lines.get(verb, (model,)))
    assert "not an image classifier: its output must be one [N, classes] tensor" in answer
    assert "boxes [1, 100, 4], scores [1, 100]" in answer


@pytest.mark.parametrize("verb", ["tune", "evaluate"])
def test_an_empty_data_folder(verb: str, refused: Refused, scene: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    model = ("--model", scene.model) if verb == "tune" else (scene.model,)
    answer = refused(verb, *model, *scene.words[2:], "--data", tmp_path / "empty")
    assert answer.startswith(f"Error: {tmp_path / 'empty'} holds no images.\n")


def test_no_data_folder_at_all(refused: Refused, scene: Any) -> None:
    answer = refused("evaluate", scene.model, *scene.words[2:], "--data", "nowhere")
    assert "nowhere: no such folder or file." in answer


@pytest.mark.parametrize("labels", [[0, 1, 10], [1, 2, 999], [-1, 0, 1]])
@pytest.mark.parametrize("kind", ["list", "npz"])
def test_labels_out_of_range(
    labels: list[int], kind: str, refused: Refused, scene: Any, tmp_path: Path
) -> None:
    if kind == "list":
        data = listed_folder(tmp_path / "data", [0, 1, 2], size=40)
        rows = [f"{i:03d}.png {label}\n" for i, label in enumerate(labels)]
        (data / "val.txt").write_text("".join(rows))
    else:
        data = npz_file(tmp_path / "data.npz", [0, 1, 2], size=40)
        with np.load(data) as old:
            np.savez(data, images=old["images"], labels=np.array(labels))
    answer = refused("evaluate", scene.model, *scene.words[2:], "--data", data)
    assert "Labels out of range: the model has the labels 0 to 9" in answer


def test_a_list_that_names_missing_files(refused: Refused, scene: Any, tmp_path: Path) -> None:
    data = listed_folder(tmp_path / "data", [i % 10 for i in range(20)], size=40)
    for name in ("003.png", "004.png"):
        (data / name).unlink()
    line = ("evaluate", scene.model, *scene.words[2:], "--data", data)
    answer = refused(*line)
    assert "2 of 20 images cannot be used (10%, allowed are 1%)" in answer
    assert "003.png: in the list, but there is no such file" in answer
    assert "--max-bad allows more" in answer


def test_missing_files_within_the_bound_are_named(cli: Any, scene: Any, tmp_path: Path) -> None:
    data = listed_folder(tmp_path / "data", [i % 10 for i in range(20)], size=40)
    (data / "003.png").unlink()
    line = ("evaluate", scene.model, *scene.words[2:], "--data", data, "--max-bad", "5%")
    (warning,) = cli(*line).warnings
    assert "1 images were left out: 003.png: in the list, but there is no such file" in warning


def test_a_list_that_names_nothing_there(refused: Refused, scene: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "val.txt").write_text("a.png 0\nb.png 1\n")
    answer = refused("evaluate", scene.model, *scene.words[2:], "--data", tmp_path / "data")
    assert "names 2 images, but none of them is in" in answer


@pytest.mark.parametrize("verb", ["evaluate", "tune"])
def test_only_broken_images(verb: str, refused: Refused, scene: Any) -> None:
    for number, image in enumerate(scene.data.rglob("*.png")):
        image.write_bytes(b"no image %d" % number)
    model = ("--model", scene.model) if verb == "tune" else (scene.model,)
    for bound in ("1%", "100%"):
        answer = refused(verb, *model, *scene.words, "--max-bad", bound, "--quiet")
        assert "images cannot be used" in answer
        assert answer.endswith("\nGive images that can be read.")


def test_an_unwritable_output(refused: Refused, scene: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for verb in ("tune", "quantize"):
        line = (verb, "--model", scene.model, *scene.words, "--output")
        assert "cannot write" in refused(*line, tmp_path / "file" / "o.onnx")
        assert "it is a folder" in refused(*line, tmp_path)


def test_unwritable_run_folders(refused: Refused, scene: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "runs", Path("/proc/runs")):
        assert "cannot write" in refused("inspect", scene.model, "--runs-dir", place)


def test_an_already_quantized_model(refused: Refused, cli: Any, scene: Any) -> None:
    cli("quantize", "--model", scene.model, *scene.words, "--output", "int8.onnx")
    answer = refused("tune", "--model", "int8.onnx", *scene.words)
    assert "int8.onnx is already quantized (" in answer
    assert "quantlab tune starts from the fp32 model" in answer
    refused("quantize", "--model", "int8.onnx", *scene.words, "--output", "twice.onnx")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nope", "neither a recipe file nor a published model"),
        ("enigne: ort\n", "Did you mean engine?"),
        ("ranges: widest\n", "ranges"),
        ("engine: none\n", "no engine is called 'none'"),
        ("- a\n- b\n", "must be a YAML mapping"),
        ("a: [\n", "is not valid YAML"),
        ("engine: ort\nsmooth: 0.5\n", "the ort engine cannot do"),
    ],
)
def test_wrong_recipes(text: str, expected: str, cli: Any, scene: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    if text != "nope":
        recipe.write_text(text)
    line = ("quantize", "--model", scene.model, *scene.words, "--output", "o.onnx", "--quiet")
    said = cli(*line, "--recipe", recipe, code=2)
    assert expected in said.err
    assert len(said.complaint) <= 2


def test_wrong_limits_and_pipelines(refused: Refused, scene: Any) -> None:
    line = ("tune", "--model", scene.model, *scene.words)
    for text in ("much", "5", "kl <= 1"):
        answer = refused(*line, "--max-decline", text)
        assert answer.startswith(f"Error: {text!r} is not a limit for the decline.\nWrite 1% for ")
    pipeline = ("evaluate", scene.model, "--data", scene.data, "--pipeline")
    assert "Did you mean torchvision?" in refused(*pipeline, "torchvison")
    assert "nothere.yaml: no such file" in refused(*pipeline, "nothere.yaml")


def test_models_that_cannot_be_compared(refused: Refused, scene: Any) -> None:
    larger = tiny_classifier(scene.folder / "larger.onnx", size=40)
    more = tiny_classifier(scene.folder / "more.onnx", classes=12)
    for other in (larger, more):
        answer = refused("compare", scene.model, other, *scene.words)
        assert "differ in image size or number of classes" in answer


def test_a_batch_that_the_model_cannot_take(cli: Any, scene: Any, monkeypatch: Any) -> None:
    from quantlab.bench import harness

    monkeypatch.setattr("quantlab.verbs.bench.bench", harness.bench)
    model = tiny_classifier(scene.folder / "one.onnx", batch=1)
    said = cli("bench", model, "--batch", 8, code=2)
    assert "its batch size is fixed at 1, it cannot run at 8" in said.err


def test_an_unknown_name_to_fetch(refused: Refused) -> None:
    assert "Did you mean mobilenetv2-12?" in refused("fetch", "mobilnetv2-12")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB. Where it may not be mounted, none."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount") if os.geteuid() == 0 else None
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if not done or done.returncode:
        yield Path()
        return
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


LINES = {
    "tune": ("--output", "{output}"),
    "quantize": ("--output", "{output}"),
    "evaluate": (),
    "compare": ("--no-bench",),
    "inspect": ("--runs-dir", "runs"),
    "bench": (),
}


def line(verb: str, scene: Any, output: Path) -> list[str]:
    """A whole command line of that verb."""
    models: dict[str, list[str]] = {
        "tune": ["--model", str(scene.model)],
        "quantize": ["--model", str(scene.model)],
        "compare": [str(scene.model)] * 2,
    }
    data = [] if verb in ("inspect", "bench") else list(scene.words)
    more = [word.format(output=output) for word in LINES[verb]]
    return [verb, *models.get(verb, [str(scene.model)]), *data, *more, "--quiet"]


CASES = [
    *((verb, "runs") for verb in LINES),
    ("tune", "output"),
    ("quantize", "output"),
    *((verb, "cache") for verb in ("tune", "quantize", "evaluate", "compare")),
    *((verb, "temporary") for verb in ("tune", "inspect")),
]


@pytest.mark.parametrize("already", [40, 64])
@pytest.mark.parametrize(("verb", "place"), CASES)
def test_a_full_disk(
    verb: str,
    place: str,
    already: int,
    small_disk: Path,
    cli: Any,
    scene: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``already``: how many KiB of the 64 are taken before. What is finished is whole."""
    if small_disk == Path():
        pytest.xfail("no tmpfs can be mounted here: see the tests of ENOSPC and of file sizes")
    places = {name: tmp_path / name for name in ("runs", "output", "cache", "temporary")}
    places[place] = small_disk
    for folder in places.values():
        folder.mkdir(exist_ok=True)
    (small_disk / "ballast").write_bytes(bytes(already << 10))
    monkeypatch.setenv("QUANTLAB_CACHE", str(places["cache"]))
    monkeypatch.setattr("tempfile.tempdir", str(places["temporary"]))
    before = scene.snapshot()
    output = places["output"] / "o.onnx"
    said = cli(*line(verb, scene, output), "--runs-dir", places["runs"], code=None)
    assert scene.snapshot() == before
    if said.code in (0, 3) and (already < 64 or place == "temporary"):
        return
    assert said.code == 2, said
    assert 1 <= len(said.complaint) <= 2, said.err
    assert "disk is full" in said.err or place == "temporary"
    assert said.out == ""
    left = {p.name for p in small_disk.rglob(".*") if p.is_file()}
    assert left <= {".lock"}
    if output.exists():
        onnx.load(output)


def full(*_: object, **__: object) -> None:
    """What every write answers on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("verb", list(LINES))
def test_enospc_anywhere(
    verb: str, cli: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", full)
    said = cli(*line(verb, scene, tmp_path / "o.onnx"), code=2)
    assert len(said.complaint) == 2
    assert "the disk is full." in said.complaint[0]


def short(*_: object, **__: object) -> None:
    """What an allocation answers where memory is short; numpy's own error is a kind of it."""
    raise MemoryError("std::bad_alloc")


@pytest.mark.parametrize("verb", list(LINES))
def test_memory_that_is_short(
    verb: str, cli: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.model.model.Model.load", short)
    said = cli(*line(verb, scene, tmp_path / "o.onnx"), code=2)
    assert len(said.complaint) == 2
    assert "not enough memory." in said.complaint[0]


def test_a_bound_on_file_sizes(scene: Any, tmp_path: Path) -> None:
    """The same where nothing can be mounted: no file may grow beyond 2 KiB."""
    command = [sys.executable, "-m", "quantlab", *line("quantize", scene, tmp_path / "o.onnx")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        # Python would leave what it compiles cut off, for all who import it later.
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot write" in done.stderr
    assert not (tmp_path / "o.onnx").exists()
