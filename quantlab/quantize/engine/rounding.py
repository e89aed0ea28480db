"""Round weights to integers: to nearest, or minimizing the layer's output error.

The output's error for rows e = W − Ŵ is tr(e H eᵀ), H the covariance of the layer's inputs (the
mean is the bias's business). It is made small in three steps: a scale a row by search, GPTQ's
rounding with error feedback (Frantar et al. 2022, after Hassibi and Stork's optimal brain surgeon
1993), then coordinate descent, which moves single integers as long as that helps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab.quantize.engine.grid import Doubles, Floats

DAMPING = 0.05
"""Added to H's diagonal, as a share of its mean: the covariance is an estimate."""
SHRINK = np.linspace(1.0, 0.7, 13)
"""Candidate scales, as shares of the one that reaches the row's largest weight."""
GROW = np.linspace(0.2, 1.0, 5)
"""More of them for rows whose pairs are over the bound: so much of the way to the scale with which
none is."""
PAIR = 128
"""255 · 128 fits into 16 bits with a sign; 255 · 129 does not."""
_SWEEPS = 2
_BLOCK = 64


@dataclass(frozen=True, eq=False)
class Bound:
    """The integers that a row's weights may be: −``limit`` to ``limit``, and bounded in pairs.

    Each array of ``pairs`` [k] holds for each column the one that it is added to, or itself where
    there is none. A pair's positive integers add up to at most PAIR and its negative ones to at
    least −PAIR, so that no sum of two products with activations of 0 to 255 leaves 16 bits.
    """

    limit: int
    pairs: tuple[NDArray[np.int64], ...] = ()

    def around(self, made: Doubles, j: int) -> tuple[Doubles | int, Doubles | int]:
        """The least and the greatest integer of column j, the others being ``made`` [r, k]."""
        low: Doubles | int = -self.limit
        high: Doubles | int = self.limit
        for partner in self.pairs:
            if partner[j] != j:
                other = made[:, partner[j]]
                low = np.maximum(low, -PAIR - np.minimum(other, 0))
                high = np.minimum(high, PAIR - np.maximum(other, 0))
        return low, high

    def fitted(self, made: Doubles, weights: Doubles | None = None) -> Doubles:
        """Integers [r, k] brought within the bound: what a pair has too much of is taken from both,
        more from the one of less ``weights`` [k], by which squared errors count (default: alike).
        """
        made = np.clip(made, -self.limit, self.limit)
        for partner in self.pairs:
            first = np.flatnonzero(partner > np.arange(len(partner)))
            second = partner[first]
            row, pair = np.nonzero(np.abs(made[:, first] + made[:, second]) > PAIR)
            i, j = first[pair], second[pair]
            a, b = made[row, i], made[row, j]
            over = np.abs(a + b) - PAIR
            share = 0.5 if weights is None else weights[j] / (weights[i] + weights[j])
            taken = np.clip(np.rint(over * share), over - np.abs(b), np.abs(a))
            made[row, i] = a - np.sign(a) * taken
            made[row, j] = b - np.sign(b) * (over - taken)
        return made

    def free_scales(self, rows: Doubles) -> Doubles:
        """The scale of each row [r] of weights [r, k] from which on no pair is over the bound."""
        most = np.zeros(len(rows))
        for partner in self.pairs:
            other = rows[:, partner]
            paired = (rows * other > 0) & (partner != np.arange(len(partner)))
            most = np.maximum(most, (np.abs(rows + other) * paired).max(1))
        return most / (PAIR - 1)

    def breached(self, made: Doubles) -> NDArray[np.bool_]:
        """The rows [r] of integers [r, k] that have a pair over the bound."""
        found = np.zeros(len(made), np.bool_)
        for partner in self.pairs:
            other = made[:, partner]
            alone = partner == np.arange(len(partner))
            over = (made * other > 0) & (np.abs(made + other) > PAIR) & ~alone
            found |= over.any(axis=1)
        return found


def plain_scales(rows: Doubles, limit: int) -> Doubles:
    """The scale of each row that puts its largest weight on the last integer, [r] of [r, k]."""
    return np.asarray(np.maximum(np.abs(rows).max(1) / limit, 1e-30))


def nearest(rows: Doubles, scales: Doubles, bound: Bound) -> Doubles:
    """The nearest integers within the bound, [r, k]."""
    return bound.fitted(np.rint(rows / scales[:, None]))


def damped(covariance: Doubles) -> Doubles:
    """H [..., k, k] with DAMPING times its mean diagonal added to the diagonal."""
    size = covariance.shape[-1]
    level = np.trace(covariance, axis1=-2, axis2=-1)[..., None, None] / size
    return np.asarray(covariance + (DAMPING * level + 1e-12) * np.eye(size))


def search_scales(rows: Doubles, H: Doubles | None, bound: Bound, least: Doubles) -> Doubles:
    """The candidate scale of each row with the least output error under nearest rounding, [r].

    ``least`` [r] bounds the scales from below. Without H the error is the weights' own, and a row
    within the bound keeps its plain scale. Of SHRINK every third is tried, then the best one's
    neighbours.
    """
    full = plain_scales(rows, bound.limit)
    scales = np.maximum(full, least)
    if H is None and not bound.pairs:
        return scales
    single = None if H is None else H.astype(np.float32)
    best = _cost(rows, scales, single, bound)
    over = np.flatnonzero(bound.breached(np.rint(rows / scales[:, None])))
    every = over if single is None else np.arange(len(rows))

    chosen = np.zeros(len(rows), np.int64)

    def consider(some: NDArray[np.int64], tried: Doubles, place: NDArray[np.int64] | int) -> None:
        found = np.maximum(tried, least[some])
        cost = _cost(rows if len(some) == len(rows) else rows[some], found, single, bound)
        wins = cost < best[some]
        won = some[wins]
        scales[won], best[won] = found[wins], cost[wins]
        chosen[won] = place if isinstance(place, int) else place[wins]

    if len(over):
        more = np.maximum(bound.free_scales(rows[over]) - full[over], 0.0)
        for part in GROW:
            consider(over, full[over] + part * more, 0)
    for i in range(3, len(SHRINK), 3):
        consider(every, full[every] * SHRINK[i], i)
    coarse = chosen[every].copy()
    for step in (-1, 1):
        near = np.clip(coarse + step, 1, len(SHRINK) - 1)
        consider(every, full[every] * SHRINK[near], near)
    return scales


def _cost(rows: Doubles, scales: Doubles, H: Floats | None, bound: Bound) -> Doubles:
    """Each row's error, [r]; with H in float32: it only ranks candidates."""
    weights = None if H is None else np.diag(H).astype(np.float64)
    made = bound.fitted(np.rint(rows / scales[:, None]), weights)
    error = rows - made * scales[:, None]
    if H is None:
        return np.asarray((error**2).sum(1))
    single = error.astype(np.float32)
    return np.asarray(np.einsum("rk,rk->r", single @ H, single), np.float64)


def gptq(rows: Doubles, H: Doubles, scales: Doubles, bound: Bound) -> Doubles:
    """Integers [r, k]: columns are rounded one by one, by falling input power, and what each
    loses is made up for by the columns that are still to come. Pairs stay together."""
    power = np.diag(H)
    for partner in bound.pairs[:1]:
        power = np.maximum(power, power[partner])
    order = np.argsort(-power, kind="stable")
    place = np.argsort(order)
    pairs = tuple(place[partner[order]] for partner in bound.pairs)
    inner, weights = Bound(bound.limit, pairs), np.diag(H)[order]
    upper = np.linalg.cholesky(np.linalg.inv(H[np.ix_(order, order)])).T
    left = np.asfortranarray(rows[:, order])
    made = np.zeros_like(left)
    for start in range(0, rows.shape[1], _BLOCK):
        stop = min(start + _BLOCK, rows.shape[1])
        lost = np.zeros((stop - start, len(rows)))
        for j in range(start, stop):
            before = slice(start, j), lost[: j - start]
            column = _without(left, upper, j, *before)
            wanted = np.rint(column / scales)
            for partner in inner.pairs[:1]:
                k = int(partner[j])
                if k > j:
                    later = left[:, k] if k >= stop else _without(left, upper, k, *before)
                    wanted = _with_room(wanted, np.rint(later / scales), bound, weights[[j, k]])
            made[:, j] = np.clip(wanted, *inner.around(made, j))
            lost[j - start] = (column - made[:, j] * scales) / upper[j, j]
        left[:, stop:] -= (upper[start:stop, stop:].T @ lost).T
    integers = np.empty_like(rows)
    integers[:, order] = made
    return integers


def _without(left: Doubles, upper: Doubles, j: int, before: slice, lost: Doubles) -> Doubles:
    """What column j is to make up for what the columns ``before`` have ``lost``."""
    return np.asarray(left[:, j] - upper[before, j] @ lost)


def _with_room(first: Doubles, second: Doubles, bound: Bound, weights: Doubles) -> Doubles:
    """Integers of the first column of a pair, [r], that leave room for what the second wants."""
    if not (np.abs(first + second) > PAIR).any():
        return first
    pair = Bound(bound.limit, (np.array([1, 0]),))
    return pair.fitted(np.stack([first, second], axis=1), weights)[:, 0]


def descend(rows: Doubles, integers: Doubles, H: Doubles, scales: Doubles, bound: Bound) -> Doubles:
    """Coordinate descent: each integer in turn to its best value given the others, twice around.

    What a block of columns changed reaches the slopes [k, r] in one product.
    """
    made = integers.copy(order="F")
    slope = H @ (rows - made * scales[:, None]).T
    for start in [*range(0, rows.shape[1], _BLOCK)] * _SWEEPS:
        stop = min(start + _BLOCK, rows.shape[1])
        changes = np.zeros((stop - start, len(rows)))
        for j in range(start, stop):
            now = slope[j] - H[j, start:j] @ changes[: j - start]
            wanted = made[:, j] + np.rint(now / (H[j, j] * scales))
            better = np.clip(wanted, *bound.around(made, j))
            changes[j - start] = (better - made[:, j]) * scales
            made[:, j] = better
        slope -= H[:, start:stop] @ changes
    return made


def round_rows(
    rows: Doubles, covariance: Doubles, bound: Bound, least: Doubles
) -> tuple[Doubles, Doubles]:
    """Integers [r, k] and scales [r] for rows that share their inputs (an ordinary layer)."""
    H = damped(covariance)
    scales = search_scales(rows, H, bound, least)
    return descend(rows, gptq(rows, H, scales, bound), H, scales, bound), scales


def round_depthwise(
    rows: Doubles, covariance: Doubles, limit: int, least: Doubles
) -> tuple[Doubles, Doubles]:
    """The same for rows that each have inputs of their own: covariance [r, k, k]. Every candidate
    scale is rounded by coordinate descent; the best is kept."""
    H, full = damped(covariance), plain_scales(rows, limit)
    best, scales, made = np.full(len(rows), np.inf), full, np.zeros_like(rows)
    for share in SHRINK:
        tried = np.maximum(full * share, least)
        integers = _descend_each(rows, H, tried, limit)
        error = rows - integers * tried[:, None]
        cost = np.einsum("rk,rkl,rl->r", error, H, error)
        wins = cost < best
        made[wins] = integers[wins]
        scales, best = np.where(wins, tried, scales), np.minimum(cost, best)
    return made, scales


def _descend_each(rows: Doubles, H: Doubles, scales: Doubles, limit: int) -> Doubles:
    made = nearest(rows, scales, Bound(limit))
    slope = np.einsum("rk,rkl->rl", rows - made * scales[:, None], H)
    for _ in range(_SWEEPS + 1):
        for j in range(rows.shape[1]):
            step = np.rint(slope[:, j] / (H[:, j, j] * scales))
            better = np.clip(made[:, j] + step, -limit, limit)
            slope -= ((better - made[:, j]) * scales)[:, None] * H[:, j]
            made[:, j] = better
    return made
