"""How often ``compare --early-stop`` errs and how much it saves, by simulation.

    python benchmarks/early_stop.py --pairs 2000

Pairs of models are drawn with a known true decline (or agreement). Each pair is looked at after
every block, as by the command, and stops where the criterion is certain; a pair that never is gets
the usual verdict on all images.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab._util.files import write_whole
from quantlab.stats.anytime import ALPHA, Values, decline_values, log_stake, share_values
from quantlab.stats.paired import Interval, decline_of, paired_ratio, wilson
from quantlab.verbs.sequential_evaluation import BLOCK

IMAGES, ACCURACY, LIMIT, LEAST = 50_000, 0.72, 0.01, 0.96
DECLINES = (0.0, 0.005, 0.01, 0.015, 0.04)
ALIKE = (0.97, 0.95, 0.92)
AGREEMENTS = (0.98, 0.97, 0.96, 0.95, 0.92)
AT_ONCE = 250
FIRST_NAIVE = 1000
"""Images before the naive rule first looks: before that a normal interval is no interval."""
Counts = NDArray[np.float64]
Final = Callable[[Counts], Interval]


@dataclass(frozen=True)
class Cell:
    """Rates over all pairs. With the truth on the limit pass and fail both count as wrong. ``used``
    is the mean share of images seen; ``misses``: it stopped early with an interval that misses the
    truth; ``naive``: the more frequent wrong verdict when the usual interval is looked at after
    every block instead."""

    passes: float
    fails: float
    wrong_pass: float
    wrong_fail: float
    used: float
    misses: float
    naive: float


def simulate(
    shares: Sequence[float],
    values: Values,
    limit: float,
    truth: float,
    final: Final,
    *,
    pairs: int,
    images: int = IMAGES,
    seed: int = 0,
) -> Cell:
    """``shares`` are the outcomes' true probabilities, ``truth`` the true loss; ``final`` is the
    interval on all images."""
    rng = np.random.default_rng([seed, int(1e6 * truth), int(1e6 * shares[1])])
    parts = [
        _pairs(rng, shares, values, limit, truth, final, min(AT_ONCE, pairs - start), images)
        for start in range(0, pairs, AT_ONCE)
    ]
    columns = (np.concatenate(column) for column in zip(*parts, strict=True))
    passes, fails, used, misses, naive_pass, naive_fail = (float(c.mean()) for c in columns)
    beyond, within = truth > limit - 1e-12, truth < limit + 1e-12
    return Cell(
        passes=passes,
        fails=fails,
        wrong_pass=passes * beyond,
        wrong_fail=fails * within,
        used=used,
        misses=misses,
        naive=max(naive_pass * beyond, naive_fail * within),
    )


def _pairs(
    rng: np.random.Generator,
    shares: Sequence[float],
    values: Values,
    limit: float,
    truth: float,
    final: Final,
    pairs: int,
    images: int,
) -> tuple[NDArray[np.generic], ...]:
    """One entry a pair: passes, fails, share used, interval misses, naive pass, naive fail."""
    blocks = np.full(-(-images // BLOCK), BLOCK)
    blocks[-1] = images - blocks[:-1].sum()
    counts = rng.multinomial(blocks, shares, size=(pairs, len(blocks))).cumsum(1).astype(np.float64)
    at_limit, enough = values(limit), -np.log(ALPHA)
    kept, broken = (log_stake(counts, sign * at_limit) >= enough for sign in (-1, 1))
    at, early = _first(kept | broken)
    rows = np.arange(pairs)
    passes, fails = kept[rows, at] & early, broken[rows, at] & early
    for row in np.flatnonzero(~early):
        whole = final(counts[row, -1])
        passes[row], fails[row] = whole.high <= limit, whole.low > limit
    stopped = counts[rows, at]
    stakes = [log_stake(stopped, sign * values(truth)) for sign in (-1, 1)]
    misses = early & (np.maximum(*stakes) >= enough)
    used = stopped.sum(-1) / images
    return passes, fails, used, misses, *_naive(counts, at_limit)


def _naive(counts: Counts, values: Counts) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pairs pass and fail where the mean of ``values`` first lies 1.96 standard errors from
    0."""
    n = counts.sum(-1)
    mean, square = counts @ values / n, counts @ values**2 / n
    score = mean / np.sqrt(np.maximum(square - mean**2, 1e-12) / n)
    score[:, : FIRST_NAIVE // BLOCK] = 0
    at, ended = _first(np.abs(score) > 1.96)
    found = score[np.arange(len(score)), at]
    return ended & (found < 0), ended & (found > 0)


def _first(events: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Of each row the first column that is true, else the last, and whether there is one."""
    there = events.any(1)
    return np.where(there, events.argmax(1), events.shape[1] - 1), there


def decline_cell(decline: float, alike: float, **options: int) -> Cell:
    """Top-1 declines by ``decline`` of fp32's accuracy; ``alike`` images are right or wrong with
    both models."""
    net, changed = decline * ACCURACY, 1 - alike
    lost, gained = (changed + net) / 2, (changed - net) / 2
    shares = (ACCURACY - lost, lost, gained, 1 - ACCURACY - gained)

    def final(counts: Counts) -> Interval:
        return decline_of(paired_ratio(*counts[:3].tolist()))

    return simulate(shares, decline_values("relative"), LIMIT, decline, final, **options)


def agreement_cell(agreement: float, **options: int) -> Cell:
    """The first answer is the same on ``agreement`` of the images; LEAST is asked for."""

    def final(counts: Counts) -> Interval:
        return wilson(counts[1], counts.sum())

    shares = (agreement, 1 - agreement)
    return simulate(shares, share_values, 1 - LEAST, 1 - agreement, final, **options)


def page(
    declines: dict[tuple[float, float], Cell], agreements: dict[float, Cell], pairs: int, seed: int
) -> str:
    """The report."""
    head = "pass | fail | wrong pass | wrong fail | images used | interval misses | naive: wrong |"
    rule = "--: | --: | --: | --: | --: | --: | --: |"
    cells = [*declines.values(), *agreements.values()]
    wrong = max(max(c.wrong_pass, c.wrong_fail) for c in cells)
    clear = [c for (decline, _), c in declines.items() if decline in (0.0, 0.04)]
    return "\n".join(
        [
            "# Early stop: error rates and images saved",
            "",
            f"Written by `benchmarks/early_stop.py --pairs {pairs} --seed {seed}`.",
            "",
            f"{pairs:,} simulated pairs of models a row, {IMAGES:,} images each, a look after "
            f"every {BLOCK}.",
            "A pair that is never certain gets the usual verdict on all images, so pass and fail "
            "need not make 100%.",
            "",
            f"- The highest rate of wrong verdicts is {wrong:.1%}; at most 5% are promised.",
            f"- With a true decline of 0 or 4%, at least {1 - max(c.used for c in clear):.0%} of "
            "the images are saved.",
            "- *Interval misses*: stopped early with a sequential interval that misses the truth "
            "(at most 5% are promised).",
            "- *Naive*: the more frequent wrong verdict if the usual 95% interval were looked at "
            f"after every block from {FIRST_NAIVE:,} images on.",
            "- With the truth on the limit, pass and fail both count as wrong.",
            "",
            f"## `--max-decline {LIMIT:.0%}`, fp32 at {ACCURACY:.0%}",
            "",
            "*Alike*: images on which both models are right, or both wrong.",
            "",
            f"| true decline | alike | {head}",
            f"| --: | --: | {rule}",
            *(f"| {d:.1%} | {a:.0%} | {_row(cell)}" for (d, a), cell in declines.items()),
            "",
            f"## `--criterion 'agreement >= {LEAST:.0%}'`",
            "",
            f"| true agreement | {head}",
            f"| --: | {rule}",
            *(f"| {a:.0%} | {_row(cell)}" for a, cell in agreements.items()),
            "",
        ]
    )


def _row(c: Cell) -> str:
    rates = (c.passes, c.fails, c.wrong_pass, c.wrong_fail, c.used, c.misses, c.naive)
    return " ".join(f"{rate:.1%} |" for rate in rates)


def main() -> int:
    """Writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/early-stop.md"))
    options = parser.parse_args()
    execution = {"pairs": options.pairs, "seed": options.seed}
    declines = {(d, a): decline_cell(d, a, **execution) for a in ALIKE for d in DECLINES}
    agreements = {a: agreement_cell(a, **execution) for a in AGREEMENTS}
    text = page(declines, agreements, **execution)
    write_whole(options.out, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
