"""The options of ``quantlab compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from quantlab.verbs import roles
from quantlab.verbs.options.option import Batch, Count, Option, Stored
from quantlab.verbs.options.shared import (
    MODEL_FLAGS,
    MOST_ROUNDS,
    DataOptions,
    Exports,
    Force,
    Fp32Runtime,
    InsteadOfDecline,
    MaxDecline,
    NoBench,
    OpenReport,
    PlainSeed,
    Rounds,
    RunOptions,
    ShardedOptions,
    ZooCompat,
)

if TYPE_CHECKING:
    from quantlab.gate.criterion import Criterion


class CompareOptions(DataOptions, ShardedOptions, RunOptions):
    """The options of ``quantlab compare``."""

    COMMAND = "compare"
    EXAMPLES = (
        "quantlab compare mobilenetv2-12.onnx int8.onnx --data val",
        "quantlab compare fp32.onnx int8.onnx --criterion 'agreement >= 96%' --export compare.csv",
    )

    fp32: Annotated[
        str,
        Option(
            "The fp32 model: a .onnx file, or a published model's name.",
            argument=True,
            flags=MODEL_FLAGS,
            configured=("model",),
            required=False,
            form_help="",
            group="Model",
            role=roles.MODEL,
            remote=Stored("models"),
            label="fp32 model",
            main=True,
        ),
    ]
    int8: Annotated[
        str,
        Option(
            "The int8 model, or another device's answers.",
            argument=True,
            configured=("output",),
            required=False,
            form_help="",
            group="Model",
            role=roles.MODEL_OR_ANSWERS,
            remote=Stored("models"),
            label="int8 model",
            main=True,
        ),
    ]
    fp32_runtime: Fp32Runtime = None
    max_decline: MaxDecline = "1%"
    criterion: InsteadOfDecline = None
    batch_sizes: Annotated[
        tuple[Count, ...],
        Option(
            "Batch sizes to time; may be given several times.",
            group="Timing",
            flags=("--batch",),
            remote=Annotated[tuple[Batch, ...], Field(min_length=1, max_length=8)],
            form_help="Numbers with spaces between them.",
        ),
    ] = (1,)
    rounds: Annotated[
        Rounds | None,
        Option("Of timing; see docs/bench.md.", group="Timing", remote=True, most=MOST_ROUNDS),
    ] = None
    no_bench: NoBench = False
    early_stop: Annotated[
        bool,
        Option(
            "Evaluate both in turns and stop once pass or fail is certain.",
            group="Speed",
            remote=True,
        ),
    ] = False
    compat: ZooCompat = None
    exports: Exports = ()
    force: Force = False
    open_report: OpenReport = False
    seed: PlainSeed = 0
    others: tuple[Any, ...] = Field((), description="of a gate: the criteria that it judges too")

    @property
    def judged(self) -> Criterion:
        """What the verdict is on. Raises RecipeError."""
        from quantlab.gate.notation import parse_criterion, parse_decline

        if self.criterion is None:
            return parse_decline(self.max_decline)
        return parse_criterion(self.criterion, tuning=True)

    @staticmethod
    def exclusive(asked: Any) -> bool:
        """See Options."""
        return not asked.no_bench
