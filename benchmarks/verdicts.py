"""How often the gate's verdict is wrong, by simulation, and what other ways would have decided.

    python benchmarks/verdicts.py --pairs 10000

Pairs of models are drawn with a known true decline, agreement or KL divergence, and judged as
``quantlab gate`` judges them. Beside it, on the same pairs: an unpaired z test against the limit, a
fixed threshold on the measured decline, and the two-sided z test of two standard errors with which
lm_eval's model comparator compares two runs.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from quantlab._util.files import write_whole
from quantlab.gate.verdict import ALPHA
from quantlab.stats.paired import (
    Interval,
    bootstrap_mean,
    clopper_pearson,
    decline_of,
    few_difference_p,
    holm,
    paired_decline_p,
    paired_difference,
    paired_difference_p,
    paired_ratio,
    share_p,
    z_value,
)

ACCURACY, LIMIT = 0.72, 0.01
DECLINES = (0.0, 0.005, 0.01, 0.015, 0.03)
CHANGED = (0.03, 0.08, 0.15)
SIZES = (100, 500, 1_800, 10_000, 50_000)
AGREEMENTS = ((0.95, 0.93), (0.95, 0.95), (0.95, 0.97), (0.95, 0.99), (0.99, 0.99))
UNCHANGED = ((20, 1.0), (60, 1.0), (60, 0.5), (60, 3.7 / 60), (300, 0.1), (300, 0.0222))
"""Images, and the share of all on which any output differs: each at least 3.7 in all images seen
(or as many as the model loses). Quantization makes it 1."""
LOSING = 0.03
KL_LIMIT, KLS, KL_SIZES = 0.05, (0.03, 0.05, 0.08), (50, 200, 1_800)
KL_SHAPE = 0.3
"""A gamma distribution of this shape is as spread and as skewed as the KL divergences of the zoo's
int8 MobileNetV2 (standard deviation 1.8 times the mean)."""
CLASS_LIMIT, CLASS_SIZES = 0.1, (1, 5, 10, 50)
Final = Callable[[Sequence[int]], tuple[Interval, float]]
Decide = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Cell:
    """Rates over all pairs. With the truth on the limit pass and fail both count as wrong. ``low``
    and ``high``: the interval lies above or below the truth. ``others``: wrong passes, wrong fails
    and open verdicts of each other way."""

    passes: float
    fails: float
    wrong_pass: float
    wrong_fail: float
    low: float
    high: float
    others: tuple[tuple[float, float, float], ...] = ()

    @property
    def coverage(self) -> float:
        """How often the interval holds the truth."""
        return 1 - self.low - self.high

    @property
    def undecided(self) -> float:
        """Inconclusive ones."""
        return 1 - self.passes - self.fails


def cell(
    draws: Iterable[Sequence[int]],
    final: Final,
    limit: float,
    truth: float,
    others: Sequence[Decide] = (),
) -> Cell:
    """``draws`` are the counts of each pair; ``final`` gives the interval and its p at the limit;
    each of ``others`` says pass, fail or anything else."""
    counted = Counter(map(tuple, draws))
    pairs = counted.total()
    sums = np.zeros(4 + 2 * len(others))
    for counts, times in counted.items():
        interval, p = final(counts)
        fails = interval.low > limit
        assert fails == (p < ALPHA) or abs(p - ALPHA) < 1e-9, (counts, interval, p)
        said = [decide(counts) for decide in others]
        row = [interval.high <= limit, fails, truth < interval.low, truth > interval.high]
        row += [word == status for word in said for status in ("pass", "fail")]
        sums += times * np.array(row)
    passes, fails, low, high, *more = (float(s) / pairs for s in sums)
    beyond, within = truth > limit - 1e-12, truth < limit + 1e-12
    found = [
        (a * beyond, b * within, 1 - a - b) for a, b in zip(more[::2], more[1::2], strict=True)
    ]
    return Cell(passes, fails, passes * beyond, fails * within, low, high, tuple(found))


def shares(decline: float, changed: float) -> tuple[float, float, float, float]:
    """The outcomes' probabilities: both right, lost, gained, neither."""
    net = decline * ACCURACY
    lost, gained = (changed + net) / 2, (changed - net) / 2
    return ACCURACY - lost, lost, gained, 1 - ACCURACY - gained


def decline_cell(
    decline: float, changed: float, n: int, *, relative: bool, pairs: int, seed: int = 0
) -> Cell:
    """Top-1 declines by ``decline`` of fp32's accuracy; a share ``changed`` of the images is right
    with one model only. Judged relative to it, or in points."""
    scale = 1.0 if relative else ACCURACY
    limit, truth = LIMIT * scale, decline * scale

    def final(counts: Sequence[int]) -> tuple[Interval, float]:
        both, lost, gained, _ = counts
        if relative:
            interval = decline_of(paired_ratio(both, lost, gained))
            return interval, paired_decline_p(both, lost, gained, limit)
        interval = paired_difference(lost, gained, n)
        return interval, paired_difference_p(lost, gained, n, limit)

    rng = np.random.default_rng([seed, n, int(1e6 * decline), int(1e6 * changed)])
    draws = rng.multinomial(n, shares(decline, changed), pairs).tolist()
    return cell(draws, final, limit, truth, OTHERS if relative else ())


def _rates(counts: Sequence[int]) -> tuple[float, float, int]:
    both, lost, gained, neither = counts
    n = both + lost + gained + neither
    return (both + lost) / n, (both + gained) / n, n


def unpaired(counts: Sequence[int]) -> str:
    """Pass or fail where the normal interval of two independent accuracies' difference lies on one
    side of the limit, as a share of fp32's accuracy."""
    first, second, n = _rates(counts)
    reach = z_value() * float(np.sqrt((first * (1 - first) + second * (1 - second)) / n))
    loss, limit = first - second, LIMIT * first
    return "pass" if loss + reach <= limit else "fail" if loss - reach > limit else "open"


def threshold(counts: Sequence[int]) -> str:
    """Fail when the measured decline is beyond the limit, else pass."""
    first, second, _ = _rates(counts)
    return "fail" if first - second > LIMIT * first else "pass"


def lm_eval(counts: Sequence[int]) -> str:
    """Fail when the two-sided z test of two accuracies with their standard errors has p < 0.05."""
    first, second, n = _rates(counts)
    error = np.sqrt((first * (1 - first) + second * (1 - second)) / (n - 1))
    z = (first - second) / error if error else 0.0
    return "fail" if 2 * ndtr(-abs(z)) < 0.05 else "pass"


OTHERS: tuple[Decide, ...] = (unpaired, threshold, lm_eval)
NAMES = ("unpaired z", "fixed 1%", "lm_eval")


def agreement_cell(least: float, agreement: float, n: int, *, pairs: int, seed: int = 0) -> Cell:
    """The first answer is the same on ``agreement`` of the images; ``least`` is asked for."""

    def final(counts: Sequence[int]) -> tuple[Interval, float]:
        return clopper_pearson(counts[0], n), share_p(counts[0], n, 1 - least)

    rng = np.random.default_rng([seed, n, int(1e6 * agreement)])
    draws = rng.binomial(n, 1 - agreement, (pairs, 1)).tolist()
    return cell(draws, final, 1 - least, 1 - agreement)


def unchanged_cell(
    differs: float, decline: float, n: int, *, pairs: int, seed: int = 0
) -> tuple[float, float]:
    """How often a model with a true ``decline`` of fp32's accuracy, which only loses images, passes
    because none of its outputs differs, and how often it passes at all. Some output is another one
    on the share ``differs`` of all images, every lost one among them."""
    lost = decline * ACCURACY
    assert lost <= differs <= 1
    kept = (differs - lost) * (ACCURACY - lost)
    same = (1 - differs) * (ACCURACY - lost)
    rest = differs - lost - kept
    rng = np.random.default_rng([seed, n, int(1e6 * differs), int(1e6 * decline)])
    draws = rng.multinomial(n, (lost, kept, rest, same, 1 - differs - same), pairs)
    unseen = draws[:, :3].sum(axis=1) == 0
    within = [
        bool(b + a) and decline_of(paired_ratio(int(b), int(a), 0)).high <= LIMIT
        for a, b in zip(draws[:, 0], draws[:, 1] + draws[:, 3], strict=True)
    ]
    return float(unseen.mean()), float((unseen | np.array(within)).mean())


def kl_cell(kl: float, n: int, *, pairs: int, seed: int = 0) -> Cell:
    """Images' KL divergences with a mean of ``kl``."""
    rng = np.random.default_rng([seed, n, int(1e6 * kl)])
    found = np.zeros(4)
    for number in range(pairs):
        interval = bootstrap_mean(rng.gamma(KL_SHAPE, kl / KL_SHAPE, n), number)
        found += [
            interval.high <= KL_LIMIT,
            interval.low > KL_LIMIT,
            kl < interval.low,
            kl <= interval.high,
        ]
    passes, fails, low, high = (float(f) for f in found / pairs)
    return Cell(passes, fails, passes * (kl >= KL_LIMIT), fails * (kl <= KL_LIMIT), low, high)


def class_errors(n: int, *, pairs: int, classes: int = 1000, seed: int = 0) -> tuple[float, float]:
    """How often any of many classes is said to fall by more than CLASS_LIMIT when all of them fall
    by just that much, and how often a class that falls by half of its images is found."""
    rng = np.random.default_rng([seed, n])

    def p_values(decline: float, size: tuple[int, int]) -> NDArray[np.float64]:
        kept = rng.multinomial(n, (0.05 + decline, 0.05, 0.9 - decline), size)
        known = {
            pair: few_difference_p(*pair, n, CLASS_LIMIT)
            for pair in set(map(tuple, kept[..., :2].reshape(-1, 2).tolist()))
        }
        return np.array([[known[tuple(c)] for c in row] for row in kept[..., :2].tolist()])

    edge = np.sort(p_values(CLASS_LIMIT, (pairs, classes)), axis=1)
    ranks = np.arange(1, classes + 1) / classes
    wrong = float((edge / ranks <= ALPHA).any(axis=1).mean())
    found = float((p_values(0.5, (pairs, 1))[:, 0] * classes <= ALPHA).mean())
    return wrong, found


def family_error(rules: int, n: int, *, pairs: int, seed: int = 0) -> tuple[float, float]:
    """How often any of several independent rules, each just kept, fails: without and with Holm."""
    rng = np.random.default_rng([seed, rules, n])
    draws = rng.multinomial(n, shares(LIMIT, CHANGED[1]), (pairs, rules))[..., :3].tolist()
    known = {
        counts: paired_decline_p(*counts, LIMIT)
        for counts in {tuple(c) for row in draws for c in row}
    }
    p = [[known[tuple(c)] for c in row] for row in draws]
    alone = sum(min(row) <= ALPHA for row in p)
    held = sum(min(holm(row)) <= ALPHA for row in p)
    return alone / pairs, held / pairs


Declines = dict[tuple[int, float, float, bool], Cell]
Agreements = dict[tuple[int, float, float], Cell]
Divergences = dict[tuple[int, float], Cell]
RULE = "--: | --: | --: | --: | --: | --: |"
HEAD = "pass | fail | inconclusive | wrong pass | wrong fail | coverage |"


def page(
    declines: Declines,
    agreements: Agreements,
    kls: Divergences,
    unchanged: dict[tuple[int, float], tuple[float, float]],
    classes: dict[int, tuple[float, float]],
    families: dict[int, tuple[float, float]],
    pairs: int,
    seed: int,
) -> str:
    """The report."""
    every = [*declines.values(), *agreements.values(), *kls.values()]
    lines = [
        "# Verdicts: how often they are wrong",
        "",
        f"Written by `benchmarks/verdicts.py --pairs {pairs} --seed {seed}`.",
        "",
        f"{pairs:,} simulated pairs of models a row. With the truth on the limit, pass and "
        "fail both count as wrong.",
        "",
        f"- The highest rate of wrong passes is {max(c.wrong_pass for c in every):.1%}, of "
        f"wrong fails {max(c.wrong_fail for c in every):.1%}; at most 5% are promised.",
        f"- The lowest coverage of a 95% interval is {min(c.coverage for c in every):.1%}.",
        *_beside(declines),
        *_of_declines(declines),
        *_of_fidelity(agreements, kls),
        *_of_unchanged(unchanged),
        f"## `class.decline <= {100 * CLASS_LIMIT:.0f}pp`, 1,000 classes",
        "",
        "*Any wrong*: a class is said to fall by more when all fall by just that much. "
        "*Found*: one class that loses half of its images net, of 1,000.",
        "",
        "| images a class | any wrong | found |",
        "| --: | --: | --: |",
        *(f"| {n} | {wrong:.1%} | {found:.1%} |" for n, (wrong, found) in classes.items()),
        "",
        "## Several required rules, each just kept",
        "",
        "| rules | any fails, each by itself | with Holm |",
        "| --: | --: | --: |",
        *(f"| {n} | {alone:.1%} | {held:.1%} |" for n, (alone, held) in families.items()),
        "",
    ]
    return "\n".join(lines)


def _beside(declines: Declines) -> list[str]:
    """What other ways of deciding would have made of the same pairs."""
    other = [
        [max(c.others[k][side] for c in declines.values() if c.others) for side in (0, 1, 2)]
        for k in range(len(OTHERS))
    ]
    return [
        *(
            f"- {name}: wrong passes in up to {passes:.0%} and wrong fails in up to "
            f"{fails:.0%} of a row's pairs; up to {open_:.0%} open."
            for name, (passes, fails, open_) in zip(NAMES, other, strict=True)
        ),
        "",
        "- *unpaired z*: the same three verdicts from the normal interval of two independent "
        "accuracies.",
        "- *fixed 1%*: fail when the measured decline is beyond 1%, else pass.",
        "- *lm_eval*: fail when two accuracies differ by a two-sided z test (p < 0.05), as its",
        "  `scripts/model_comparator.py` compares two runs. It asks whether they differ at all "
        "and knows no limit.",
        "",
        "Their cells are wrong pass / wrong fail / open.",
        "",
    ]


def _of_declines(declines: Declines) -> list[str]:
    more = " ".join(f"{name} |" for name in NAMES)
    return [
        f"## `top1.decline <= {LIMIT:.0%}`, fp32 at {ACCURACY:.0%}",
        "",
        "*Changed*: images that only one of the two models gets right.",
        "",
        f"| images | changed | true decline | {HEAD} {more}",
        f"| --: | --: | --: | {RULE} {'--: | ' * len(NAMES)}".rstrip(),
        *(
            f"| {n:,} | {c:.0%} | {d:.1%} | {_row(found)} {_others(found)}"
            for (n, c, d, relative), found in declines.items()
            if relative
        ),
        "",
        f"## `top1.decline <= {100 * LIMIT * ACCURACY:.2f}pp`, the same pairs in points",
        "",
        f"| images | changed | true decline | {HEAD}",
        f"| --: | --: | --: | {RULE}",
        *(
            f"| {n:,} | {c:.0%} | {100 * d * ACCURACY:.2f} points | {_row(found)}"
            for (n, c, d, relative), found in declines.items()
            if not relative
        ),
        "",
    ]


def _of_fidelity(agreements: Agreements, kls: Divergences) -> list[str]:
    return [
        "## `agreement >= 95%`, `agreement >= 99%`",
        "",
        f"| images | limit | true agreement | {HEAD}",
        f"| --: | --: | --: | {RULE}",
        *(
            f"| {n:,} | {least:.0%} | {a:.0%} | {_row(found)}"
            for (n, least, a), found in agreements.items()
        ),
        "",
        f"## `kl <= {KL_LIMIT}`",
        "",
        "Divergences as spread as those of the zoo's int8 MobileNetV2 (gamma of shape "
        f"{KL_SHAPE}); a fifth of the pairs.",
        "",
        f"| images | true KL | {HEAD}",
        f"| --: | --: | {RULE}",
        *(f"| {n:,} | {k} | {_row(found)}" for (n, k), found in kls.items()),
        "",
    ]


def _of_unchanged(unchanged: dict[tuple[int, float], tuple[float, float]]) -> list[str]:
    return [
        "## Taken for unchanged",
        "",
        f"A model that truly declines by {LOSING:.0%}, under `top1.decline <= {LIMIT:.0%}`. "
        "*Differs*: the share of images on which any of its outputs is not fp32's. *Unchanged*: "
        "none of the images shows that, so it passes; *wrong pass*: by that or by the interval.",
        "",
        "| images | differs | unchanged | wrong pass |",
        "| --: | --: | --: | --: |",
        *(
            f"| {n:,} | {share:.1%} | {alone:.1%} | {wrong:.1%} |"
            for (n, share), (alone, wrong) in unchanged.items()
        ),
        "",
    ]


def _row(c: Cell) -> str:
    rates = (c.passes, c.fails, c.undecided, c.wrong_pass, c.wrong_fail, c.coverage)
    return " ".join(f"{max(0.0, rate):.1%} |" for rate in rates)


def _others(c: Cell) -> str:
    return " ".join(f"{a:.0%} / {b:.0%} / {max(0.0, o):.0%} |" for a, b, o in c.others)


def main() -> int:
    """Writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/verdicts.md"))
    options = parser.parse_args()
    execution = {"pairs": options.pairs, "seed": options.seed}
    fewer = {**execution, "pairs": max(1, options.pairs // 5)}
    text = page(
        {
            (n, c, d, relative): decline_cell(d, c, n, relative=relative, **execution)
            for relative in (True, False)
            for n in SIZES
            for c in CHANGED
            for d in DECLINES
        },
        {
            (n, least, a): agreement_cell(least, a, n, **execution)
            for n in SIZES
            for least, a in AGREEMENTS
        },
        {(n, k): kl_cell(k, n, **fewer) for n in KL_SIZES for k in KLS},
        {(n, share): unchanged_cell(share, LOSING, n, **execution) for n, share in UNCHANGED},
        {n: class_errors(n, **fewer) for n in CLASS_SIZES},
        {rules: family_error(rules, 10_000, **execution) for rules in (1, 2, 4, 8)},
        **execution,
    )
    write_whole(options.out, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
