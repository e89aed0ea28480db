"""Recipe: all settings that decide an int8 file. Frozen, hashable, YAML in and out."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

RangeMethod = Literal["minmax", "mean", "moving-average", "percentile", "entropy", "mse"]
ActivationType = Literal["u8", "s8", "u16", "s16", "dynamic"]
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
    engine: str = Field(default="quantlab", description="who quantizes: quantlab or ort")
    format: Literal["qdq", "qoperator"] = "qdq"
    activations: ActivationType = Field(
        default="u8",
        description="dynamic: u8 by the range of each batch, in matrix products alone",
    )
    weights: WeightType = "s8"
    per_channel: bool = True
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


_PLAIN: dict[str, Any] = {
    "equalize": False,
    "bias_correction": False,
    "rounding": "nearest",
    "range_search": False,
    "placement": "widest",
    "portable": False,
}
_QOPERATOR_TYPES = {("u8", "s8"), ("u8", "u8"), ("s8", "s8")}
