"""quantlab: post-training quantization and accuracy regression for ONNX image classifiers.

``docs/library.md`` shows how the functions are used together.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"
"""The one place of the version: pyproject.toml reads it from here."""

if TYPE_CHECKING:
    from quantlab.api import Progress as Progress
    from quantlab.api import QuantlabWarning as QuantlabWarning
    from quantlab.api import TuneResult as TuneResult
    from quantlab.api import bench as bench
    from quantlab.api import compare as compare
    from quantlab.api import evaluate as evaluate
    from quantlab.api import fetch as fetch
    from quantlab.api import gate as gate
    from quantlab.api import inspect as inspect
    from quantlab.api import judge as judge
    from quantlab.api import quantize as quantize
    from quantlab.api import tune as tune
    from quantlab.bench.measurement import BenchResult as BenchResult
    from quantlab.bench.measurement import Measurement as Measurement
    from quantlab.compare.comparison import Comparison as Comparison
    from quantlab.data.dataset import Dataset as Dataset
    from quantlab.data.preprocess import Pipeline as Pipeline
    from quantlab.data.readers import open_dataset as open_dataset
    from quantlab.errors import ClusterError as ClusterError
    from quantlab.errors import DataError as DataError
    from quantlab.errors import FetchError as FetchError
    from quantlab.errors import IsaChangeError as IsaChangeError
    from quantlab.errors import MissingExtraError as MissingExtraError
    from quantlab.errors import ModelError as ModelError
    from quantlab.errors import OutputError as OutputError
    from quantlab.errors import QuantizeError as QuantizeError
    from quantlab.errors import QuantlabError as QuantlabError
    from quantlab.errors import RecipeError as RecipeError
    from quantlab.errors import RecordError as RecordError
    from quantlab.evaluate.accuracy import Accuracy as Accuracy
    from quantlab.evaluate.predictions import Predictions as Predictions
    from quantlab.gate.criteria import AccuracyCriterion as AccuracyCriterion
    from quantlab.gate.criteria import AgreementCriterion as AgreementCriterion
    from quantlab.gate.criteria import ClassCriterion as ClassCriterion
    from quantlab.gate.criteria import DivergenceCriterion as DivergenceCriterion
    from quantlab.gate.criteria import LatencyCriterion as LatencyCriterion
    from quantlab.gate.criteria import MetricCriterion as MetricCriterion
    from quantlab.gate.criteria import PortableCriterion as PortableCriterion
    from quantlab.gate.criteria import RuntimeAgreementCriterion as RuntimeAgreementCriterion
    from quantlab.gate.criteria import RuntimeDivergenceCriterion as RuntimeDivergenceCriterion
    from quantlab.gate.criteria import SizeCriterion as SizeCriterion
    from quantlab.gate.criterion import Criterion as Criterion
    from quantlab.gate.criterion import Finding as Finding
    from quantlab.gate.rules import Decision as Decision
    from quantlab.gate.rules import Rule as Rule
    from quantlab.gate.verdict import Verdict as Verdict
    from quantlab.inspect.inspection import Inspection as Inspection
    from quantlab.model.model import Model as Model
    from quantlab.recipe import Recipe as Recipe
    from quantlab.runs.record import load_record as load_record
    from quantlab.runtime.runner import Runner as Runner
    from quantlab.tune.trials import Trial as Trial

_FUNCTIONS = (
    "bench",
    "compare",
    "evaluate",
    "fetch",
    "gate",
    "inspect",
    "judge",
    "quantize",
    "tune",
)
_HOMES = {
    **dict.fromkeys(_FUNCTIONS, "quantlab.api"),
    "Accuracy": "quantlab.evaluate.accuracy",
    "AccuracyCriterion": "quantlab.gate.criteria",
    "AgreementCriterion": "quantlab.gate.criteria",
    "BenchResult": "quantlab.bench.measurement",
    "ClassCriterion": "quantlab.gate.criteria",
    "ClusterError": "quantlab.errors",
    "Comparison": "quantlab.compare.comparison",
    "Criterion": "quantlab.gate.criterion",
    "DataError": "quantlab.errors",
    "Dataset": "quantlab.data.dataset",
    "Decision": "quantlab.gate.rules",
    "DivergenceCriterion": "quantlab.gate.criteria",
    "FetchError": "quantlab.errors",
    "Finding": "quantlab.gate.criterion",
    "Inspection": "quantlab.inspect.inspection",
    "IsaChangeError": "quantlab.errors",
    "LatencyCriterion": "quantlab.gate.criteria",
    "Measurement": "quantlab.bench.measurement",
    "MetricCriterion": "quantlab.gate.criteria",
    "MissingExtraError": "quantlab.errors",
    "Model": "quantlab.model.model",
    "ModelError": "quantlab.errors",
    "OutputError": "quantlab.errors",
    "Pipeline": "quantlab.data.preprocess",
    "PortableCriterion": "quantlab.gate.criteria",
    "Predictions": "quantlab.evaluate.predictions",
    "Progress": "quantlab.api",
    "QuantizeError": "quantlab.errors",
    "QuantlabError": "quantlab.errors",
    "QuantlabWarning": "quantlab.api",
    "Recipe": "quantlab.recipe",
    "RecipeError": "quantlab.errors",
    "RecordError": "quantlab.errors",
    "Rule": "quantlab.gate.rules",
    "Runner": "quantlab.runtime.runner",
    "RuntimeAgreementCriterion": "quantlab.gate.criteria",
    "RuntimeDivergenceCriterion": "quantlab.gate.criteria",
    "SizeCriterion": "quantlab.gate.criteria",
    "Trial": "quantlab.tune.trials",
    "TuneResult": "quantlab.api",
    "Verdict": "quantlab.gate.verdict",
    "load_record": "quantlab.runs.record",
    "open_dataset": "quantlab.data.readers",
}

__all__ = [*_HOMES, "__version__"]


class _Package(ModuleType):
    """This package. Some of its functions share their name with a subpackage, and importing that
    would put it in the function's place: such an assignment is ignored."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _FUNCTIONS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if not TYPE_CHECKING:  # a type checker would take any name for one that is here

    def __getattr__(name: str) -> Any:
        """Public names are imported on first use, so that ``import quantlab`` stays instant."""
        if name not in _HOMES:
            raise AttributeError(f"module 'quantlab' has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
