"""Recipe: all settings that decide an int8 file. Frozen, hashable, YAML in and out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from quantlab._util.yamlfile import validate
from quantlab.model.kinds import ActivationType, FileFormat, RangeMethod
from quantlab.targets import DEFAULT, find_target

WeightType = Literal["u8", "s8", "s4", "s16"]
Placing = Literal["fastest", "widest", "measured"]


class Recipe(BaseModel):
    """How to make one quantized model out of one fp32 model.

    Two equal recipes applied to the same model with the same calibration images give the same
    file, byte for byte.

    Examples:
        >>> from quantlab import Recipe
        >>> recipe = Recipe(ranges="mse", images_per_class=2)
        >>> recipe == Recipe.model_validate(recipe.model_dump())
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "default"
    target: str = Field(
        default=DEFAULT,
        description="where the file is to run (docs/targets.md): decides what other fields are "
        "where they are not given",
    )
    engine: str = Field(default="quantlab", description="who quantizes: quantlab or ort")
    format: FileFormat = "qdq"
    activations: ActivationType = Field(
        default="u8",
        description="dynamic: u8 by the range of each batch, in matrix products alone",
    )
    symmetric: bool = Field(default=False, description="zero points of signed activations are 0")
    weights: WeightType = "s8"
    per_channel: bool = True
    bias: Literal["auto", "int32", "fp32"] = Field(
        default="auto", description="auto: int32 with 8-bit activations and weights, else fp32"
    )
    ranges: RangeMethod = Field(default="mean", description="how activation ranges are estimated")
    percentile: float = Field(default=99.99, gt=50, le=100, description="for ranges: percentile")
    fp32_output: bool = Field(
        default=True, description="keep the classifier's output (logits) in fp32"
    )
    portable: bool = Field(
        default=True,
        description="the same answers on CPUs without VNNI: no sum of two products of u8 "
        "activations and s8 weights leaves 16 bits (other engines than quantlab: by 7-bit weights, "
        "default: false)",
    )
    reduce_range: bool = Field(default=False, description="7-bit weights, of −63 to 63")
    equalize: bool = Field(default=True, description="cross-layer equalization")
    bias_correction: bool = Field(
        default=True, description="correct the mean error of each output channel"
    )
    rounding: Literal["nearest", "output-error"] = Field(
        default="output-error",
        description="round weights to the nearest, or to the least output error",
    )
    range_search: bool = Field(default=True, description="choose ranges by the error of the logits")
    smooth: float | None = Field(
        default=None, ge=0, le=1, description="SmoothQuant migration strength"
    )
    placement: Placing = Field(
        default="fastest",
        description="leave in fp32 what is not faster in int8, by the table of costs (fastest) or "
        "by times measured here (measured), or nothing that can be in int8 (widest)",
    )
    operators: Literal["onnxruntime", "standard"] = Field(
        default="onnxruntime",
        description="onnxruntime: also its own operators, and integers that are read with another "
        "scale than they were written with, where that is fastest; standard: ONNX's operators, "
        "one scale and zero point a tensor",
    )
    fused_sums: bool = Field(
        default=False,
        description="a convolution whose output is only added to another tensor is not rounded "
        "before that",
    )
    fused_activations: bool = Field(
        default=False,
        description="what a function of single values alone reads of a convolution or product is "
        "not rounded before that",
    )
    shared_scales: bool = Field(
        default=False, description="Concat and AveragePool make the scale that they read"
    )
    exclude: tuple[str, ...] = Field(default=(), description="names of nodes that stay in fp32")
    images_per_class: int | None = Field(
        default=None,
        ge=1,
        description="default: one, and more where that makes fewer than 300 in all",
    )
    calibration_size: int | None = Field(
        default=None, ge=1, description="overrides images_per_class"
    )
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _defaults_follow(cls, data: Any) -> Any:
        """What only quantlab's engine can do is off by default for the others; with 16 bits there
        is room for the whole range."""
        if not isinstance(data, dict):
            return data
        defaults = {} if data.get("engine", "quantlab") == "quantlab" else _PLAIN
        if data.get("weights", "s8") != "s8":
            defaults = {**defaults, "portable": False}
        if data.get("activations") in ("u16", "s16", "dynamic"):
            defaults = {**defaults, "ranges": "minmax", "range_search": False}
        return {**defaults, **data}

    @model_validator(mode="wrap")
    @classmethod
    def _target_decides(cls, data: Any, make: ModelWrapValidatorHandler[Self]) -> Self:
        """What a target that is named decides is as little set as a default; what is set must suit
        it."""
        if not isinstance(data, dict):
            return make(data)
        decided: dict[str, Any] = {}
        if "target" in data:
            target = find_target(str(data["target"]))
            target.check(data)
            decided = {key: value for key, value in target.decides.items() if key not in data}
        found = make({**decided, **data})
        found.model_fields_set.intersection_update(data)
        return found

    @model_serializer(mode="wrap")
    def _without_later_fields(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields that recipes had not always are left out at their defaults: a recipe keeps its
        digest, and its file its bytes."""
        fields: dict[str, Any] = dump(self)
        known = type(self).model_fields
        return {k: v for k, v in fields.items() if k not in _LATER or v != known[k].default}

    def aimed_at(self, target: str | None) -> Self:
        """The same for another target; None: as it is. Raises RecipeError."""
        if target is None:
            return self
        find_target(target)
        return self.changed({"target": target})

    def changed(self, fields: Mapping[str, Any]) -> Self:
        """The same with these fields. Raises RecipeError."""
        if not fields:
            return self
        before = self.given
        if "images_per_class" in fields:
            before.pop("calibration_size", None)
        return validate(type(self), {**before, **fields}, f"recipe {self.name}")

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are set, without what follows of them."""
        return {name: getattr(self, name) for name in self.model_fields_set}

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.portable and self.weights not in ("s8", "u8"):
            raise ValueError("portable: true goes with weights: s8 or u8")
        if self.reduce_range and self.weights not in ("s8", "u8"):
            raise ValueError(
                "reduce_range: true means 7-bit weights and goes with weights: s8 or u8"
            )
        if self.activations == "dynamic" and self.engine != "quantlab":
            raise ValueError("activations: dynamic goes with engine: quantlab")
        if self.activations == "dynamic" and (
            self.weights not in ("s8", "u8") or self.range_search
        ):
            raise ValueError(
                "activations: dynamic goes with weights: s8 or u8 and range_search: false"
            )
        if self.format == "qoperator" and (self.activations, self.weights) not in _QOPERATOR_TYPES:
            raise ValueError("format: qoperator knows 8-bit activations and weights only")
        if self.format == "qoperator" and self.bias == "fp32":
            raise ValueError("format: qoperator goes with bias: int32")
        of_qdq = (self.symmetric, self.fused_sums, self.fused_activations, self.shared_scales)
        if self.format == "qoperator" and any(of_qdq):
            raise ValueError(
                "symmetric, fused_sums, fused_activations and shared_scales go with format: qdq"
            )
        if self.symmetric and self.activations not in ("s8", "s16"):
            raise ValueError("symmetric: true goes with activations: s8 or s16")
        return self

    @property
    def digest(self) -> str:
        """Twelve hex digits that change whenever anything but the name does."""
        text = self.model_dump_json(exclude={"name"})
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def structure(self) -> str:
        """A digest that recipes share which differ in ``format`` (and name) only: they make one
        network, the same scales and weights, written in two ways."""
        return self.model_copy(update={"format": "qdq"}).digest


_LATER = (
    "target",
    "symmetric",
    "bias",
    "operators",
    "fused_sums",
    "fused_activations",
    "shared_scales",
)
_PLAIN: dict[str, Any] = {
    "equalize": False,
    "bias_correction": False,
    "rounding": "nearest",
    "range_search": False,
    "placement": "widest",
    "portable": False,
}
_QOPERATOR_TYPES = {("u8", "s8"), ("u8", "u8"), ("s8", "s8")}
