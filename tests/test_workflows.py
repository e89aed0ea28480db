"""What GitHub reads in .github/, and the hooks before a commit: valid, and of things that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in GITHUB.glob("workflows/*.yml")}
FORMS = {
    path.stem: yaml.safe_load(path.read_text())
    for path in GITHUB.glob("ISSUE_TEMPLATE/*.yml")
    if path.stem != "config"
}
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
PINNED = re.compile(r"[\w.-]+/[\w./-]+@(v\d+|release/v\d+|[0-9a-f]{40})")
FIELDS = {"input", "textarea", "dropdown", "checkboxes"}


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job.get("steps", [])


def targets() -> set[str]:
    (line,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    return set(line.split())


def test_the_workflows_are_found() -> None:
    assert set(WORKFLOWS) == {"test", "release"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_their_commands_are_targets_of_the_makefile(name: str) -> None:
    lines = [step["run"] for step in steps(WORKFLOWS[name]) if "run" in step]
    assert lines
    for line in lines:
        command, *words = shlex.split(line)
        assert command == "make"
        assert {word for word in words if "=" not in word} <= targets()
        assert "${{" not in line, "what a name of a branch holds must not become a command"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_they_use_is_pinned_or_here(name: str) -> None:
    jobs = WORKFLOWS[name]["jobs"].values()
    used = [part["uses"] for part in (*steps(WORKFLOWS[name]), *jobs) if "uses" in part]
    assert used
    for use in used:
        assert (ROOT / use).is_file() if use.startswith("./") else PINNED.fullmatch(use), use


@pytest.mark.parametrize("name", WORKFLOWS)
def test_they_may_read_only_and_end_by_themselves(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in j for j in WORKFLOWS[name]["jobs"].values() if "steps" in j)
    assert "secrets." not in (GITHUB / "workflows" / f"{name}.yml").read_text()


def test_tests_and_wheel_are_tried_on_each_python_that_is_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for job in ("tests", "wheel"):
        versions = WORKFLOWS["test"]["jobs"][job]["strategy"]["matrix"]["python"]
        assert versions == ["3.11", "3.12", "3.13"]
        assert all(version in SpecifierSet(project["requires-python"]) for version in versions)
    assert "3.10" not in SpecifierSet(project["requires-python"])


def test_a_release_is_tested_and_published_without_a_password() -> None:
    jobs = WORKFLOWS["release"]["jobs"]
    assert jobs["test"]["uses"] == "./.github/workflows/test.yml"
    assert "workflow_call" in WORKFLOWS["test"][True]  # YAML 1.1 reads "on" as true
    publish = jobs["publish"]
    assert set(publish["needs"]) == {"test", "build"}
    assert publish["permissions"] == {"id-token": "write"}
    assert "with" not in publish["steps"][-1]
    assert "environment" in publish
    assert [job for job in jobs if "permissions" in jobs[job]] == ["publish"]


@pytest.mark.parametrize("name", FORMS)
def test_the_issue_forms_are_as_github_wants_them(name: str) -> None:
    form = FORMS[name]
    assert set(form) <= {"name", "description", "title", "labels", "body"}
    assert form["name"] and form["description"]  # noqa: PT018
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert {field["type"] for field in fields} <= FIELDS
    assert len({field["id"] for field in fields}) == len(fields)
    for field in fields:
        assert field["attributes"]["label"]
        if field["type"] in ("dropdown", "checkboxes"):
            assert field["attributes"]["options"]
        assert set(field.get("validations", {})) <= {"required"}


def test_a_bug_comes_with_version_model_command_and_record() -> None:
    assert set(FORMS) == {"bug", "int8", "feature"}
    for name in ("bug", "int8"):
        fields = {field["id"]: field for field in FORMS[name]["body"] if "id" in field}
        assert {"version", "model", "command", "record"} <= set(fields)
        assert "quantlab --version" in fields["version"]["attributes"]["description"]
        assert fields["version"]["validations"] == {"required": True}


def test_the_hooks_before_a_commit_run_programs_of_the_extra_dev() -> None:
    assert {"ruff", "ruff-format", "mypy", "trailing-whitespace"} <= {hook["id"] for hook in HOOKS}
    for hook in HOOKS:
        program = Path(hook["entry"].split()[0])
        assert program.parent == Path(".venv/bin")
        assert (Path(sys.executable).parent / program.name).is_file(), program
    line = [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True)
