from __future__ import annotations

import pytest

from quantlab.errors import RecipeError
from quantlab.gate.criteria import (
    AgreementPolicy,
    Criterion,
    DivergencePolicy,
    Policy,
    parse_criterion,
    parse_policy,
)
from quantlab.stats.paired import Interval


@pytest.mark.parametrize(
    ("text", "criterion", "limit", "words"),
    [
        ("1%", Policy(), 0.01, "1%"),
        (" .5pp", Policy(max_decline=0.005, kind="absolute"), 0.005, "0.5 points"),
        ("top1 1pp", Policy(kind="absolute"), 0.01, "1 point"),
        ("top5 0.1%", Policy(max_decline=0.001, metric="top5"), 0.001, "0.1%"),
        ("agree>=96%", AgreementPolicy(least=0.96), 0.04, "96%"),
        (" Agree >= 99.5 % ", AgreementPolicy(least=0.995), 0.005, "99.5%"),
        ("kl<=0.01", DivergencePolicy(most=0.01), 0.01, "0.01 nats"),
        ("KL <= .002", DivergencePolicy(most=0.002), 0.002, "0.002 nats"),
        ("pkg.mod:score 2%", Policy(max_decline=0.02, metric="pkg.mod:score"), 0.02, "2%"),
        ("mod:f 1pp", Policy(kind="absolute", metric="mod:f"), 0.01, "1 point"),
    ],
)
def test_criteria_are_read(text: str, criterion: Criterion, limit: float, words: str) -> None:
    read = parse_criterion(text)
    assert read == criterion
    assert read.limit == pytest.approx(limit)
    assert read.limit_text == words
    assert read.tolerance == 0
    assert parse_criterion(text, tolerance=0.25).tolerance == 0.25


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "top6 1%", "top5", "agree>=96", "agree<=4%", "agree>=0%", "agree>=101%"),
        *("kl>=1", "kl<=-1", "kl<=nan", "mod: 1%", "mod:f", "a b:f 1%", "mod:f 100%"),
        *("1% 1%", "1%\n2%"),
    ],
)
def test_other_criteria_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"is not a criterion\.\nWrite 1%"):
        parse_criterion(text)


def test_losses_in_words() -> None:
    interval = Interval(0.0123, 0.04)
    shown = {
        c.title: (c.amount(0.028), c.gap(0.008), c.span(interval))
        for c in map(parse_criterion, ("1%", "top5 1pp", "m:f 1%", "agree>=96%", "kl<=0.01"))
    }
    assert shown == {
        "top-1 decline": ("2.8%", "0.8%", "1.23% to 4.00%"),
        "top-5 decline": ("2.8 points", "0.8 points", "1.23 to 4.00 points"),
        "m:f decline": ("2.8%", "0.8%", "1.23% to 4.00%"),
        "agreement with fp32": ("97.2%", "0.8 points", "96.00% to 98.77%"),
        "KL divergence from fp32": ("0.028 nats", "0.008 nats", "0.0123 to 0.04 nats"),
    }


def test_a_limit_alone_is_still_a_policy() -> None:
    assert parse_policy("1%", "top5", tolerance=0.1) == Policy(metric="top5", tolerance=0.1)
