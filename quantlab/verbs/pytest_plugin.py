"""A pytest plugin: the gate as a test.

    def test_int8(quantlab_gate):
        quantlab_gate("fp32.onnx", "int8.onnx", max_decline="1%")

Registered by the package's entry point. Nothing heavy is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from quantlab.gate.rules import Decision

_OUTCOMES = ("fail", "xfail", "skip")
_OPTION = "quantlab_inconclusive"
_HELP = "what an inconclusive gate does to its test: fail (default), xfail or skip"


class Gate(Protocol):
    """What the fixture ``quantlab_gate`` gives."""

    def __call__(
        self,
        *models: str | Path,
        max_decline: str | None = None,
        require: str | Sequence[str] = (),
        inconclusive: str | None = None,
        **options: Any,
    ) -> Decision:
        """Judge ``fp32, int8``, or ``int8`` with ``baseline=``; returns the decision that passed.

        ``max_decline`` is that of top-1, ``require`` one rule or several, ``options`` those of
        ``quantlab gate`` (``data``, ``pipeline``, ``baseline``, ``force``, ...). Paths are
        relative to pytest's rootdir. The test fails with the gate's words when it does.
        """


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--quantlab-inconclusive`` and the ini key ``quantlab_inconclusive``."""
    group = parser.getgroup("quantlab")
    group.addoption("--quantlab-inconclusive", choices=_OUTCOMES, default=None, help=_HELP)
    parser.addini(_OPTION, _HELP, default="fail")


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and a check of the ini key."""
    config.addinivalue_line(
        "markers",
        "quantlab_gate(**options): options of every quantlab_gate call in this test, such as "
        "data='val' or inconclusive='skip'",
    )
    if config.getini(_OPTION) not in _OUTCOMES:
        raise pytest.UsageError(f"{_OPTION} is one of {', '.join(_OUTCOMES)}.")


@pytest.fixture
def quantlab_gate(request: pytest.FixtureRequest, tmp_path: Path) -> Gate:
    """``quantlab gate`` as a function: see ``Gate``."""
    marker = request.node.get_closest_marker("quantlab_gate")
    usual = dict(marker.kwargs) if marker else {}
    config = request.config

    def gate(*models: str | Path, **options: Any) -> Decision:
        given = {**usual, **options}
        outcome = given.pop("inconclusive", None) or config.getoption(_OPTION)
        outcome = outcome or config.getini(_OPTION)
        if outcome not in _OUTCOMES:
            raise ValueError(f"inconclusive={outcome!r} is not one of {', '.join(_OUTCOMES)}")
        decision, words = _judged(models, given, config.rootpath, tmp_path / "quantlab-runs")
        if decision.status == "fail":
            pytest.fail(words, pytrace=False)
        if decision.status == "inconclusive":
            _end(outcome, words)
        return decision

    return gate


def _end(outcome: str, words: str) -> None:
    if outcome == "skip":
        pytest.skip(words)
    if outcome == "xfail":
        pytest.xfail(words)
    pytest.fail(words, pytrace=False)


def _judged(
    models: Sequence[str | Path], options: dict[str, Any], root: Path, runs: Path
) -> tuple[Decision, str]:
    """The decision and what it says. Raises every error as a failure of the test."""
    from quantlab._util.outputs import check
    from quantlab._util.reporter import NullReporter
    from quantlab._util.yamlfile import validate
    from quantlab.cli.files import files_of
    from quantlab.cli.gate import command
    from quantlab.errors import QuantlabError
    from quantlab.gate.notation import warn_of_old_spellings
    from quantlab.report.gate import gate_summary
    from quantlab.runs.run import Run
    from quantlab.verbs.gate import GateOptions, gate_named_models
    from quantlab.verbs.publish import publish

    force = bool(options.pop("force", False))
    options = {_spelled(name): value for name, value in options.items()}
    given = (options.pop(name, ()) for name in ("require", "fail_if"))
    rules = [r for each in given for r in ([each] if isinstance(each, str) else each)]
    if (most := options.pop("max_decline", None)) is not None:
        rules.insert(0, f"top1.decline <= {most}")
    asked = {
        "config": root,
        **{key: _here(root, key, value) for key, value in options.items()},
        "models": tuple(str(_here(root, "models", model)) for model in models),
        "require": tuple(rules),
    }
    try:
        warn_of_old_spellings(*rules, stacklevel=3)
        spec = validate(GateOptions, asked, "quantlab_gate")
        check(*files_of(command, asked, asked), force=force)
        with Run("gate", spec.model_dump(mode="json"), "pytest", runs) as run:
            reporter = NullReporter()
            gated = publish(gate_named_models(spec, reporter), run, reporter)
    except QuantlabError as error:
        words = f"quantlab gate could not judge: {error}"
        raise pytest.fail.Exception(words, pytrace=False) from None
    return gated.decision, gate_summary(gated.decision, gated.context)


def _spelled(name: str) -> str:
    """The option of this name, or of this flag of ``quantlab gate``. Fails the test for another."""
    from quantlab.errors import meant
    from quantlab.verbs.options.gate import GateOptions
    from quantlab.verbs.options.option import declared

    known = declared(GateOptions)
    flags = {f.strip("-").replace("-", "_"): k for k, each in known.items() for f in each.flags}
    named = {**flags, **{k: k for k in (*known, "fail_if", "max_decline", "inconclusive")}}
    if name not in named:
        hint = meant(name, named) or f"There are {', '.join(sorted(known))}."
        pytest.fail(f"quantlab_gate has no option {name}.\n{hint}", pytrace=False)
    return named[name]


_FILES = {"config", "data", "list_file", "synsets", "baseline", "junit", "comment", "summary"}
_FILES |= {"benchmark_json"}
_FILES_OR_NAMES = {"models", "pipeline"}


def _here(root: Path, key: str, value: Any) -> Any:
    """A path under ``root``; what may be a name too only where there is such a file."""
    if key in _FILES and value is not None:
        return root / value
    is_file = key in _FILES_OR_NAMES and isinstance(value, str | Path) and (root / value).exists()
    return str(root / value) if is_file else value
