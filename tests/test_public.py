"""The public names: locked, and each one importable, typed and documented by what runs."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import quantlab

FUNCTIONS = {
    "bench",
    "compare",
    "evaluate",
    "fetch",
    "gate",
    "inspect",
    "judge",
    "quantize",
    "tune",
}
NAMES = FUNCTIONS | {
    "Accuracy",
    "AccuracyCriterion",
    "AgreementCriterion",
    "BenchResult",
    "ClassCriterion",
    "ClusterError",
    "Comparison",
    "Criterion",
    "DataError",
    "Dataset",
    "Decision",
    "DivergenceCriterion",
    "FetchError",
    "Finding",
    "Inspection",
    "IsaChangeError",
    "LatencyCriterion",
    "Measurement",
    "MetricCriterion",
    "MissingExtraError",
    "Model",
    "ModelError",
    "OutputError",
    "Pipeline",
    "PortableCriterion",
    "Predictions",
    "Progress",
    "QuantizeError",
    "QuantlabError",
    "QuantlabWarning",
    "Recipe",
    "RecipeError",
    "RecordError",
    "Rule",
    "Runner",
    "RuntimeAgreementCriterion",
    "RuntimeDivergenceCriterion",
    "SizeCriterion",
    "Trial",
    "TuneResult",
    "Verdict",
    "__version__",
    "load_record",
    "open_dataset",
}
HEAVY = ("numpy", "onnx", "onnxruntime", "pydantic", "pandas", "PIL", "scipy", "click", "yaml")
ERRORS = {name for name in NAMES if name.endswith("Error")} | {
    "IsaChangeError",
    "MissingExtraError",
}
DOCUMENTED = sorted((NAMES - ERRORS - {"__version__"}) | {"QuantlabError"})
"""An example of the tree's root stands for all errors."""


def test_all_is_locked() -> None:
    assert set(quantlab.__all__) == NAMES
    assert len(quantlab.__all__) == len(NAMES)


def test_a_type_checker_sees_the_same_names() -> None:
    tree = ast.parse(Path(quantlab.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes == quantlab._HOMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_can_be_imported(name: str) -> None:
    found = getattr(quantlab, name)
    assert found is getattr(quantlab, name)
    if name != "__version__":
        assert found.__name__ == name
        assert found.__module__.startswith("quantlab.")
        assert found.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'quantlab' has no attribute 'Modle'"):
        _ = quantlab.Modle


def python(code: str) -> str:
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return made.stdout.strip()


def test_importing_quantlab_imports_nothing_heavy() -> None:
    code = "import sys, quantlab; print(*sorted(sys.modules))"
    loaded = python(code).split()
    assert not {*HEAVY} & {*loaded}
    assert [name for name in loaded if name.startswith("quantlab.")] == []


SUBPACKAGES = """
import quantlab.tune.strategies
from quantlab.evaluate.parallel import ParallelRunner
import quantlab.bench, quantlab.compare, quantlab.fetch, quantlab.gate
import quantlab.inspect.layers, quantlab.quantize.engine
from quantlab.tune import strategies
"""
CHECK = """
from types import FunctionType
import sys
assert all(isinstance(getattr(quantlab, name), FunctionType) for name in quantlab._FUNCTIONS)
assert strategies is sys.modules["quantlab.tune.strategies"]
"""


@pytest.mark.parametrize(
    "code",
    [SUBPACKAGES + CHECK, "import quantlab; quantlab.tune\n" + SUBPACKAGES + CHECK],
    ids=["before the functions", "after them"],
)
def test_importing_a_subpackage_leaves_the_function(code: str) -> None:
    python(code)


def test_a_function_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def other() -> None: ...

    monkeypatch.setattr(quantlab, "tune", other)
    assert quantlab.tune is other


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_function_and_result_has_an_example_that_runs(name: str) -> None:
    found = getattr(quantlab, name)
    runner = doctest.DocTestRunner()
    tests = doctest.DocTestFinder().find(found, name, globs={})
    assert sum(len(test.examples) for test in tests)
    said = list[str]()
    for test in tests:
        runner.run(test, out=said.append)
    assert not runner.summarize(verbose=False).failed, "".join(said)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_argument_is_documented_and_given_by_name(name: str) -> None:
    function: FunctionType = getattr(quantlab, name)
    parameters = inspect.signature(function).parameters.values()
    arguments = (function.__doc__ or "").partition("Args:")[2].partition("Returns:")[0]
    assert [p.name for p in parameters] == re.findall(r"^        (\w+): ", arguments, re.M)
    positional = [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert len(positional) <= (3 if name == "compare" else 2)
    for part in ("Returns:", "Raises:", "Examples:"):
        assert part in (function.__doc__ or "")


GOOD = """
import quantlab as ql

result = ql.tune("m.onnx", calibration="train/", evaluation="val/", max_decline="1%")
result.model.save("m.int8.onnx")
int8 = ql.quantize("m.onnx", calibration="train/", recipe=ql.Recipe(ranges="mse"))
fp32_answers, int8_answers = (ql.evaluate(m, "val/") for m in ("m.onnx", int8))
comparison = ql.compare(fp32_answers, int8_answers)
verdict: ql.Verdict = ql.judge(comparison, "top1.decline <= 1%")
decision: ql.Decision = ql.gate(comparison, ["kl <= 0.01"])
comparison.to_frame()
comparison.report("report.html")
timed: ql.Comparison = ql.compare("m.onnx", int8, [("a.jpg", 0)], threads=1)
inspection: ql.Inspection = ql.inspect("m.onnx")
layers = ql.inspect("m.onnx", "val/", view="layers", int8=int8, size="48x192", threads=1)
loads = ql.bench("m.onnx", rates=[10.0], seconds=1, size=(48, 192))
reveal_type(ql.inspect("m.onnx", "val/", view="sensitivity"))
"""
BAD = """
import quantlab as ql
from quantlab import quantise

ql.quantize("m.onnx", "train/", receipe=None)
ql.quantize("m.onnx", "train/", None)
ql.quantize(3, "train/")
ql.tune("m.onnx", "train/", max_decline=1)
ql.tune.strategies
ql.inspect("m.onnx", view="quantization", sizes=64)
ql.bench("m.onnx", rates=[10.0], second=1)
"""


def test_a_users_script_is_type_checked(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    for name, text in (("good", GOOD), ("bad", BAD)):
        (tmp_path / f"{name}.py").write_text(text)
    known = f"--cache-dir={pytestconfig.cache.mkdir('mypy')}"
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", known]
    made = subprocess.run(
        [*command, "good.py", "bad.py"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    lines = made.stdout.splitlines()
    assert [line for line in lines if line.startswith("good.py") and "error:" in line] == []
    assert any("Revealed type" in line and "Sensitivity" in line for line in lines), made.stdout
    wrong = {int(line.split(":")[1]) for line in lines if line.startswith("bad.py")}
    assert wrong == {3, 5, 6, 7, 8, 9, 10, 11}, made.stdout


def test_the_package_is_a_module_still() -> None:
    assert isinstance(quantlab, ModuleType)
    assert {*quantlab.__all__} <= {*dir(quantlab)}


SHOWN = {"Progress"}
"""A web page's view has the name of what it shows."""


def test_a_class_name_means_one_thing() -> None:
    homes: dict[str, list[Path]] = {}
    for path in Path(quantlab.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(path)
    several = {name for name, paths in homes.items() if len(paths) > 1}
    assert several == SHOWN, {name: homes[name] for name in several - SHOWN}
