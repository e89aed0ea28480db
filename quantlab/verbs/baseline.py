"""baseline: accept a model's answers, show them, compare two baselines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantlab._util.files import check_writable, write_whole
from quantlab._util.reporter import Reporter
from quantlab.compare.compare import compare
from quantlab.compare.comparison import Comparison
from quantlab.errors import DataError, RecordError
from quantlab.gate.baseline import (
    MOST_STORED,
    Answers,
    Baseline,
    Difference,
    as_yaml,
    baseline_of,
    differences,
    load_answers,
    load_baseline,
)
from quantlab.runtime.environment import environment
from quantlab.verbs import inputs
from quantlab.verbs.evaluate import crops_and_answers
from quantlab.verbs.options.baseline import BaselineDiffOptions as BaselineDiffOptions
from quantlab.verbs.options.baseline import BaselineUpdateOptions as BaselineUpdateOptions
from quantlab.verbs.preprocessing_audit import check_reference
from quantlab.verbs.publish import PageConditions, Returned, VerbResult


@dataclass(frozen=True)
class Updated(VerbResult):
    """The new baseline, to be written to ``path``, and what changed where there was one."""

    baseline: Baseline
    changes: tuple[Difference, ...] | None
    path: Path
    subject: Mapping[str, Any]

    def facts(self) -> dict[str, Any]:
        """What was accepted."""
        return {**self.subject, "baseline": self.baseline.model_dump(mode="json")}

    def deliver(self, conditions: PageConditions, reporter: Reporter) -> None:
        """Write the baseline, with the command that made it."""
        write_whole(self.path, as_yaml(self.baseline, conditions.command))


@dataclass(frozen=True)
class Diff:
    """What changed, and both models' answers image by image where they are at hand."""

    changes: tuple[Difference, ...]
    comparison: Comparison | None


def update_baseline(spec: BaselineUpdateOptions, reporter: Reporter) -> Updated:
    """Evaluate the model for a baseline; its answers are written beside that.

    A baseline that cannot be read is replaced, with a warning. Raises QuantlabError.
    """
    path, file = spec.baseline, spec.baseline.with_suffix(".npz")
    for each in (path, file):
        check_writable(each)
    model = inputs.find_model(spec.model, spec, reporter)
    pipeline = inputs.find_pipeline(model, spec, reporter)
    found = inputs.find_evaluation_data(spec, model, reporter)
    crops, predictions = crops_and_answers(model, found, pipeline, spec, reporter, spec.execution)
    check_reference(model, crops, predictions, reporter, spec.threads)
    model.check_unchanged()
    made = baseline_of(
        predictions,
        predictions.accuracy,
        size_bytes=model.size_bytes,
        environment=environment(),
    )
    if predictions.outputs.nbytes > MOST_STORED:
        reporter.warn(
            f"The answers take {predictions.outputs.nbytes / 1e6:.0f} MB and are not kept: gates "
            "will compare by intervals, which decides less."
        )
    elif not spec.no_predictions:
        predictions.save(file, compressed=True)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        stored = Answers(file=file.name, sha256=digest)
        made = made.model_copy(update={"predictions": stored})
    before = _before(path, reporter)
    subject = {"model": inputs.model_facts(model), "data": inputs.data_facts(found, crops)}
    return Updated(made, None if before is None else differences(before, made), path, subject)


def _before(path: Path, reporter: Reporter) -> Baseline | None:
    if not path.exists():
        return None
    try:
        return load_baseline(path)
    except RecordError as error:
        reporter.warn(f"{error.problem} It is replaced.")
        return None


def show_baseline(path: Path) -> Returned[Baseline]:
    """The baseline in a file. Raises RecordError."""
    found = load_baseline(path)
    return Returned(found, {"baseline": found.model_dump(mode="json")})


def diff_baselines(spec: BaselineDiffOptions) -> Returned[Diff]:
    """Two baselines side by side. Raises RecordError."""
    old, new = load_baseline(spec.old), load_baseline(spec.new)
    changes = differences(old, new)
    first, second = load_answers(old, spec.old), load_answers(new, spec.new)
    comparison = None
    if first is not None and second is not None:
        with suppress(DataError):  # of other images or classes, which the changes say
            comparison = compare(first, second)
    facts = {"changes": [change.model_dump() for change in changes]}
    return Returned(Diff(changes, comparison), facts)
