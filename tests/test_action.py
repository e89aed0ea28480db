"""action.yml and ci/gitlab.yml: their shell steps, run with the variables that the services set."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from quantlab.testing import blind_model, listed_folder, near_model, tiny_classifier

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
GITLAB: dict[str, Any] = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
PIPELINE = "{name: tiny, resizer: pillow-bilinear, resize: 36, crop: 32, mean: [127, 127, 127], "
PIPELINE += "std: [64, 64, 64]}\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with models and images that have no labels."""
    root = tmp_path / "repo"
    root.mkdir()
    tiny_classifier(root / "fp32.onnx")
    (root / "int8.onnx").write_bytes((root / "fp32.onnx").read_bytes())
    blind_model(root / "fp32.onnx", root / "broken.onnx", range(5))
    (root / "p.yaml").write_text(PIPELINE)
    near_model(root / "fp32.onnx", root / "near.onnx")
    (listed_folder(root / "val", [0] * 60) / "val.txt").unlink()
    return root


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """What a runner sets, with quantlab installed where the install step puts it."""
    temp = tmp_path / "temp"
    binaries = temp / "quantlab" / "bin"
    binaries.mkdir(parents=True)
    tool = binaries / "quantlab"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m quantlab "$@"\n')
    tool.chmod(0o755)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTION_PATH": str(ROOT),
        "GITHUB_REPOSITORY": "someone/models",
        "GITHUB_OUTPUT": str(temp / "output"),
        "GITHUB_STEP_SUMMARY": str(temp / "summary.md"),
        "RUNNER_TEMP": str(temp),
    }


def environment(
    step: dict[str, Any], given: dict[str, str], event: dict[str, str]
) -> dict[str, str]:
    """A step's variables, its expressions replaced as GitHub does."""
    inputs = {name: str(part.get("default", "")) for name, part in ACTION["inputs"].items()}
    assert set(given) <= set(inputs)
    values = {f"inputs.{name}": value for name, value in (inputs | given).items()} | event

    def filled(text: str) -> str:
        return re.sub(r"\$\{\{\s*(.*?)\s*\}\}", lambda m: values[m[1]], text)

    return {name: filled(text) for name, text in step.get("env", {}).items()}


def run_step(
    name: str,
    cwd: Path,
    runner: dict[str, str],
    event: dict[str, str] | None = None,
    **given: str,
) -> subprocess.CompletedProcess[str]:
    step = STEPS[name]
    assert step["shell"] == "bash"
    named = {key.replace("_", "-"): value for key, value in given.items()}
    variables = {**runner, **environment(step, named, event or {})}
    script = cwd.parent / f"{name}.sh"
    script.write_text(step["run"])
    line = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
    return subprocess.run(line, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def outputs(runner: dict[str, str]) -> dict[str, str]:
    lines = Path(runner["GITHUB_OUTPUT"]).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


BOTH = {"fp32": "fp32.onnx", "data": "val", "pipeline": "p.yaml"}


def test_no_expression_stands_in_a_script() -> None:
    """What a pull request names must not become shell."""
    for step in STEPS.values():
        assert "${{" not in step.get("run", "")


def test_every_input_is_used_and_described() -> None:
    text = (ROOT / "action.yml").read_text()
    for name, part in ACTION["inputs"].items():
        assert part["description"]
        assert f"inputs.{name}" in text, name


def test_the_pages_example_names_inputs_that_there_are() -> None:
    page = (ROOT / "docs" / "gate.md").read_text()
    (text,) = [b for b in re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S) if "uses:" in b]
    (step,) = [s for s in yaml.safe_load(text)["jobs"]["int8"]["steps"] if "with" in s]
    assert set(step["with"]) <= set(ACTION["inputs"])


def test_a_gate_that_passes(checkout: Path, runner: dict[str, str]) -> None:
    rules = "agreement >= 90%\n\n  \nkl > 0.1, advisory\n"
    done = run_step("Gate", checkout, runner, int8="int8.onnx", require=rules, **BOTH)
    assert done.returncode == 0, done.stderr
    assert outputs(runner) == {"status": "pass", "exit-code": "0"}
    summary = Path(runner["GITHUB_STEP_SUMMARY"]).read_text()
    assert summary.startswith("# PASS: int8 against fp32 on 60 images")
    assert "kl <= 0.1" in summary
    for name in ("quantlab-junit.xml", "quantlab-comment.md", "quantlab-benchmark.json"):
        assert (checkout / name).is_file()
    assert (Path(runner["RUNNER_TEMP"]) / "quantlab-cache").is_dir()
    assert not (checkout / "runs").exists()


def test_a_regression_and_an_inconclusive_one(checkout: Path, runner: dict[str, str]) -> None:
    done = run_step(
        "Gate", checkout, runner, int8="broken.onnx", require="agreement >= 99%", **BOTH
    )
    assert done.returncode == 1, done.stderr
    assert "::error title=broken%3A agreement >= 99%25 (required)::fail: " in done.stdout
    assert outputs(runner)["status"] == "fail"
    few = {"int8": "near.onnx", "require": "agreement >= 99%", **BOTH}
    done = run_step("Gate", checkout, runner, **few)
    assert (done.returncode, outputs(runner)["status"]) == (3, "inconclusive")
    done = run_step("Gate", checkout, runner, accept_inconclusive="true", **few)
    assert (done.returncode, outputs(runner)["exit-code"]) == (0, "3")
    assert "::warning " in done.stdout


def test_a_baseline_options_and_errors(checkout: Path, runner: dict[str, str]) -> None:
    tool = Path(runner["RUNNER_TEMP"]) / "quantlab" / "bin" / "quantlab"
    words = ["baseline", "update", "fp32.onnx", "--data", "val", "--pipeline", "p.yaml", "-q"]
    subprocess.run([tool, *words], cwd=checkout, env=runner, check=True, capture_output=True)
    path = checkout / "quantlab-baseline.yaml"
    given = {
        "int8": "int8.onnx",
        "data": "val",
        "pipeline": "p.yaml",
        "require": "agreement >= 90%",
    }
    given |= {"baseline": path.name, "options": "--threads=1\n--seed=3\n"}
    done = run_step("Gate", checkout, runner, **given)
    assert done.returncode == 0, done.stderr
    isa = yaml.safe_load(path.read_text())["isa"]
    path.write_text(path.read_text().replace(f"isa: {isa}", "isa: z80"))
    done = run_step("Gate", checkout, runner, **given)
    assert (done.returncode, outputs(runner)["status"]) == (4, "isa-change")
    assert run_step("Gate", checkout, runner, allow_isa_change="true", **given).returncode == 0
    done = run_step("Gate", checkout, runner, **{**given, "baseline": "gone.yaml"})
    assert (done.returncode, outputs(runner)["status"]) == (2, "error")
    assert "# ERROR" in (checkout / "quantlab-comment.md").read_text()


def test_a_configuration_alone(checkout: Path, runner: dict[str, str]) -> None:
    (checkout / "gate.yaml").write_text(
        "model: fp32.onnx\noutput: int8.onnx\neval_data: val\npipeline: p.yaml\n"
        "gate: {require: [agreement >= 90%]}\n"
    )
    done = run_step("Gate", checkout, runner, config="gate.yaml")
    assert done.returncode == 0, done.stderr


GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$HOME/calls"
if [ "$2" = --paginate ]; then cat "$HOME/found"; fi
"""


@pytest.mark.parametrize(("found", "method"), [("", "POST"), ("17\n", "PATCH")])
def test_the_comment_is_written_once(
    checkout: Path, runner: dict[str, str], tmp_path: Path, found: str, method: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    (tmp_path / "found").write_text(found)
    (checkout / "quantlab-comment.md").write_text("# PASS\n\n<!-- quantlab gate: int8 -->\n")
    event = {"github.event.pull_request.number": "5", "github.token": "t"}
    runner = {**runner, "PATH": f"{tmp_path / 'bin'}:{runner['PATH']}"}
    done = run_step("Comment", checkout, runner, event, token="t")
    assert done.returncode == 0, done.stderr
    looked, wrote = (tmp_path / "calls").read_text().splitlines()
    assert "repos/someone/models/issues/5/comments" in looked
    place = "issues/comments/17" if found else "issues/5/comments"
    assert wrote == (
        f"api --method {method} repos/someone/models/{place} "
        "--field body=@quantlab-comment.md --silent"
    )


def test_the_install_step_installs_the_actions_own_version(
    checkout: Path, runner: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(
        '#!/bin/sh\nmkdir -p "$3/bin"\n'
        'printf \'#!/bin/sh\\nprintf "%%s\\\\n" "$*" > "$HOME/pip"\\n\' > "$3/bin/pip"\n'
        'chmod +x "$3/bin/pip"\n'
    )
    python.chmod(0o755)
    runner = {**runner, "PATH": f"{tmp_path / 'bin'}:{runner['PATH']}"}
    assert run_step("Install", checkout, runner).returncode == 0
    assert (tmp_path / "pip").read_text() == f"install --quiet {ROOT}\n"
    assert run_step("Install", checkout, runner, quantlab="quantlab==1.2").returncode == 0
    assert (tmp_path / "pip").read_text() == "install --quiet quantlab==1.2\n"


@pytest.mark.parametrize(("int8", "code"), [("int8.onnx", 0), ("broken.onnx", 1)])
def test_the_gitlab_job(checkout: Path, runner: dict[str, str], int8: str, code: int) -> None:
    job = GITLAB[".quantlab-gate"]
    *install, script = job["script"]
    assert "pip install" in install[1]
    binaries = Path(runner["RUNNER_TEMP"]) / "quantlab"
    (checkout / ".quantlab").symlink_to(binaries)
    rules = "agreement >= 90%\nkl > 9, advisory\n"
    own = {"FP32": "fp32.onnx", "INT8": int8, "DATA": "val", "PIPELINE": "p.yaml"}
    project = {"CI_PROJECT_DIR": str(checkout), "PATH": runner["PATH"], "HOME": runner["HOME"]}
    named = {**job["variables"], **own, "REQUIRE": rules}
    variables = {k: v.replace("$CI_PROJECT_DIR", str(checkout)) for k, v in named.items()}
    for shell in ("bash", "sh"):
        done = subprocess.run(
            [shell, "-eu", "-c", script],
            cwd=checkout,
            env={**project, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "kl <= 9" in done.stdout
    for path in (*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]):
        assert (checkout / path).exists()
    assert job["allow_failure"]["exit_codes"] == [3]
