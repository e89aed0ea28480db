"""The options of ``quantlab tune``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from quantlab.bench.defaults import SHARED_ROUNDS, SHARED_SECONDS
from quantlab.model.kinds import RuntimeName
from quantlab.recipe import Recipe
from quantlab.tune.choices import EarlyStopChoice, IncStrategy, Pick, Strategy
from quantlab.verbs import roles
from quantlab.verbs.options.option import (
    SECONDS,
    Count,
    Location,
    Name,
    Option,
    Seconds,
    Seed,
    Share,
    Stored,
    Words,
)
from quantlab.verbs.options.shared import (
    EVAL_DATA,
    EVAL_LIST,
    FP32,
    MOST_COUNT,
    MOST_SEED,
    RUNTIME,
    THREADS,
    DataOptions,
    FileName,
    Force,
    MaxDecline,
    NoBench,
    OpenReport,
    RunOptions,
    ShardedOptions,
    TargetName,
    ZooCompat,
)


class BenchConditions(BaseModel):
    """How the chosen model is timed against fp32 in the end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_sizes: tuple[Count, ...] = Field((1,), min_length=1, description="each is timed")
    rounds: int = Field(SHARED_ROUNDS, ge=2, description="in each every model runs, in turns")
    seconds: Seconds = Field(SHARED_SECONDS, gt=0, description="for all rounds of a batch size")
    threads: int = Field(1, ge=0, description="0: every physical core")


def _held_by_recipes(space: dict[str, tuple[Any, ...]] | None) -> dict[str, tuple[Any, ...]]:
    """A search space with the values as recipes have them. Raises RecipeError, ValueError."""
    from quantlab._util.yamlfile import validate

    found = {}
    for key, values in (space or {}).items():
        if not values:
            raise ValueError(f"{key}: give at least one value")
        found[key] = tuple(
            getattr(validate(Recipe, {key: value}, "search"), key) for value in values
        )
    return found


_holds = partial(Option, group="What must hold")
_sample = partial(Option, group="Calibration")
_search = partial(Option, group="Search")
_end = partial(Option, group="When it ends", remote=True)


class TuneOptions(DataOptions, ShardedOptions, RunOptions):
    """The options of ``quantlab tune``."""

    COMMAND = "tune"
    EXAMPLES = (
        "quantlab tune mobilenetv2-12.onnx",
        "quantlab tune mobilenetv2-12.onnx --data train --eval-data val --budget 10m",
    )

    config: Annotated[
        Path | None,
        Option(
            "Default: quantlab.yaml here. Neural Compressor YAML works too.",
            group="Model",
            role=roles.FILE,
            main=True,
            local=True,
        ),
    ] = None
    model: Annotated[str, replace(FP32, required=False, config="model")]
    threads: Annotated[int, Field(ge=0), replace(THREADS, config="threads")] = 0
    eval_data: Annotated[
        Location | None, replace(EVAL_DATA, command=True, remote=Stored("datasets"))
    ] = None
    eval_list: Annotated[Path | None, replace(EVAL_LIST, command=True)] = None
    max_decline: MaxDecline = "1%"
    criterion: Annotated[
        str | None,
        _holds(
            "What the int8 model must hold: top1.decline <= 1% (of fp32's top-1), 0.5pp (points), "
            "top5.decline, agreement >= 96%, kl <= 0.01, or module:function.decline.",
            config="criterion",
            remote=Words | None,
            reader="quantlab.gate.notation:parse_criterion",
        ),
    ] = None
    tolerance: Annotated[
        Share,
        Field(ge=0, le=1),
        _holds("Slack in the limit while searching.", config="tolerance", remote=True),
    ] = 0.0
    images_per_class: Annotated[
        Count | None,
        _sample(
            "Calibration images of each class. Default: one, and at least 300 in all, where "
            "there are so many.",
            config="images_per_class",
            replaces=("calibration_size",),
            remote=True,
            most=MOST_COUNT,
        ),
    ] = None
    calibration_size: Annotated[
        Count | None,
        _sample(
            "Calibration images in all, instead of --images-per-class.",
            config="calibration_size",
            remote=True,
            most=MOST_COUNT,
        ),
    ] = None
    seed: Annotated[
        Seed,
        _sample(
            "Of the calibration sample and of the search.",
            config="seed",
            remote=True,
            most=MOST_SEED,
        ),
    ] = 0
    recipe: Annotated[
        Recipe | str | None,
        _search(
            "Try only this recipe: a YAML file or a published model's name.",
            role=roles.FILE,
            config="recipe",
            remote=Stored("recipes"),
            form_help="Only this recipe.",
        ),
    ] = None
    target: TargetName = None
    runtime: Annotated[
        Literal["onnxruntime", "openvino", "auto"] | None,
        replace(
            RUNTIME,
            help="What runs models: onnxruntime, openvino, or auto: files are made for both, and "
            "the best is chosen. Default: onnxruntime.",
        ),
    ] = None  # type: ignore[assignment]
    quant_format: Annotated[
        Literal["QDQ", "QOperator", "default"] | None,
        _search(
            "Try only recipes of this format.",
            flags=("--quant_format",),
            any_case=True,
            remote=True,
        ),
    ] = None
    strategy: Annotated[
        Strategy,
        _search(
            "How recipes are searched (docs/tune.md).", config="strategy", remote=True, main=True
        ),
    ] = "ladder"
    engine: Annotated[
        str,
        _search(
            "Who quantizes: quantlab, ort, inc, nncf, or an installed one.",
            config="engine",
            replaces=("engines",),
            remote=Name,
        ),
    ] = "quantlab"
    engines: Annotated[
        tuple[str, ...],
        _search("Several engines, tried one after the other.", config="engines", command=False),
    ] = ()
    inc_strategy: Annotated[
        IncStrategy | None,
        _search(
            "With --engine inc: let Neural Compressor search in its own way.",
            config="inc_strategy",
            remote=True,
        ),
    ] = None
    space: Annotated[
        dict[str, tuple[Any, ...]] | None,
        AfterValidator(_held_by_recipes),
        Field(default_factory=dict),
        _search(
            "The search space: a recipe's keys, each with the values to try, for example "
            "ranges: [mean, mse]. Every recipe that is tried keeps to it.",
            config="search",
            command=False,
        ),
    ]
    storage: Annotated[
        str | None,
        _search(
            "An Optuna storage URL that several machines share.",
            role=roles.ADDS_ROWS,
            config="storage",
        ),
    ] = None
    budget: Annotated[
        Seconds,
        Field(ge=0),
        _end(
            "No new trial starts later than this: 90s, 5m, 1h. One always does.",
            config="budget",
            remote=Annotated[float, Field(gt=0, le=7 * 86400), SECONDS],
            main=True,
        ),
    ] = 300.0
    max_trials: Annotated[
        Count | None, _end("Evaluations at most.", config="max_trials", most=MOST_COUNT)
    ] = None
    target_speedup: Annotated[
        float | None,
        Field(ge=0),
        _end(
            "Stop once the criterion holds at this speed over fp32.",
            config="target_speedup",
            most=1e6,
        ),
    ] = None
    early_stop: Annotated[
        EarlyStopChoice,
        _end(
            "What may end as soon as it surely meets the criterion: search (trials; the report is "
            "on all images), report (also that), off.",
            config="early_stop",
        ),
    ] = "search"
    no_bench: NoBench = False
    bench: Annotated[
        BenchConditions,
        Option(
            "How the chosen model is timed in the end.",
            group="Timing",
            config="bench",
            command=False,
        ),
    ] = BenchConditions()
    no_audit: Annotated[
        bool, Option("No look at whether the preprocessing is right.", group="Images", remote=True)
    ] = False
    allow_overlap: Annotated[
        bool, Option("Judge also on calibration images.", group="Images", remote=True)
    ] = False
    output: Annotated[
        Path | None,
        Option(
            "The int8 file. Default: <model>.int8.onnx here.",
            group="Output",
            flags=("--output", "-o", "--output_model"),
            role=roles.WRITES_INT8,
            config="output",
            remote=FileName | None,
            local=True,
            form_help="Default: the model's name and .int8.onnx.",
        ),
    ] = None
    force: Force = False
    pick: Annotated[Pick, Option("Which trial to write.", group="Output", remote=True)] = "best"
    compat: ZooCompat = None
    open_report: OpenReport = False
    gate: Annotated[
        bool,
        Option(
            "Exit with the verdict: 0 pass, 1 fail, 3 inconclusive.",
            group="Output",
            remote=True,
            momentary=True,
        ),
    ] = False
    resume: Annotated[Path | None, Option("Go on with this run folder.", role=roles.FOLDER)] = None
    source: Path | None = Field(None, description="the run to pick from, without a search")

    @property
    def own_runtime(self) -> RuntimeName | None:
        """See InputOptions: with ``auto`` fp32 is run by ONNX Runtime."""
        return None if self.runtime == "auto" else self.runtime

    @staticmethod
    def exclusive(asked: Any) -> bool:
        """See Options."""
        return not asked.no_bench
