"""Grids: the integers a tensor may be rounded to, and the affine map onto them."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from quantlab.recipe import Recipe

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Integers ``low`` … ``high``, stored as ``dtype`` (a numpy type); ``symmetric``: zero points
    are 0."""

    dtype: np.dtype[np.generic]
    low: int
    high: int
    symmetric: bool = False

    @property
    def steps(self) -> int:
        """The number of intervals between the grid's points."""
        return self.high - self.low


@dataclass(frozen=True)
class Affine:
    """real = scale · (integer − zero). ``scale`` is a positive float32 value."""

    scale: float
    zero: int

    def reach(self, grid: Grid) -> tuple[float, float]:
        """The least and the greatest real number on the grid."""
        return (grid.low - self.zero) * self.scale, (grid.high - self.zero) * self.scale


def activation_grid(recipe: Recipe) -> Grid:
    """All 2⁸ or 2¹⁶ integers of the recipe's activation type; dynamic ones are u8."""
    kind = "u8" if recipe.activations == "dynamic" else recipe.activations
    bits, signed = int(kind[1:]), kind[0] == "s"
    low = -(2 ** (bits - 1)) if signed else 0
    dtype = np.dtype(f"{'' if signed else 'u'}int{bits}")
    return Grid(dtype, low, low + 2**bits - 1, recipe.symmetric)


def weight_limit(recipe: Recipe) -> int:
    """Weights are rounded to −limit … limit: 127, 63 (reduce_range), 7 (s4) or 32767 (s16)."""
    bits = int(recipe.weights[1:]) - (1 if recipe.reduce_range else 0)
    return int(2 ** (bits - 1) - 1)


def weight_storage(recipe: Recipe) -> tuple[np.dtype[np.generic], int]:
    """The numpy type of stored weights, and their zero point (128 for u8, else 0)."""
    if recipe.weights == "s4":
        return np.dtype(ml_dtypes.int4), 0
    if recipe.weights == "u8":
        return np.dtype(np.uint8), 128
    return np.dtype(f"int{recipe.weights[1:]}"), 0


def affine(low: float, high: float, grid: Grid) -> Affine:
    """The map that covers [low, high], widened so that zero is exact.

    A tensor that never leaves zero (a dead activation) gets scale 1: it is stored as zeros.
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    if grid.symmetric:
        scale = np.float32(max(-low, high) / grid.high)
        return Affine(float(scale) if np.finfo(np.float32).tiny < scale < np.inf else 1.0, 0)
    scale = np.float32((high - low) / grid.steps)
    if not np.finfo(np.float32).tiny < scale < np.inf:
        return Affine(1.0, grid.low if low == 0 else 0)
    zero = round(grid.low - low / float(scale))
    return Affine(float(scale), int(np.clip(zero, grid.low, grid.high)))
