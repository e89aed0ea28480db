"""quantlab gate and quantlab baseline, end to end on tiny models: verdicts, outputs, failures."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import yaml
from markdown_it import MarkdownIt

from quantlab.data.readers import open_dataset
from quantlab.gate.baseline import load_baseline
from quantlab.report.gate import marker
from quantlab.testing import blind_model, image_folder, listed_folder, tiny_classifier

pytestmark = pytest.mark.usefixtures("no_timing", "no_plots")
LOOSE = ("--require", "top1.decline <= 20%")


@pytest.fixture(autouse=True)
def _no_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def data(scene: Any) -> tuple[str, ...]:
    """Sixty images that fp32 is always right about, and the pipeline."""
    scene.untaught()
    return ("--data", str(scene.labelled_by_itself("own")), "--pipeline", str(scene.pipeline))


@pytest.fixture
def same(scene: Any) -> Path:
    """Another file of fp32's own graph."""
    proto = onnx.load(scene.model)
    proto.producer_name = "another"
    onnx.save(proto, scene.folder / "same.onnx")
    return Path(scene.folder / "same.onnx")


@pytest.fixture
def blind(scene: Any, data: tuple[str, ...]) -> Path:
    """An int8 file that never gives fp32's most frequent answer."""
    labels = open_dataset(Path(data[1])).labels
    assert labels is not None
    often = int(np.bincount(labels).argmax())
    return blind_model(scene.model, scene.folder / "blind.onnx", [often])


def test_a_model_passes_against_itself(cli: Any, scene: Any, data: Any, same: Path) -> None:
    said = cli("gate", scene.model, same, *data, *LOOSE, "--require", "kl <= 0.001")
    assert said.out.startswith("PASS: same against tiny on 60 images")
    assert "0 nats" in said.out
    assert said.record.results["gate"]["status"] == "pass"
    assert {"gate", "report", "int8_predictions"} <= set(said.record.artifacts)
    assert "measurements" not in said.record.artifacts  # no rule asked for latency


def test_a_broken_model_fails_and_its_class_is_named(
    cli: Any, scene: Any, data: Any, blind: Path
) -> None:
    rules = ("--require", "top1.decline <= 1%", "--require", "class.decline <= 10pp")
    said = cli("gate", scene.model, blind, *data, *rules, "--annotations", code=1)
    assert said.out.startswith("FAIL: blind against tiny")
    decision = said.record.results["gate"]
    assert [j["verdict"]["status"] for j in decision["judged"]] == ["fail", "fail"]
    (fallen,) = decision["judged"][1]["verdict"]["classes"]
    assert fallen["int8_right"] == 0
    assert fallen["lost"] == fallen["n"]
    errors = [line for line in said.out.splitlines() if line.startswith("::error title=blind%3A ")]
    assert len(errors) == 2
    assert f"{fallen['index']} ({fallen['n']} lost" in errors[1]


def test_the_report_of_several_rules_says_that_it_judges_one(
    cli: Any, scene: Any, data: Any, blind: Path
) -> None:
    alone = "This page judges the top-1 decline alone; gate.md has the gate's decision."
    one = cli("gate", scene.model, blind, *data, code=1)
    assert alone not in (one.folder / "report.md").read_text()
    several = cli("gate", scene.model, blind, *data, *LOOSE, "--require", "size <= 1B", code=None)
    assert alone in (several.folder / "report.md").read_text().replace("\n", " ")


def test_few_images_are_inconclusive_with_the_number_needed(
    cli: Any, scene: Any, data: Any
) -> None:
    said = cli("gate", scene.model, scene.near(), *data, "--annotations", code=3)
    assert said.out.startswith("INCONCLUSIVE: near against tiny")
    assert "images would decide it" in said.out
    assert "::warning title=near%3A top1.decline <= 1%25 (required)::inconclusive: " in said.out
    assert "::error" not in said.out


def test_latency_is_measured_where_a_rule_asks(cli: Any, scene: Any, data: Any, same: Path) -> None:
    slow = ("--require", "latency.p50.ratio <= 0.4")
    said = cli("gate", scene.model, same, *data, *LOOSE, *slow, "--annotations")
    assert "measurements" in said.record.artifacts
    assert said.record.results["gate"]["judged"][1]["verdict"]["status"] == "fail"
    assert "::warning title=same%3A latency.p50.ratio <= 0.4 (advisory)::fail: " in said.out
    said = cli("gate", scene.model, same, *data, "--require", f"{slow[1]}, required", code=1)
    assert said.out.startswith("FAIL")


def test_the_outputs(cli: Any, scene: Any, data: Any, blind: Path, tmp_path: Path) -> None:
    (tmp_path / "summary.md").write_text("before\n")
    files = {
        "--junit": "j/gate.xml",
        "--comment": "c.md",
        "--benchmark-json": "b.json",
        "--summary": "summary.md",
    }
    rules = (
        *("--require", "top1.decline <= 1%", "--require", "class.decline <= 10pp"),
        *("--require", "size <= 1MB", "--require", "kl <= 0.001, advisory"),
        *("--require", "agreement >= 99%, off"),
    )
    words = [word for pair in files.items() for word in pair]
    cli("gate", scene.model, blind, *data, *rules, *words, code=1)

    suite = ElementTree.parse("j/gate.xml").getroot().find("testsuite")
    assert suite is not None
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    assert len(cases) == 5  # four rules and a class
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5",
        "failures": "3",
        "errors": "0",
        "skipped": "1",
    }
    assert cases["size <= 1MB"].find("failure") is None
    assert "advisory, fail" in str(cases["kl <= 0.001"][0].get("message"))
    (fallen,) = [
        c for c in suite.findall("testcase") if c.get("classname") == "quantlab.gate.verdict.class"
    ]
    assert "lost, 0 gained" in str(fallen[0].get("message"))

    comment = Path("c.md").read_text()
    assert comment.startswith("# FAIL: blind against tiny on 60 images\n")
    assert comment.endswith("\n<!-- quantlab gate: blind -->\n")
    assert "`quantlab gate " in comment
    html = MarkdownIt("commonmark").enable("table").render(comment)
    assert html.count("<tr>") == 1 + 4
    assert max(len(x) for x in comment.splitlines() if x.startswith("|")) < 100
    assert Path("summary.md").read_text() == f"before\n{comment}"

    figures = {entry["name"]: entry for entry in json.loads(Path("b.json").read_text())}
    assert figures["blind top1.decline"]["unit"] == "%"
    assert figures["blind top1.decline"]["value"] > 1
    assert figures["blind classes that fall by more than 10 points"]["value"] == 1
    assert figures["blind size"]["value"] == blind.stat().st_size


def test_the_step_summary_is_githubs(
    cli: Any, scene: Any, data: Any, same: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    said = cli("gate", scene.model, same, *data, *LOOSE)
    assert (tmp_path / "step.md").read_text().startswith("# PASS: ")
    assert "--summary" not in " ".join(said.repeat)


def test_a_configuration_names_everything(
    cli: Any, scene: Any, data: Any, same: Path, tmp_path: Path
) -> None:
    text = {
        "model": str(scene.model),
        "output": str(same),
        "eval_data": data[1],
        "pipeline": data[3],
        "gate": {"require": ["top1.decline <= 20%", "kl <= 0.01"]},
    }
    (tmp_path / "quantlab.yaml").write_text(yaml.safe_dump(text))
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**text, "gate": {"require": ["kl <= 1"]}}))
    assert len(cli("gate").record.results["gate"]["judged"]) == 2
    assert len(cli("gate", "other.yaml").record.results["gate"]["judged"]) == 1
    assert len(cli("gate", "--config", "other.yaml").record.results["gate"]["judged"]) == 1
    flags = cli("gate", scene.model, same, "--require", "kl <= 2").record.results["gate"]
    assert [j["rule"]["text"] for j in flags["judged"]] == ["kl <= 2"]
    (tmp_path / "quantlab.yaml").write_text("gate: {require: [top1.declin > 1%]}")
    said = cli("gate", scene.model, same, code=2)
    assert said.complaint[1].startswith("Did you mean top1.decline")
    (tmp_path / "quantlab.yaml").write_text("gate: {requires: [kl <= 1]}")
    assert "Did you mean require?" in cli("gate", scene.model, same, code=2).err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "does not know which models"),
        (("a.onnx",), "nothing to be compared with"),
        (("a.onnx", "b.onnx", "c.onnx"), "Give FP32 and INT8"),
        (("a.onnx", "b.onnx", "--baseline", "x.yaml"), "in the place of FP32"),
        (("a.yaml", "--config", "b.yaml"), "not both"),
        (("a.onnx", "b.onnx", "--require", "top1 > 1%"), "there is no metric top1"),
        (("nowhere.yaml",), "no such file"),
    ],
)
def test_usage_errors(cli: Any, words: tuple[str, ...], problem: str) -> None:
    assert problem in cli("gate", *words, code=2).err


def test_what_cannot_be_judged_is_told_everywhere(cli: Any, scene: Any, data: Any) -> None:
    """A comment of an earlier run must not stand there as if it were of this one."""
    words = ("--comment", "c.md", "--junit", "j.xml", "--annotations")
    Path("c.md").write_text(f"# PASS: as it was\n{marker('gone')}\n")
    said = cli("gate", scene.model, "gone.onnx", *data, *words, code=2)
    assert said.out.startswith("::error title=quantlab gate::")
    assert Path("c.md").read_text().startswith("# ERROR: the gate on gone could not judge")
    case = ElementTree.parse("j.xml").getroot().find("testsuite/testcase/error")
    assert case is not None
    assert "gone.onnx" in str(case.get("message"))


def test_another_devices_answers(cli: Any, scene: Any, data: Any) -> None:
    folder = scene.folder / "results"
    folder.mkdir()
    dataset = open_dataset(Path(data[1]))
    assert dataset.labels is not None
    for name, label in zip(dataset.names, dataset.labels.tolist(), strict=True):
        np.eye(10, dtype="<f4")[label].tofile(folder / f"{Path(name).stem}.bin")
    said = cli("gate", scene.model, folder, *data, *LOOSE, "--require", "size <= 1MB, advisory")
    assert said.record.results["gate"]["judged"][1]["verdict"]["status"] == "inconclusive"


# --- baselines ---


@pytest.fixture
def accepted(cli: Any, scene: Any, data: Any) -> Path:
    """The baseline of fp32 on these images."""
    said = cli("baseline", "update", scene.model, *data)
    assert "review and commit it" in said.out
    return Path("quantlab-baseline.yaml")


Gate = Callable[..., Any]


@pytest.fixture
def gate(cli: Any, accepted: Path, data: Any) -> Gate:
    """``gate(model, ...)`` against the baseline."""

    def run(model: Path, *words: object, code: int = 0) -> Any:
        return cli("gate", model, "--baseline", accepted, *data, *LOOSE, *words, code=code)

    return run


def test_a_baseline_is_small_and_says_all(accepted: Path, scene: Any, cli: Any) -> None:
    found = yaml.safe_load(accepted.read_text())
    assert accepted.stat().st_size < 2000
    assert found["metrics"]["top1"]["right"] == found["data"]["images"] == 60
    assert found["metrics"]["top1"]["low"] < 1
    assert found["model"]["name"] == "tiny"
    assert found["pipeline"]["resize"] == 36
    assert {"isa", "versions", "predictions"} <= set(found)
    assert str(scene.folder) not in str(found)
    shown = cli("baseline", "show").out
    assert "100.00% (93.98% to 100.00%)" in shown
    assert "quantlab-baseline.npz" in shown


def test_the_gate_pairs_with_the_baselines_answers(gate: Gate, same: Path, blind: Path) -> None:
    said = gate(same, "--require", "agreement >= 90%")
    assert said.out.startswith("PASS: same against the baseline tiny on 60 images")
    assert said.record.results["gate"]["judged"][1]["verdict"]["measured"] == 0
    lost = gate(blind, code=1).record.results["gate"]["judged"][0]["verdict"]
    assert "lost, 0 gained" in lost["reason"]


def test_without_the_answers_intervals_are_compared(
    gate: Gate, same: Path, blind: Path, accepted: Path
) -> None:
    accepted.with_suffix(".npz").unlink()
    said = gate(same, "--require", "agreement >= 90%, advisory", "--require", "size <= 1MB")
    assert any("compared by their intervals" in line for line in said.warnings)
    first, second, third = said.record.results["gate"]["judged"]
    assert "not paired" in first["verdict"]["reason"]
    assert (second["verdict"]["status"], third["verdict"]["status"]) == ("inconclusive", "pass")
    assert gate(blind, code=1).out.startswith("FAIL")
    assert "Put the baseline's answers" in gate(same, "--require", "top1.decline <= 1%", code=3).out


def test_the_gate_does_not_touch_the_baseline(gate: Gate, same: Path, accepted: Path) -> None:
    before = [accepted.read_bytes(), accepted.with_suffix(".npz").read_bytes()]
    gate(same)
    assert [accepted.read_bytes(), accepted.with_suffix(".npz").read_bytes()] == before


def test_update_and_diff_say_what_changed(
    cli: Any, scene: Any, data: Any, accepted: Path, blind: Path
) -> None:
    shutil.copy(accepted, "old.yaml")
    whole = accepted.read_bytes()
    again = cli("baseline", "update", scene.model, *data)
    assert "| key " not in again.out
    assert accepted.read_bytes() == whole
    shutil.copy(accepted, "new.yaml")
    said = cli("baseline", "update", blind, *data, "--baseline", "new.yaml")
    assert "| metrics.top1.right " in said.out
    changes = cli("baseline", "diff", "old.yaml", "new.yaml")
    assert "metrics.top1.right" in changes.out
    assert "Image by image: the same first answer on" in changes.out
    assert "Top-1: " in changes.out
    assert cli("baseline", "diff", "new.yaml", "new.yaml").out.startswith("Nothing differs.")


def test_a_missing_baseline(gate: Gate, same: Path, accepted: Path) -> None:
    accepted.unlink()
    said = gate(same, code=2)
    assert "there is no such baseline" in said.complaint[0]
    assert "quantlab baseline update MODEL" in said.complaint[1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "- a list",
        lambda text: text.replace("right: 60", "right: 6"),
        lambda text: text.replace("schema_version: 1", "schema_version: 2"),
        lambda text: text.replace("isa:", "iso:"),
        lambda text: text.replace("file: quantlab-baseline.npz", "file: ../elsewhere.npz"),
        lambda text: text + "more: &a [1]\nyet: *a\n",
        lambda text: "\x00" * 9,
        lambda text: "x: " + "y" * 2_000_000,
    ],
)
def test_a_corrupt_baseline(
    gate: Gate, same: Path, accepted: Path, spoil: Callable[[str], str]
) -> None:
    accepted.write_text(spoil(accepted.read_text()))
    said = gate(same, code=2)
    assert 1 <= len(said.complaint) <= 2
    assert "baseline" in said.complaint[0]


def test_corrupt_answers(gate: Gate, same: Path, accepted: Path) -> None:
    answers = accepted.with_suffix(".npz")
    answers.write_bytes(answers.read_bytes()[:-10])
    assert "its sha256 differs" in gate(same, code=2).complaint[0]


def test_a_corrupt_baseline_can_be_replaced(
    cli: Any, scene: Any, data: Any, accepted: Path
) -> None:
    whole = load_baseline(accepted)
    accepted.write_text("nothing")
    said = cli("baseline", "update", scene.model, *data, code=2)
    assert "it is there already" in said.complaint[0]
    assert accepted.read_text() == "nothing"
    said = cli("baseline", "update", scene.model, *data, "--force")
    assert any("It is replaced" in line for line in said.warnings)
    assert load_baseline(accepted) == whole


def test_other_images(cli: Any, scene: Any, accepted: Path, same: Path) -> None:
    other = scene.labelled_by_itself("other", seed=9)
    words = ("--data", other, "--pipeline", scene.pipeline)
    said = cli("gate", same, "--baseline", accepted, *words, code=2)
    assert "was made on other images: 60 of digest" in said.complaint[0]


def test_other_labels_are_other_data(gate: Gate, data: Any, same: Path) -> None:
    labels = Path(data[1]) / "val.txt"
    first, rest = labels.read_text().split("\n", 1)
    name, label = first.split()
    labels.write_text(f"{name} {(int(label) + 1) % 10}\n{rest}")
    assert "other images" in gate(same, code=2).complaint[0]


def test_fewer_images_than_the_baseline(gate: Gate, data: Any, same: Path) -> None:
    labels = Path(data[1]) / "val.txt"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:40]))
    assert "here are 40 of digest" in gate(same, code=2).complaint[0]


def test_another_pipeline(cli: Any, scene: Any, data: Any, accepted: Path, same: Path) -> None:
    other = scene.folder / "other.yaml"
    other.write_text(scene.pipeline.read_text().replace("resize: 36", "resize: 40"))
    words = ("--baseline", accepted, "--data", data[1], "--pipeline", other)
    said = cli("gate", same, *words, code=2)
    assert "another preprocessing: resize 36 there and 40 here" in said.complaint[0]


def test_without_a_named_pipeline_the_baselines_own_holds(
    cli: Any, data: Any, accepted: Path, same: Path
) -> None:
    cli("gate", same, "--baseline", accepted, "--data", data[1], *LOOSE)


def test_unlabelled_images(cli: Any, scene: Any) -> None:
    near = scene.near()
    images = listed_folder(scene.folder / "bare", [0] * 60)
    (images / "val.txt").unlink()
    words = ("--data", images, "--pipeline", scene.pipeline)
    said = cli("gate", scene.model, near, *words, code=3)
    assert "no labels" in said.out
    cli("gate", scene.model, near, *words, "--require", "agreement >= 90%")
    cli("baseline", "update", scene.model, *words)
    against = (near, "--baseline", "quantlab-baseline.yaml", *words)
    cli("gate", *against, "--require", "agreement >= 90%")
    assert "no labels" in cli("gate", *against, code=3).out
    Path("quantlab-baseline.npz").unlink()
    assert "cannot be judged" in cli("gate", *against, code=3).out


def test_another_kind_of_cpu(gate: Gate, same: Path, accepted: Path) -> None:
    here = yaml.safe_load(accepted.read_text())["isa"]
    accepted.write_text(accepted.read_text().replace(f"isa: {here}", "isa: z80"))
    said = gate(same, "--annotations", "--comment", "c.md", code=4)
    assert f"made with z80 instructions, this CPU has {here}" in said.complaint[0]
    assert "--allow-isa-change" in said.complaint[1]
    assert said.out.startswith("::error title=quantlab gate::")
    assert "z80" in Path("c.md").read_text()
    allowed = gate(same, "--allow-isa-change", "--comment", "c.md")
    assert any("z80" in line for line in allowed.warnings)
    assert "z80" in Path("c.md").read_text()


def test_other_versions_are_named(gate: Gate, same: Path, accepted: Path) -> None:
    found = yaml.safe_load(accepted.read_text())
    found["versions"]["onnxruntime"] = "0.1"
    accepted.write_text(yaml.safe_dump(found))
    assert any("onnxruntime 0.1 there" in line for line in gate(same).warnings)


def test_a_latency_rule_needs_both_models(gate: Gate, same: Path) -> None:
    said = gate(same, "--require", "latency.p50.ratio <= 1.05")
    assert "No latency was measured" in said.out


def test_answers_too_large_for_a_repository(
    cli: Any, scene: Any, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.verbs.baseline.MOST_STORED", 100)
    said = cli("baseline", "update", scene.model, *data)
    assert any("are not kept" in line for line in said.warnings)
    assert not Path("quantlab-baseline.npz").exists()
    assert "compare by intervals" in cli("baseline", "show").out


def test_an_interrupted_gate_leaves_its_outputs_alone(
    cli: Any, scene: Any, data: Any, same: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = f"before\n{marker('same')}\n"
    Path("c.md").write_text(before)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quantlab.verbs.compare.predict", stop)
    words = ("--comment", "c.md", "--junit", "j.xml")
    said = cli("gate", scene.model, same, *data, *words, code=130)
    assert "Interrupted." in said.err
    assert Path("c.md").read_text() == before
    assert not Path("j.xml").exists()
    (record,) = [json.loads(p.read_text()) for p in Path("runs").glob("*-gate-*/run.json")]
    assert record["status"] == "interrupted"


def test_an_interrupted_update_leaves_the_baseline(
    cli: Any, scene: Any, data: Any, accepted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = accepted.read_bytes()

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quantlab.verbs.baseline.crops_and_answers", stop)
    cli("baseline", "update", scene.model, *data, code=130)
    assert accepted.read_bytes() == before


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """``read_only(folder)``: as on a file system that is mounted so, also for root."""
    opened, made = os.open, os.mkdir

    def protect(folder: Path) -> None:
        def inside(path: object) -> bool:
            whole = Path(os.path.abspath(os.fspath(path)))  # type: ignore[call-overload]  # noqa: PTH100
            return folder in (whole, *whole.parents)

        def open_(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and inside(path):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return opened(path, flags, *more, **named)

        def mkdir(path: Any, *more: Any, **named: Any) -> None:
            if inside(path) and not Path(path).exists():
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            made(path, *more, **named)

        monkeypatch.setattr(os, "open", open_)
        monkeypatch.setattr(os, "mkdir", mkdir)

    return protect


def test_a_read_only_checkout(
    cli: Any,
    data: Any,
    same: Path,
    accepted: Path,
    tmp_path: Path,
    read_only: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for file in (accepted, accepted.with_suffix(".npz")):
        shutil.copy(file, checkout)
    monkeypatch.chdir(checkout)
    read_only(checkout)
    words = ("gate", same, "--baseline", accepted, *data, *LOOSE)
    said = cli(*words, code=2)
    assert "read-only file system" in said.complaint[0]
    elsewhere = ("--runs-dir", tmp_path / "runs")
    cli(*words, *elsewhere, "--comment", tmp_path / "c.md")
    assert (tmp_path / "c.md").is_file()
    refused = cli(*words, *elsewhere, "--junit", "j.xml", code=2)
    assert "cannot write j.xml: read-only file system" in refused.complaint[0]
    update = cli("baseline", "update", same, *data, *elsewhere, code=2)
    assert "cannot write quantlab-baseline.yaml" in update.complaint[0]


def test_a_config_can_name_a_baseline(
    cli: Any, data: Any, accepted: Path, same: Path, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    for file in (accepted, accepted.with_suffix(".npz")):
        shutil.copy(file, tmp_path / "deep")
    text = {
        "output": str(same),
        "eval_data": data[1],
        "gate": {"require": ["kl <= 1"], "baseline": accepted.name},
    }
    config = tmp_path / "deep" / "gate.yaml"
    config.write_text(yaml.safe_dump(text))
    said = cli("gate", config)
    assert said.out.startswith("PASS: same against the baseline tiny")


def test_the_models_are_not_the_same_kind(cli: Any, scene: Any, data: Any, accepted: Path) -> None:
    fewer = tiny_classifier(scene.folder / "fewer.onnx", classes=4)
    image_folder(scene.folder / "four", 4)
    said = cli("gate", fewer, "--baseline", accepted, *data, code=2)
    assert 1 <= len(said.complaint) <= 2
