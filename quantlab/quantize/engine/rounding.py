"""Round weights to integers: to nearest, or minimizing the layer's output error.

The output's error for rows e = W − Ŵ is tr(e H eᵀ), H the covariance of the layer's inputs (the
mean is the bias's business). It is made small in three steps: a scale a row by search, GPTQ's
rounding with error feedback (Frantar et al. 2022, after Hassibi and Stork's optimal brain surgeon
1993), then coordinate descent, which moves single integers as long as that helps.
"""

from __future__ import annotations

import numpy as np

from quantlab.quantize.engine.grid import Doubles

DAMPING = 0.05
"""Added to H's diagonal, as a share of its mean: the covariance is an estimate."""
SHRINK = np.linspace(1.0, 0.7, 13)
"""Candidate scales, as shares of the one that reaches the row's largest weight."""
_SWEEPS = 2
_BLOCK = 64


def plain_scales(rows: Doubles, limit: int) -> Doubles:
    """The scale of each row that puts its largest weight on the last integer, [r] of [r, k]."""
    return np.asarray(np.maximum(np.abs(rows).max(1) / limit, 1e-30))


def nearest(rows: Doubles, scales: Doubles, limit: int) -> Doubles:
    """The nearest integers, [r, k], within ±limit."""
    return np.clip(np.rint(rows / scales[:, None]), -limit, limit)


def damped(covariance: Doubles) -> Doubles:
    """H [..., k, k] with DAMPING times its mean diagonal added to the diagonal."""
    size = covariance.shape[-1]
    level = np.trace(covariance, axis1=-2, axis2=-1)[..., None, None] / size
    return np.asarray(covariance + (DAMPING * level + 1e-12) * np.eye(size))


def search_scales(rows: Doubles, H: Doubles, limit: int, least: Doubles) -> Doubles:
    """The candidate scale of each row with the least output error under nearest rounding, [r].

    ``least`` [r] bounds the scales from below.
    """
    full = plain_scales(rows, limit)
    best, found = np.full(len(rows), np.inf), full
    for share in SHRINK:
        scales = np.maximum(full * share, least)
        error = rows - nearest(rows, scales, limit) * scales[:, None]
        cost = ((error @ H) * error).sum(1)
        found = np.where(cost < best, scales, found)
        best = np.minimum(cost, best)
    return found


def gptq(rows: Doubles, H: Doubles, scales: Doubles, limit: int) -> Doubles:
    """Integers [r, k]: columns are rounded one by one, by falling input power, and what each
    loses is made up for by the columns that are still to come."""
    order = np.argsort(-np.diag(H), kind="stable")
    upper = np.linalg.cholesky(np.linalg.inv(H[np.ix_(order, order)])).T
    left, made = rows[:, order].copy(), np.empty_like(rows)
    for start in range(0, rows.shape[1], _BLOCK):
        stop = min(start + _BLOCK, rows.shape[1])
        lost = np.empty((len(rows), stop - start))
        for j in range(start, stop):
            made[:, j] = np.clip(np.rint(left[:, j] / scales), -limit, limit)
            lost[:, j - start] = (left[:, j] - made[:, j] * scales) / upper[j, j]
            left[:, j:stop] -= np.outer(lost[:, j - start], upper[j, j:stop])
        left[:, stop:] -= lost @ upper[start:stop, stop:]
    integers = np.empty_like(made)
    integers[:, order] = made
    return integers


def descend(rows: Doubles, integers: Doubles, H: Doubles, scales: Doubles, limit: int) -> Doubles:
    """Coordinate descent: each integer in turn to its best value given the others, twice around."""
    made = integers.copy()
    slope = (rows - made * scales[:, None]) @ H
    for _ in range(_SWEEPS):
        for j in range(rows.shape[1]):
            better = np.clip(made[:, j] + np.rint(slope[:, j] / (H[j, j] * scales)), -limit, limit)
            change = (better - made[:, j]) * scales
            if change.any():
                made[:, j] = better
                slope -= np.outer(change, H[j])
    return made


def round_rows(
    rows: Doubles, covariance: Doubles, limit: int, least: Doubles
) -> tuple[Doubles, Doubles]:
    """Integers [r, k] and scales [r] for rows that share their inputs (an ordinary layer)."""
    H = damped(covariance)
    scales = search_scales(rows, H, limit, least)
    return descend(rows, gptq(rows, H, scales, limit), H, scales, limit), scales


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
    made = nearest(rows, scales, limit)
    slope = np.einsum("rk,rkl->rl", rows - made * scales[:, None], H)
    for _ in range(_SWEEPS + 1):
        for j in range(rows.shape[1]):
            step = np.rint(slope[:, j] / (H[:, j, j] * scales))
            better = np.clip(made[:, j] + step, -limit, limit)
            slope -= ((better - made[:, j]) * scales)[:, None] * H[:, j]
            made[:, j] = better
    return made
