"""Where int8's answers hold: what compare, gate and tune say of it, and rules about it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from quantlab.compare.comparison import Where
from quantlab.runtime.environment import environment
from quantlab.testing import fake_bench

pytestmark = pytest.mark.usefixtures("no_plots")
RUNTIMES = ("--require", "runtime.agreement >= 50%", "--require", "runtime.kl <= 1, advisory")


@pytest.fixture
def files(cli: Any, scene: Any, tmp_path: Path) -> dict[str, Path]:
    """The scene's model, quantized by quantlab's default and by ONNX Runtime's engine."""
    found = {}
    for name, line in (("quantlab", "placement: widest"), ("ort", "engine: ort")):
        recipe, found[name] = tmp_path / f"{name}-recipe.yaml", tmp_path / f"{name}.onnx"
        recipe.write_text(f"{line}\ncalibration_size: 8\n")
        words = ("--recipe", recipe, "--output", found[name])
        cli("quantize", "--model", scene.model, *scene.words, *words)
    return found


def measured() -> str:
    here = environment()
    isa = "" if here["isa"] == "unknown" else f" on {here['isa'].upper()}"
    return f"Measured in onnxruntime {here['onnxruntime']}{isa}."


def where_of(said: Any) -> Where:
    return Where.model_validate(said.record.results["comparison"]["where"])


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("quantlab", "impossible", "the same answers on any x86 CPU: no 16-bit pair sum can "),
        ("ort", "saturates", "not the same without VNNI: agreement "),
        ("fp32", "not quantized", "the same answers but for the rounding of fp32: nothing is "),
    ],
)
def test_compare_says_it_on_its_second_line(
    cli: Any, scene: Any, files: dict[str, Path], name: str, state: str, words: str
) -> None:
    int8 = files.get(name, scene.model)
    said = cli("compare", scene.model, int8, *scene.words, "--no-bench", code=None)
    line = said.out.splitlines()[1]
    assert line.startswith(f"{measured()} Other CPUs: {words}")
    assert where_of(said).cpus.state == state
    page = (said.folder / "report.md").read_text()
    assert page.split("\n\n")[1] == line
    assert page.count("Other CPUs") == 1
    assert f"<p>{line}</p>" in (said.folder / "report.html").read_text()
    assert said.record.results["said_first"][-1] == line
    assert line in cli("runs", "show", said.folder).out


def test_gate_says_it_and_judges_it(cli: Any, scene: Any, files: dict[str, Path]) -> None:
    rules = ("--require", "portable", "--require", "top1.decline <= 99%, off")
    words = (*scene.words, *rules, "--comment", "c.md", "--force")
    good = cli("gate", scene.model, files["quantlab"], *words)
    assert good.out.splitlines()[1].startswith(f"{measured()} Other CPUs: the same answers")
    assert Path("c.md").read_text().split("\n\n")[1] == good.out.splitlines()[1]
    bad = cli("gate", scene.model, files["ort"], *words, "--annotations", code=1)
    assert bad.out.splitlines()[1].startswith(f"{measured()} Other CPUs: not the same")
    assert "::error title=ort%3A portable (required)::fail: Other CPUs: not the same" in bad.out
    assert "Quantize with portable: true, or set session.x64quantprecision" in bad.out
    (judged,) = bad.record.results["gate"]["judged"]
    assert judged["rule"]["text"] == "portable"
    assert judged["verdict"]["measured"] == where_of(bad).cpus.share > 0
    assert where_of(bad).other_runtime is None, "no rule asked for it"


def test_a_configuration_holds_a_rule_without_a_limit(
    cli: Any, scene: Any, files: dict[str, Path]
) -> None:
    text = {
        "model": str(scene.model),
        "output": str(files["ort"]),
        "eval_data": scene.words[1],
        "pipeline": scene.words[3],
        "gate": {"require": ["portable, advisory", "agreement >= 10%"]},
    }
    Path("quantlab.yaml").write_text(yaml.safe_dump(text))
    said = cli("gate")
    assert [j["verdict"]["status"] for j in said.record.results["gate"]["judged"]] == [
        "fail",
        "pass",
    ]
    text["gate"] = {"require": ["portabel"]}
    Path("quantlab.yaml").write_text(yaml.safe_dump(text))
    assert cli("gate", code=2).complaint[1] == "Did you mean 'portable'?"


@pytest.mark.parametrize(("own", "other"), [("onnxruntime", "openvino"), ("openvino",) * 2])
def test_rules_between_runtimes(
    cli: Any, scene: Any, files: dict[str, Path], own: str, other: str
) -> None:
    other = "onnxruntime" if own == other else other
    words = (*scene.words, "--runtime", own, *RUNTIMES, "--require", "portable")
    said = cli("gate", scene.model, files["quantlab"], *words)
    where = where_of(said)
    assert where.runtime == own
    assert where.other_runtime is not None
    assert where.other_runtime.runtime == other
    assert where.other_runtime.version == environment()[other]
    share = where.other_runtime.fidelity.agreement
    assert share.n == 40
    assert (
        f"In {other} {environment()[other]}: the same first answer on {share.count} of 40"
        in (said.out.splitlines()[1])
    )
    first, second, third = said.record.results["gate"]["judged"]
    assert first["verdict"]["measured"] == pytest.approx(1 - share.value)
    assert f"Beside {own} the file ran in {other}." in first["verdict"]["reason"]
    assert second["verdict"]["status"] == "inconclusive", "forty images are too few for a KL"
    assert third["verdict"]["status"] == "pass"


def test_a_missing_extra_is_told_before_anything_is_evaluated(
    cli: Any, scene: Any, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluated(*_: object, **__: object) -> None:
        raise AssertionError("nothing is evaluated")

    monkeypatch.setitem(sys.modules, "openvino", None)
    for verb in ("compare", "gate"):
        monkeypatch.setattr(f"quantlab.verbs.{verb}.crops_and_answers", evaluated)
    said = cli("gate", scene.model, files["ort"], *scene.words, *RUNTIMES, code=2)
    assert "the rule runtime.agreement needs the package openvino" in said.complaint[0]
    assert said.complaint[1] == "Install it with: pip install 'quantlab[openvino]'"
    off = ("--require", "runtime.kl <= 1, off", "--require", "kl <= 100")
    with pytest.raises(AssertionError, match="nothing is evaluated"):
        cli("gate", scene.model, files["ort"], *scene.words, *off)


@pytest.mark.parametrize("answers", [True, False])
def test_a_baseline_is_as_good_as_fp32_for_them(
    cli: Any, scene: Any, files: dict[str, Path], answers: bool
) -> None:
    cli("baseline", "update", files["ort"], *scene.words)
    if not answers:
        Path("quantlab-baseline.npz").unlink()
    words = ("--baseline", "quantlab-baseline.yaml", *scene.words, *RUNTIMES)
    said = cli("gate", files["quantlab"], *words, "--require", "portable")
    assert said.out.splitlines()[1].startswith(f"{measured()} In openvino ")
    statuses = [j["verdict"]["status"] for j in said.record.results["gate"]["judged"]]
    assert statuses == ["pass", "inconclusive", "pass"]
    if not answers:
        assert Where.model_validate(said.record.results["where"]).cpus.state == "impossible"
    broken = cli("gate", files["ort"], *words, "--require", "portable", code=1)
    assert broken.record.results["gate"]["judged"][2]["verdict"]["status"] == "fail"


def test_tune_says_it_below_the_verdict(
    cli: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.verbs.bench.bench", fake_bench)
    own = scene.labelled_by_itself("own")
    words = ("--eval-data", own, "--max-decline", "50%", "--max-trials", "1", "--output", "o.onnx")
    said = cli("tune", "--model", scene.model, *scene.words, *words)
    lines = said.out.splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith(measured()))
    assert lines[at - 1].startswith("PASS: ")
    assert "Other CPUs: the same answers on any x86 CPU" in lines[at]
    assert where_of(said).cpus.state == "impossible"
    report = (said.folder / "report.md").read_text().split("\n\n")
    assert report[report.index(lines[at]) - 1].startswith("# PASS: ")
