"""Every command of the README and the docs runs as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).parent / "serve"))
from processes import started

import quantlab
from quantlab import QuantlabWarning
from quantlab.bench import instances, load
from quantlab.bench.harness import bench
from quantlab.bench.instances import throughput
from quantlab.bench.load import offered_load
from quantlab.cli import main
from quantlab.fetch import PROJECTS, catalog
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner
from quantlab.testing import fake_bench
from quantlab.testing.formats import lmdb_folder, raw_datum, record_file
from quantlab.testing.images import image_folder, listed_folder
from quantlab.testing.models import taught, tiny_classifier
from quantlab.verbs import bench as bench_verb

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
CLASSES = 4
INC_YAML = """
model: {name: mobilenetv2, framework: onnxrt_qdqops}
quantization: {approach: post_training_static_quant, calibration: {sampling_size: 8}}
tuning: {accuracy_criterion: {relative: 0.5}, exit_policy: {timeout: 0}}
"""
MINDCV_YAML = "image_resize: 224\ncrop_pct: 0.875\nckpt_path: ''\nlr: 0.3\n"


TIMED: dict[str, dict[str, Any]] = {"README.md": {}, "bench.md": {"isolation": "shared"}}
"""The pages whose commands time models for real, and by which options."""
GOING_ON = {"serve": "Serving http", "worker": "Working as"}
"""Commands that do not end by themselves, and what they say."""


def blocks(page: Path, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """The quantlab command lines of a page's blocks, continued lines joined."""
    lines = "\n".join(blocks(page)).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("quantlab ")]


def start_and_end(arguments: list[str]) -> None:
    """A command that goes on until it is told to end: it says that it works, and ends well."""
    free = ["--port", "0"] if arguments[0] == "serve" else []
    with started(*arguments, *free) as running:
        running.until(GOING_ON[arguments[0]])
        assert running.end() == 0, running.said


@pytest.fixture(scope="session")
def made_scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands name, in small."""
    folder = tmp_path_factory.mktemp("scene")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("QUANTLAB_CACHE", str(folder / "cache"))
        make_scene(folder)
    return folder


@pytest.fixture
def scene(made_scene: Path, tmp_path: Path) -> Path:
    """A copy of it in the test's own folder."""
    shutil.copytree(made_scene, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path


def make_scene(folder: Path) -> None:
    for name in ("train", "val", "data/imagenet/calib1000", "data/imagenet/val1300"):
        image_folder(folder / name, CLASSES, 3, seed=len(name))
    for image in (folder / "val").rglob("*.png"):
        result = folder / "results" / image.relative_to(folder / "val").with_suffix(".bin")
        result.parent.mkdir(parents=True, exist_ok=True)
        np.arange(CLASSES, dtype="<f4").tofile(result)
    models = folder / "data" / "models"
    models.mkdir()
    for path in (folder / "mobilenetv2-12.onnx", models / "mobilenetv2-12.onnx"):
        taught(tiny_classifier(path, classes=CLASSES), folder / "train", "torchvision")
    (folder / "mobilenetv2.yaml").write_text(INC_YAML)
    (folder / "mobilenet_v2_0.75_ascend.yaml").write_text(MINDCV_YAML)
    recipes = [b for b in blocks(ROOT / "docs" / "tune.md", "yaml") if b.startswith("name: mine")]
    (folder / "mine.yaml").write_text(recipes[0])
    gates = [b for b in blocks(ROOT / "docs" / "gate.md", "yaml") if "require:" in b]
    (folder / "gate.yaml").write_text(gates[0])
    (folder / "server.yaml").write_text("home: server\n")
    made = [
        ["quantize", "--model", "mobilenetv2-12.onnx", "--data", "train", "--output", str(output)]
        for output in ("mobilenetv2-12.int8.onnx", models / "mobilenetv2-12-int8.onnx")
    ]
    for arguments in made:
        assert CliRunner().invoke(main, arguments).exit_code == 0


def other_formats(folder: Path) -> None:
    """What the pages of ``docs/recipes`` name besides."""
    tiny_classifier(folder / "mobilenetv2-7.onnx", classes=CLASSES, opset=7)
    image_folder(folder / "imagenet" / "val", CLASSES, 3)
    listed_folder(folder / "listed", list(range(CLASSES)))
    record_file(folder / "val.rec", range(CLASSES))
    lmdb_folder(folder / "val-lmdb", [raw_datum(i) for i in range(CLASSES)])
    stored = folder / "test_data_set_0"
    stored.mkdir()
    model = Model.load(folder / "mobilenetv2-12.onnx")
    image = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    with Runner(model, threads=1) as runner:
        arrays = {"input_0": image, "output_0": runner(image)}
    for name, array in arrays.items():
        (stored / f"{name}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
@pytest.mark.usefixtures("scene")
def test_commands(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def brief(function: Any, **fewer: Any) -> Any:
        fewer |= {"rounds": 2, "seconds": 0.05}
        return lambda *args, **options: function(*args, **{**options, **fewer})

    timed = brief(bench, **TIMED[page.name]) if page.name in TIMED else brief(fake_bench)
    monkeypatch.setattr("quantlab.verbs.bench.bench", timed)
    for function in (throughput, offered_load):
        monkeypatch.setattr(f"quantlab.verbs.bench.{function.__name__}", brief(function))
    monkeypatch.setattr(instances, "LEAST_SECONDS", 0.01)
    monkeypatch.setattr(load, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(load, "LEAST_REQUESTS", 1)
    monkeypatch.setenv("QUANTLAB_DATA", str(tmp_path / "data"))
    if page.parent.name == "recipes":
        other_formats(tmp_path)
    for words in commands(page):
        arguments = [word.replace("$QUANTLAB_DATA", str(tmp_path / "data")) for word in words]
        if arguments[0] in GOING_ON:
            start_and_end(arguments)
            continue
        if arguments == ["tune"]:
            config = tmp_path / "quantlab.yaml"
            text = config.read_text()
            config.write_text(
                re.sub(r"^#? ?model:.*$", "model: mobilenetv2-12.onnx", text, flags=re.M)
            )
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code in (0, 1, 3), f"{words}: {result.output}"
        assert result.exception is None or isinstance(result.exception, SystemExit)


def test_pages_with_commands_are_found() -> None:
    found = {str(p.relative_to(ROOT)) for p in PAGES if commands(p)}
    assert {"README.md", "docs/tune.md"} <= found
    assert {f"docs/recipes/{project}.md" for project in PROJECTS} <= found


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)$", (ROOT / "README.md").read_text(), re.M)
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("project", PROJECTS)
def test_a_projects_page_names_its_recipes_and_their_figures(project: str) -> None:
    text = (ROOT / "docs" / "recipes" / f"{project}.md").read_text()
    for entry in catalog().values():
        if entry.project == project:
            names = (entry.name, entry.name.removeprefix("mobilenetv2-12"))
            assert any(f"`{name}`" in text for name in names), entry.name
            shown = [entry.published.top1, entry.published.top5] if entry.published else []
            assert all(f"{x:.6g}" in text for x in shown if x is not None), entry.name


@pytest.mark.usefixtures("scene")
def test_the_librarys_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks are one session, in order."""
    brief = {"rounds": 2, "seconds": 0.05}
    monkeypatch.setattr(bench_verb, "bench", lambda *args, **o: bench(*args, **{**o, **brief}))
    there: dict[str, Any] = {}
    page = ROOT / "docs" / "library.md"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantlabWarning)  # no pipeline is known for tiny models
        for block in blocks(page, "python"):
            exec(block, there)
    assert (tmp_path / "mobilenetv2-12.int8.onnx").is_file()
    assert (tmp_path / "report.html").is_file()
    assert set(quantlab._FUNCTIONS) == set(re.findall(r"^\| `(\w+)` \|", page.read_text(), re.M))


@pytest.mark.filterwarnings("default")
def test_the_torch_export_of_the_docs(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: its export was not run")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: torch needs it")
    (block,) = blocks(ROOT / "docs" / "recipes" / "npu-zoo.md", "python")
    there: dict[str, Any] = {}
    exec(block, there)
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    there["export"](net, str(tmp_path / "net.onnx"), 32)
    model = Model.load(tmp_path / "net.onnx").check_classifier()
    assert (model.input.height, model.input.batch, model.num_classes) == (32, None, 10)
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    with Runner(model, threads=1) as runner, torch.no_grad():
        assert np.allclose(runner(images), net(torch.from_numpy(images)).numpy(), atol=1e-5)
