"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from quantlab.cluster.executor import INLINE
from quantlab.errors import QuantlabError
from quantlab.model.kinds import ONNX_RUNTIME, Layout, OutputKind, RuntimeName
from quantlab.verbs import roles
from quantlab.verbs.options.option import (
    Batch,
    Count,
    Location,
    Name,
    Option,
    Options,
    PixelSize,
    Seed,
    Share,
    Stored,
    Words,
)

if TYPE_CHECKING:
    from quantlab._util.reporter import Reporter
    from quantlab.cluster.execution import ShardedExecution

BASELINE = "quantlab-baseline.yaml"
SIZE_HELP = "Of images where the model leaves it free: 224, or 48x192 (height x width); else 224."
MOST_COUNT, MOST_SEED, MOST_THREADS, MOST_ROUNDS = 10**6, 2**31 - 1, 1024, 10_000
"""What a request may hold at most."""

RUNTIME = Option(
    "What runs models: onnxruntime or openvino. Default: onnxruntime.",
    group="Speed",
    remote=True,
    config="runtime",
)
Fp32Runtime = Annotated[
    RuntimeName | None,
    Option("What runs the fp32 model, where that is another.", group="Speed", remote=True),
]
MODEL_FLAGS = ("--model", "--input_model")
OUTPUT_FLAGS = ("--output", "-o")
FP32 = Option(
    "The fp32 model: a .onnx file, or a published model's name.",
    argument=True,
    flags=MODEL_FLAGS,
    group="Model",
    role=roles.MODEL,
    remote=Stored("models"),
    form_help="",
    main=True,
)
TargetName = Annotated[
    str | None,
    Option(
        "Where the int8 file is to run: x86, x86-vnni, arm64, openvino, tensorrt, qnn, tflite or "
        "widest (docs/targets.md). Default: the recipe's, else x86.",
        group="Calibration",
        config="target",
        remote=Name | None,
        reader="quantlab.targets:find_target",
    ),
]
THREADS = Option("For evaluation; 0: all cores.", group="Speed", remote=True, most=MOST_THREADS)
FileName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,94}\.onnx$",
        description="what the int8 file is called; default: MODEL.int8.onnx",
    ),
]
Executor = Annotated[
    str,
    Option(
        "Who computes: inline, process[:N] or dask://HOST:PORT (docs/scale.md).",
        group="Speed",
        reader="quantlab.cluster.executor:parse_executor",
    ),
]
Force = Annotated[
    bool,
    Option(
        "Replace also a file that quantlab did not write, but no input.",
        group="Output",
        local=True,
        momentary=True,
    ),
]
Recorded = Annotated[Path, Option("Where run folders go.", role=roles.FILLS_RUNS, local=True)]
Compat = Annotated[
    Literal["inc"] | None,
    Option("Print the lines of Neural Compressor's example.", group="Output", bare="inc"),
]
ZooCompat = Annotated[
    Literal["zoo"] | None,
    Option("Also print what the ONNX model zoo says of models.", group="Output", bare="zoo"),
]
EvaluateCompat = Annotated[
    Literal["zoo", "inc"] | None,
    Option(
        "Print the row of the ONNX model zoo, or the lines of Neural Compressor's example.",
        group="Output",
        bare="zoo",
    ),
]
Exports = Annotated[
    tuple[Path, ...],
    Option(
        "Also write FILE.json (github-action-benchmark), FILE.csv or FILE.md.",
        flags=("--export",),
        group="Output",
        role=roles.WRITES_EXPORT,
    ),
]
OpenReport = Annotated[
    bool,
    Option(
        "Open the report in a browser.",
        flags=("--open",),
        group="Output",
        local=True,
        momentary=True,
    ),
]
PlainSeed = Annotated[Seed, Option("Of all that is drawn.", remote=True, most=MOST_SEED)]
MaxDecline = Annotated[
    str,
    Option(
        "Accepted top-1 decline: 1% of fp32's accuracy, or 0.5pp points.",
        group="What must hold",
        remote=Words | None,
        reader="quantlab.gate.notation:parse_decline",
        stands_for="criterion",
        main=True,
    ),
]
InsteadOfDecline = Annotated[
    str | None,
    Option(
        "Instead of --max-decline: 'top5.decline <= 1%', 'agreement >= 96%', 'kl <= 0.01', ...",
        group="What must hold",
        remote=Words | None,
        reader="quantlab.gate.notation:parse_criterion",
    ),
]
Rounds = Annotated[int, Field(ge=2)]
Synsets = Annotated[
    Path | None,
    Option(
        "Class list: `wnid name, ...` a line, in index order.",
        group="Images",
        role=roles.FILE,
        config="synsets",
    ),
]
NoBench = Annotated[bool, Option("Leave the timing out.", group="Timing", remote=True)]
LogInterval = Annotated[
    Count | None,
    Option("A running line every N images.", group="Output", remote=True, most=MOST_COUNT),
]


class RunOptions(Options):
    """Where a run is recorded, and how it is told."""

    runs_dir: Recorded = Path("runs")
    as_json: Annotated[
        bool,
        Option("Print the run's record as JSON.", flags=("--json",), local=True, momentary=True),
    ] = False
    quiet: Annotated[
        bool,
        Option("Only warnings and results.", flags=("--quiet", "-q"), local=True, momentary=True),
    ] = False


class ConfigOptions(Options):
    """Which configuration file holds; None: ``quantlab.yaml`` of the working folder, if any."""

    config: Path | None = None
    origins: dict[str, str] = Field(
        default_factory=dict,
        description="what has set each option: its flag, a file, a variable, default, resumed run",
    )


_model = partial(Option, group="Model", remote=True)


class InputOptions(Options):
    """How to read a model where detection is wrong, or leaves something free."""

    layout: Annotated[Layout | None, _model("If detection is wrong.")] = None
    output_name: Annotated[
        str | None,
        _model("The output to judge, of several; else the first of classes.", remote=Name | None),
    ] = None
    size: Annotated[PixelSize | None, _model(SIZE_HELP)] = None
    runtime: Annotated[RuntimeName | None, RUNTIME] = None

    @property
    def own_runtime(self) -> RuntimeName | None:
        """The runtime that was asked for, None where none was or that is searched."""
        return self.runtime


class ModelOptions(InputOptions, ConfigOptions):
    """How to read a model where detection is wrong, and with what to feed it."""

    pipeline: Annotated[
        str | dict[str, Any] | None,
        _model(
            "Preprocessing: a name (torchvision, tf, ...) or a YAML file; in quantlab.yaml "
            "also a mapping of resizer, resize, crop, color, mean and std. Without it: what the "
            "model is known by.",
            role=roles.FILE,
            config="pipeline",
            remote=Name | None,
            form_help="Preprocessing: a name such as torchvision or tf.",
        ),
    ] = None
    output_kind: Annotated[OutputKind | None, _model("If detection is wrong.")] = None
    threads: Annotated[int, Field(ge=0), THREADS] = 0


_speed = partial(Option, group="Speed")


def check_provider(provider: str | None, *runtimes: RuntimeName | None) -> None:
    """Raises QuantlabError where a provider of ONNX Runtime is named for another runtime."""
    if provider is not None and {*runtimes} - {None, ONNX_RUNTIME}:
        raise QuantlabError(
            "--provider is of ONNX Runtime, and a model is run by OpenVINO.", "Leave one out."
        )


class EvaluationOptions(ModelOptions):
    """How images are run through a model."""

    batch_size: Annotated[
        Count | None,
        _speed(
            "Images a call; else tried.",
            flags=("--batch-size", "--batch_size"),
            remote=Batch | None,
        ),
    ] = None
    split: Annotated[
        str | None,
        _speed(
            "Calls side by side x threads of each, such as 4x2; else tried.",
            remote=Annotated[str, Field(pattern=r"^\d{1,4}x\d{1,4}$")] | None,
            reader="quantlab.evaluate.execution:parse_split",
        ),
    ] = None
    provider: Annotated[
        str | None,
        _speed(
            "Of ONNX Runtime: cpu, cuda, openvino, ...",
            reader="quantlab.runtime.providers:providers_of",
        ),
    ] = None
    fold_preprocess: Annotated[
        bool, _speed("Let the model itself normalize pixels.", remote=True)
    ] = False

    @property
    def execution(self) -> ShardedExecution:
        """How to evaluate. Raises QuantlabError for a split or a provider that cannot be."""
        from quantlab.cluster.execution import ShardedExecution
        from quantlab.evaluate.execution import parse_split
        from quantlab.runtime.providers import providers_of

        check_provider(self.provider, self.own_runtime)
        return ShardedExecution(
            threads=self.threads,
            batch=self.batch_size,
            split=None if self.split is None else parse_split(self.split),
            providers=providers_of(self.provider),
            fold=self.fold_preprocess,
        )


class ShardedOptions(EvaluationOptions):
    """How images are run through a model, here or by the workers of an executor."""

    executor: Executor = INLINE

    @contextmanager
    def executing(self, reporter: Reporter) -> Iterator[ShardedExecution]:
        """``execution`` with its executor, which is open until the block ends. Raises QuantlabError
        for one that cannot be."""
        from quantlab.verbs.executor import sharded

        with sharded(self.executor, reporter) as found:
            yield replace(self.execution, sharded=found)


_images = partial(Option, group="Images")


EVAL_DATA = _images(
    "Images to judge on; default: part of --data.",
    role=roles.OTHER_DATA,
    config="eval_data",
    replaces=("eval_list",),
    command=False,
    label="Dataset to judge on",
    form_help="Default: part of the dataset.",
    main=True,
)
EVAL_LIST = _images(
    "The labels of --eval-data.", role=roles.FILE, config="eval_list", command=False
)


class DataOptions(ConfigOptions):
    """Where images come from."""

    data: Annotated[
        Location | None,
        _images(
            "Images: a folder, a file or a URL (see docs/data.md).",
            flags=("--data", "--dataset_location"),
            role=roles.DATA,
            config="data",
            replaces=("list_file", "eval_data", "eval_list"),
            remote=Stored("datasets"),
            needed=True,
            label="Dataset",
            form_help="",
            main=True,
        ),
    ] = None
    list_file: Annotated[
        Path | None,
        _images(
            "The labels of these images: a file of `name label` lines.",
            flags=("--list", "--label_path"),
            role=roles.FILE,
            config="list",
        ),
    ] = None
    eval_data: Annotated[Location | None, EVAL_DATA] = None
    eval_list: Annotated[Path | None, EVAL_LIST] = None
    synsets: Synsets = None
    max_bad: Annotated[
        Share,
        Field(ge=0, le=1),
        _images("Share of unreadable images at which to stop.", remote=True),
    ] = 0.01

    def with_list(self, list_file: Path | None) -> DataOptions:
        """For another folder than ``data``: the list file was that folder's."""
        return self.model_copy(update={"list_file": list_file})
