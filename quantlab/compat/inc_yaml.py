"""Neural Compressor 1.x YAML, mapped to the keys of ``quantlab.yaml``. Pure.

Every key of the file gets a row: what it became, that quantlab does so anyway, or that it is
ignored and why. Nothing unknown is an error; a file of which nothing can be used is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quantlab.compat.inc_transforms import Step, pipeline_of
from quantlab.errors import RecipeError

SECTIONS = ("quantization", "tuning", "evaluation")
AS_ALWAYS = "as always"
IGNORED = "ignored"


@dataclass(frozen=True)
class MappedKey:
    """One key of the file: its value, what it became, and why."""

    key: str
    value: str
    became: str
    why: str = ""


@dataclass(frozen=True)
class Mapped:
    """The settings, by the keys of ``quantlab.yaml``, and a row for each key of the file."""

    settings: dict[str, Any]
    rows: tuple[MappedKey, ...]


def is_inc(data: Mapping[str, Any]) -> bool:
    """Whether the YAML is one of Neural Compressor's, by keys that quantlab does not have."""
    return isinstance(data.get("model"), Mapping) or any(key in data for key in SECTIONS)


def map_inc(data: Mapping[str, Any], where: str) -> Mapped:
    """The file's settings and their table. Raises RecipeError when nothing of it can be used."""
    table = _Table(data)
    for key, value in data.items():
        table.visit(str(key), value)
    settings = table.settings
    if "eval_data" in settings and "data" not in settings:
        settings["data"] = settings["eval_data"]
        if "eval_list" in settings:
            settings["list"] = settings["eval_list"]
        why = "no calibration images are named: the evaluation images are divided"
        table.rows.append(MappedKey("-", "", f"data: {settings['data']}", why))
    if not settings:
        raise RecipeError(
            f"{where}: nothing in this Neural Compressor file can be used here.",
            "quantlab init writes a configuration to start from.",
        )
    return Mapped(settings, tuple(table.rows))


def mapping_table(rows: tuple[MappedKey, ...]) -> str:
    """The table."""
    cells = [("Neural Compressor", "value", "quantlab", "why")]
    cells += [tuple(_cell(text) for text in _texts(row)) for row in rows]  # type: ignore[misc]
    widths = [max(len(row[i]) for row in cells) for i in range(4)]
    lines = [
        "| " + " | ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines) + "\n"


def _texts(row: MappedKey) -> tuple[str, str, str, str]:
    return row.key, row.value, row.became, row.why


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


@dataclass
class _Table:
    """The settings and rows so far."""

    data: Mapping[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    rows: list[MappedKey] = field(default_factory=list)

    def sets(self, key: str, value: Any, settings: Mapping[str, Any], why: str = "") -> None:
        """Record that the key became these settings."""
        for name, setting in settings.items():
            if isinstance(setting, Mapping):
                self.settings[name] = {**self.settings.get(name, {}), **setting}
            else:
                self.settings[name] = setting
        words = [
            f"{name}.{inner}: {_written(v)}"
            for name, setting in settings.items()
            for inner, v in (setting.items() if isinstance(setting, Mapping) else [("", setting)])
        ]
        became = ", ".join(words).replace(".: ", ": ")
        self.rows.append(MappedKey(key, _short(value), became, why))

    def same(self, key: str, value: Any, why: str = "") -> None:
        """Record that quantlab does so anyway."""
        self.rows.append(MappedKey(key, _short(value), AS_ALWAYS, why))

    def ignores(self, key: str, value: Any, why: str) -> None:
        """Record that the key has no effect."""
        self.rows.append(MappedKey(key, _short(value), IGNORED, why))

    def at(self, key: str) -> Any:
        """The value at a dotted key, or None."""
        found: Any = self.data
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def visit(self, key: str, value: Any) -> None:
        """Map one key and what is under it."""
        rule, parts = _RULES.get(key), _has_parts(key)
        reason = _reason(key)
        if rule is not None:
            try:
                rule(self, key, value)
            except ValueError as error:
                self.ignores(key, value, str(error))
        elif isinstance(value, Mapping) and value and (parts or reason is None):
            for name, inner in value.items():
                self.visit(f"{key}.{name}", inner)
        else:
            unknown = "nothing is under it" if parts else "quantlab knows no such key"
            self.ignores(key, value, reason or unknown)


def _has_parts(key: str) -> bool:
    """Whether some keys under this one have a rule."""
    return any(other.startswith(f"{key}.") for other in _RULES)


def _reason(key: str) -> str | None:
    """Why this key, or what it is part of, is ignored."""
    while key not in _REASONS and "." in key:
        key = key.rpartition(".")[0]
    return _REASONS.get(key)


_Rule = Callable[[_Table, str, Any], None]


def _short(value: Any) -> str:
    text = _written(value)
    return text if len(text) <= 48 else f"{text[:45]}..."


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(item) for item in value)}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: ""}[value]
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}: {_written(v)}' for k, v in value.items())}}}"
    return str(value)


def _words(value: Any) -> list[str]:
    """``int8, fp32``, a list of them, or one."""
    items = value if isinstance(value, list) else str(value).replace(",", " ").split()
    return [str(item).strip() for item in items]


def _whole(value: Any, least: int) -> int:
    digits = "" if isinstance(value, bool) else str(value).strip()
    if not digits.isdecimal() or len(digits) > 9 or int(digits) < least:
        raise ValueError(f"not a whole number from {least} to 999999999")
    return int(digits)


def _share(value: Any) -> str:
    """0.01 or ``1%`` as a number of hundredths."""
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if isinstance(value, bool) or not 0 <= share < 1:
        raise ValueError("not a share below one")
    return f"{100 * share:.6g}"


def _counts(setting: str, least: int, zero: str = "") -> _Rule:
    """A whole number. ``setting`` may be dotted; 0 may have a meaning of its own."""

    def rule(table: _Table, key: str, value: Any) -> None:
        if zero and value == 0 and not isinstance(value, bool):
            return table.ignores(key, value, zero)
        outer, _, inner = setting.partition(".")
        count = _whole(value, least)
        return table.sets(key, value, {outer: {inner: count} if inner else count})

    return rule


def _narrows(setting: str, known: Mapping[str, Any], rest: str) -> _Rule:
    """A rule for a key that restricts a recipe's key to some of its values; ``rest`` explains the
    others."""

    def rule(table: _Table, key: str, value: Any) -> None:
        words = _words(value)
        values = list(dict.fromkeys(known[word] for word in words if word in known))
        others = ", ".join(word for word in words if word not in known)
        why = f"{others}: {rest}" if others else ""
        if values:
            return table.sets(key, value, {"search": {setting: values}}, why)
        return table.ignores(key, value, why or "no value is given")

    return rule


def _one_of(known: Mapping[str, str], rest: str) -> _Rule:
    """Values that say what quantlab does anyway; for others ``rest`` is why they are ignored."""

    def rule(table: _Table, key: str, value: Any) -> None:
        words = _words(value)
        if words and all(word in known for word in words):
            table.same(key, value, known[words[0]])
        else:
            table.ignores(key, value, rest)

    return rule


def _switch(setting: str) -> _Rule:
    """A rule for a switch that recipes have too."""

    def rule(table: _Table, key: str, value: Any) -> None:
        if not value:
            table.ignores(key, value, f"{setting} is a key of recipes; search tries both")
        else:
            table.sets(key, value, {"search": {setting: [True]}})

    return rule


def _framework(table: _Table, key: str, value: Any) -> None:
    formats = {"onnxrt_qlinearops": "qoperator", "onnxrt_qdq": "qdq"}
    if str(value) in formats:
        return table.sets(key, value, {"search": {"format": [formats[str(value)]]}})
    if str(value).startswith("onnxrt"):
        return table.ignores(key, value, "quantlab quantizes statically: faster for images")
    return table.ignores(key, value, "quantlab quantizes ONNX files; export the model first")


def _sampling_size(table: _Table, key: str, value: Any) -> None:
    sizes = [_whole(word, 1) for word in _words(value)]
    if not sizes:
        raise ValueError("no value is given")
    why = "the largest; one sample serves all trials" if len(sizes) > 1 else ""
    table.sets(key, value, {"calibration_size": max(sizes)}, why)


def _criterion_text(table: _Table) -> str:
    """The whole criterion: its amount and its metric are in two places."""
    limits = table.at("tuning.accuracy_criterion")
    limits = limits if isinstance(limits, Mapping) else {}
    name = "top5" if table.at("evaluation.accuracy.metric.topk") == 5 else "top1"
    if limits.get("relative") is None and "absolute" in limits:
        return f"{name}.decline <= {_share(limits['absolute'])}pp"
    return f"{name}.decline <= {_share(limits.get('relative', 0.01))}%"


def _criterion(table: _Table, key: str, value: Any) -> None:
    if key.endswith("absolute") and table.at("tuning.accuracy_criterion.relative") is not None:
        raise ValueError("relative is given too, and one limit holds")
    _share(value)
    table.sets(key, value, {"criterion": _criterion_text(table)})


def _topk(table: _Table, key: str, value: Any) -> None:
    if value == 1:
        table.same(key, value, "top-1 is what a criterion is about unless it names another")
    elif value == 5:
        table.sets(key, value, {"criterion": _criterion_text(table)})
    else:
        table.ignores(key, value, "top-1 and top-5 are known; others as criterion: module:function")


_STRATEGIES = {
    "basic": ("basic", ""),
    "conservative": ("conservative", ""),
    "exhaustive": ("exhaustive", ""),
    "random": ("random", ""),
    "tpe": ("tpe", ""),
    "bayesian": ("tpe", "quantlab's Bayesian search"),
    "sigopt": ("tpe", "without the service"),
    "mse": ("sensitivity", "both rank the nodes by the error they cause"),
    "mse_v2": ("sensitivity", "both rank the nodes by the error they cause"),
    "hawq_v2": ("sensitivity", "both rank the nodes by the error they cause"),
}


def _strategy(table: _Table, key: str, value: Any) -> None:
    if str(value) not in _STRATEGIES:
        raise ValueError("quantlab has no such strategy: ladder is used")
    name, why = _STRATEGIES[str(value)]
    table.sets(key, value, {"strategy": name}, why)


_READERS = {
    "ImagenetRaw": ("data_path", "image_list"),
    "Imagenet": ("root", ""),
    "ImageFolder": ("root", ""),
}
_PLACEHOLDER = "/path/to"


def _dataset(data: str, labels: str) -> _Rule:
    """Where images lie and what lists their labels."""

    def rule(table: _Table, key: str, value: Any) -> None:
        if not isinstance(value, Mapping) or not value:
            raise ValueError("no dataset is named")
        for name, arguments in value.items():
            _one_dataset(table, f"{key}.{name}", name, arguments, (data, labels))

    return rule


def _one_dataset(table: _Table, key: str, name: Any, arguments: Any, keys: tuple[str, str]) -> None:
    if name not in _READERS or not isinstance(arguments, Mapping):
        why = "quantlab reads folders, lists and .npz (docs/data.md): give --data"
        return table.ignores(key, arguments, why)
    for argument, value in arguments.items():
        inner = f"{key}.{argument}"
        if name == "Imagenet" and argument == "subset":
            table.same(inner, value, "part of the folder's path")
        elif argument not in _READERS[name]:
            table.ignores(inner, value, "of no use to quantlab's readers")
        elif not isinstance(value, str) or not value:
            table.ignores(inner, value, "not a path")
        elif value.startswith(_PLACEHOLDER):
            table.ignores(inner, value, "not a real path: give --data, --list, --eval-data")
        else:
            subset = f"/{arguments.get('subset', 'val')}" if name == "Imagenet" else ""
            setting = keys[_READERS[name].index(argument)]
            table.sets(inner, value, {setting: f"{value}{subset}"})
    return None


_TRANSFORMS = "evaluation.accuracy.dataloader.transform"


def _transforms(table: _Table, key: str, value: Any) -> None:
    """One pipeline serves for both; the evaluation's is taken where there are two."""
    other = table.at(_TRANSFORMS)
    if key != _TRANSFORMS and isinstance(other, Mapping) and other:
        if _ordered(other) == _ordered(value):
            return table.same(key, ", ".join(map(str, value)), "the evaluation's pipeline")
        why = "not the evaluation's, which serves for both: calibration has to see what it sees"
        return table.ignores(key, value, why)
    if not isinstance(value, Mapping):
        raise ValueError("not a mapping of transforms")
    pipeline, steps = pipeline_of(value)
    if pipeline is not None:
        table.settings["pipeline"] = pipeline
    for step, arguments in zip(steps, value.values(), strict=True):
        _transform_row(table, f"{key}.{step.name}", arguments, step, pipeline)
    return None


def _ordered(value: Any) -> Any:
    """The value in a comparable form in which the order of keys counts."""
    return list(value.items()) if isinstance(value, Mapping) else value


def _transform_row(table: _Table, key: str, value: Any, step: Step, pipeline: Any) -> None:
    if step.kind != "used":
        became = AS_ALWAYS if step.kind == "same" else IGNORED
        table.rows.append(MappedKey(key, _short(value), became, step.why))
        return
    name = pipeline if isinstance(pipeline, str) else step.became
    table.rows.append(MappedKey(key, _short(value), f"pipeline: {name}", step.why))


_FP32 = "--strategy sensitivity finds the nodes that have to stay in fp32"
_NODES = "these names are of Neural Compressor's own graph; a recipe's exclude takes your model's"
_TIMING = "quantlab bench and its rounds are timed in turns (bench: in quantlab.yaml)"
_TRAINING = "quantlab quantizes after training"
_RECORD = "every run has its folder, with a record and a report"
_GRAPH = "quantlab prepares the graph in its own way"

_CALIBRATION = "quantization.calibration.dataloader"
_ACCURACY = "evaluation.accuracy"
_PERFORMANCE = "evaluation.performance"
_ACTIVATION = "quantization.model_wise.activation"
_WEIGHT = "quantization.model_wise.weight"
_TYPES = {"uint8": "u8", "int8": "s8"}
_METHODS = {"minmax": "minmax", "kl": "entropy", "percentile": "percentile"}

_RULES: dict[str, _Rule] = {
    "device": _one_of({"cpu": "on this machine's CPU"}, "quantlab is about CPUs"),
    "model.framework": _framework,
    "quantization.approach": _one_of(
        {"post_training_static_quant": "", "post_training_auto_quant": "statically"},
        "quantlab quantizes after training and statically",
    ),
    "quantization.calibration.sampling_size": _sampling_size,
    f"{_CALIBRATION}.dataset": _dataset("data", "list"),
    f"{_CALIBRATION}.transform": _transforms,
    f"{_ACTIVATION}.dtype": _narrows("activations", _TYPES, _FP32),
    f"{_ACTIVATION}.algorithm": _narrows("ranges", _METHODS, "quantlab has no such method"),
    f"{_ACTIVATION}.granularity": _one_of(
        {"per_tensor": ""}, "activations are quantized per tensor"
    ),
    f"{_ACTIVATION}.scheme": _one_of(
        {"asym": ""}, "activations get a zero point: it costs nothing"
    ),
    f"{_WEIGHT}.dtype": _narrows("weights", _TYPES, _FP32),
    f"{_WEIGHT}.granularity": _narrows(
        "per_channel", {"per_channel": True, "per_tensor": False}, "unknown"
    ),
    f"{_WEIGHT}.scheme": _one_of({"sym": ""}, "weights are symmetric: other kernels are slower"),
    f"{_WEIGHT}.algorithm": _one_of({"minmax": ""}, "quantlab has only minmax"),
    "quantization.advance.bias_correction": _switch("bias_correction"),
    "quantization.recipes.fast_bias_correction": _switch("bias_correction"),
    f"{_ACCURACY}.metric.topk": _topk,
    f"{_ACCURACY}.dataloader.dataset": _dataset("eval_data", "eval_list"),
    _TRANSFORMS: _transforms,
    f"{_ACCURACY}.configs.cores_per_instance": _counts("threads", 1),
    f"{_PERFORMANCE}.configs.cores_per_instance": _counts("bench.threads", 1),
    f"{_PERFORMANCE}.dataloader.batch_size": lambda table, key, value: table.sets(
        key, value, {"bench": {"batch_sizes": [_whole(value, 1)]}}
    ),
    "tuning.strategy.name": _strategy,
    "tuning.accuracy_criterion.relative": _criterion,
    "tuning.accuracy_criterion.absolute": _criterion,
    "tuning.accuracy_criterion.higher_is_better": _one_of(
        {"True": ""}, "accuracy is better when it is higher"
    ),
    "tuning.objective": _one_of(
        {"performance": "the fastest that holds the criterion"},
        "the criterion, then speed; --pick chooses another trial afterwards",
    ),
    "tuning.exit_policy.timeout": _counts(
        "budget",
        1,
        "0 ends Neural Compressor at the first recipe that passes; quantlab searches on",
    ),
    "tuning.exit_policy.max_trials": _counts("max_trials", 1),
    "tuning.random_seed": _counts("seed", 0),
}
"""What is done with a key."""

_REASONS: dict[str, str] = {
    "version": "of Neural Compressor's file format",
    "model.name": "a name for its log; --model names the file",
    "model.inputs": "read from the ONNX file",
    "model.outputs": "read from the ONNX file",
    "use_bf16": "quantlab writes int8 beside fp32",
    "mixed_precision": "quantlab writes int8 beside fp32",
    "graph_optimization": _GRAPH,
    "model_conversion": _TRAINING,
    "pruning": _TRAINING,
    "distillation": _TRAINING,
    "auto_distillation": _TRAINING,
    "nas": _TRAINING,
    "train": _TRAINING,
    "quantization.train": _TRAINING,
    "quantization.recipes": _GRAPH,
    "quantization.op_wise": _NODES,
    "quantization.optype_wise": _FP32,
    "quantization.quant_level": "quantlab never puts everything back to fp32 by itself",
    f"{_CALIBRATION}.batch_size": "ranges do not depend on it",
    f"{_CALIBRATION}.filter": "the sample is stratified by class",
    f"{_WEIGHT}.bit": "not for ONNX; portable: true in a recipe means 7-bit weights",
    f"{_ACTIVATION}.compute_dtype": "of dynamic quantization",
    f"{_ACCURACY}.metric": "accuracy is top-1 or top-5; others as criterion: module:function",
    f"{_ACCURACY}.multi_metrics": "one criterion holds",
    f"{_ACCURACY}.iteration": "all images judge",
    f"{_ACCURACY}.configs": "threads alone can be set",
    f"{_ACCURACY}.dataloader.batch_size": "answers do not depend on it",
    f"{_ACCURACY}.dataloader.filter": "all images judge",
    f"{_ACCURACY}.postprocess": "labels count from 0 as the model's outputs do: shift the list",
    f"{_PERFORMANCE}.warmup": _TIMING,
    f"{_PERFORMANCE}.iteration": _TIMING,
    f"{_PERFORMANCE}.configs": "one instance is timed, pinned to its CPUs",
    f"{_PERFORMANCE}.postprocess": _TIMING,
    f"{_PERFORMANCE}.dataloader": "timed on random input: latency does not depend on it",
    "evaluation.diagnosis": _RECORD,
    "tuning.strategy": "of no use to quantlab's strategies",
    "tuning.multi_objectives": "the criterion, then speed; --pick chooses another afterwards",
    "tuning.exit_policy.performance_only": "quantlab keeps to the criterion",
    "tuning.tensorboard": _RECORD,
    "tuning.diagnosis": _RECORD,
    "tuning.workspace": f"{_RECORD}; --resume RUN goes on",
}
"""Why a key, or what is under it, is ignored."""
