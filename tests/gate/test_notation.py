"""What must hold: the one notation, and older spellings of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.errors import RecipeError
from quantlab.gate.criteria import (
    AccuracyCriterion,
    AgreementCriterion,
    ClassCriterion,
    DivergenceCriterion,
    LatencyCriterion,
    MetricCriterion,
    SizeCriterion,
)
from quantlab.gate.criterion import Criterion
from quantlab.gate.notation import (
    examples,
    parse_criterion,
    parse_decline,
    parse_line,
    spelled_now,
)


@pytest.mark.parametrize(
    ("text", "criterion"),
    [
        ("top1.decline <= 1%", AccuracyCriterion()),
        ("top1.decline <= 0.25pp", AccuracyCriterion(max_decline=0.0025, kind="absolute")),
        ("top5.decline <= 0.1%", AccuracyCriterion(max_decline=0.001, metric="top5")),
        ("class.decline <= 10pp", ClassCriterion(of_class=0.1)),
        ("agreement >= 99.5%", AgreementCriterion(least=0.995)),
        ("kl <= 0.002", DivergenceCriterion(most=0.002)),
        ("latency.p50.ratio <= 0.6", LatencyCriterion(ratio=0.6)),
        ("size <= 4MB", SizeCriterion(most_bytes=4_000_000)),
        ("size <= 4.5MB", SizeCriterion(most_bytes=4_500_000)),
        ("size <= 900B", SizeCriterion(most_bytes=900)),
        ("pkg.mod:score.decline <= 2%", MetricCriterion(max_decline=0.02, metric="pkg.mod:score")),
        ("mod:f.decline <= 1pp", MetricCriterion(kind="absolute", metric="mod:f")),
    ],
)
def test_what_is_written_is_read(text: str, criterion: Criterion) -> None:
    line = parse_line(text)
    assert (line.criterion, line.level, line.old) == (criterion, None, False)
    assert criterion.written == line.written == spelled_now(text) == text
    assert parse_line(f"{text}, advisory").level == "advisory"
    assert parse_line(f"{text} ,required").written == f"{text}, required"
    assert parse_criterion(text, tolerance=0.25).tolerance == 0.25


@pytest.mark.parametrize(
    ("text", "now"),
    [
        ("1%", "top1.decline <= 1%"),
        (" .5pp", "top1.decline <= 0.5pp"),
        ("0.5 points", "top1.decline <= 0.5pp"),
        ("top1 1pp", "top1.decline <= 1pp"),
        ("top5 1%", "top5.decline <= 1%"),
        ("mod:f 1%", "mod:f.decline <= 1%"),
        ("agree>=96%", "agreement >= 96%"),
        (" Agree >= 99.5 % ", "agreement >= 99.5%"),
        ("kl<=0.01", "kl <= 0.01"),
        ("KL<= .002", "kl <= 0.002"),
        ("top1.decline > 1%", "top1.decline <= 1%"),
        ("agree < 95%", "agreement >= 95%"),
        ("agreement < 95%, advisory", "agreement >= 95%, advisory"),
        ("kl>0.02,off", "kl <= 0.02, off"),
        ("latency.p50.ratio > 1.05, required", "latency.p50.ratio <= 1.05, required"),
        ("size > 4MB", "size <= 4MB"),
        ("m:f.decline > 2%", "m:f.decline <= 2%"),
    ],
)
def test_an_older_spelling_is_read_as_what_it_meant(text: str, now: str) -> None:
    line = parse_line(text)
    assert line.old
    assert line.written == spelled_now(text) == now
    assert line.criterion == parse_line(now).criterion


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("top1.declne <= 1%", "Did you mean top1.decline, as in 'top1.decline <= 1%'?"),
        ("latency.p90.ratio <= 2", "Did you mean latency.p50.ratio"),
        ("agrement >= 95%", "Did you mean agreement"),
        ("f1 > 1%", "There are top1.decline, top5.decline, agreement"),
        ("agreement <= 95%", "is agreement >= LIMIT.\nFor example 'agreement >= 95%'"),
        ("agree > 95%", "For example 'agreement >= 95%'"),
        ("kl>=1", "what must hold is kl <= LIMIT.\nFor example 'kl <= 0.02'"),
        ("kl == 1", "For example 'kl <= 0.02'"),
        ("top1.decline < 1%", "For example 'top1.decline <= 1%'"),
        ("top1.decline <= 1", "'1' has no unit.\nFor example 'top1.decline <= 1%'"),
        ("top1.decline <= 100%", "'100%' is no limit for top1.decline"),
        ("class.decline <= 10%", "For example 'class.decline <= 10pp'"),
        ("class.decline <= 10", "'10' has no unit"),
        ("class.decline <= 0pp", "is no limit"),
        ("agreement >= 0%", "is no limit"),
        ("agree>=101%", "is no limit"),
        ("agreement >= 96", "'96' has no unit.\nFor example 'agreement >= 95%'"),
        ("kl <= much", "For example 'kl <= 0.02'"),
        ("kl <= nan", "is no limit"),
        ("kl <= -1", "is no limit"),
        ("latency.p50.ratio <= 0", "is no limit"),
        ("latency.p50.ratio <= 1ms", "is no limit"),
        ("size <= 4", "'4' has no unit.\nFor example 'size <= 4MB'."),
        ("size > 4000000, advisory", "'4000000' has no unit.\nFor example 'size <= 4MB'."),
        ("size <= 4 apples", "For example 'size <= 4MB'"),
        ("size <= 0", "For example 'size <= 4MB'"),
        ("my:f.decline <= x", "For example 'my:f.decline <= 1%'"),
        ("mod:f.decline <= 100%", "is no limit"),
        ("kl <= 0.02, must", "required, advisory or off, not 'must'"),
        *((text, "does not say what must hold.\nWrite for example 'top1.decline <= 1%'")
          for text in ("", "1", "nonsense", "top5", "top6 1%", "mod: 1%", "mod:f", "a b:f 1%",
                       "100%", "1% 1%", "1%\n2%")),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_the_nearest_right_one(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_line(text)
    assert words in str(caught.value)
    assert spelled_now(text) == text


@given(st.text(alphabet="topagrekl15.<>=%pMB, :m", max_size=30))
def test_no_text_is_more_than_refused(text: str) -> None:
    try:
        line = parse_line(text)
    except RecipeError:
        return
    again = parse_line(line.written)
    assert (again.written, again.old) == (line.written, False)


def test_what_tune_cannot_hold_to_and_levels_of_one_criterion() -> None:
    for text in ("size <= 4MB", "class.decline <= 10pp", "latency.p50.ratio <= 1"):
        assert parse_criterion(text).written == text
        with pytest.raises(RecipeError, match="is for judge and gate"):
            parse_criterion(text, tuning=True)
    with pytest.raises(RecipeError, match="a level is for the rules of a gate"):
        parse_criterion("kl <= 1, required")


def test_every_example_is_read_and_its_own() -> None:
    assert [parse_line(text).criterion.name for text in examples().values()] == list(examples())


@pytest.mark.parametrize(
    ("text", "limit", "kind", "shown"),
    [
        ("1%", 0.01, "relative", "1%"),
        (" 0.25 % ", 0.0025, "relative", "0.25%"),
        ("1pp", 0.01, "absolute", "1 point"),
        ("0.5 points", 0.005, "absolute", "0.5 points"),
    ],
)
def test_the_limit_of_a_decline_alone(text: str, limit: float, kind: str, shown: str) -> None:
    found = parse_decline(text)
    assert (found.limit, found.kind, found.limit_text) == (pytest.approx(limit), kind, shown)
    own = parse_decline(text, "m:f", tolerance=0.1)
    assert (type(own), own.metric, own.tolerance) == (MetricCriterion, "m:f", 0.1)


def test_a_limit_alone_may_also_be_a_whole_line() -> None:
    assert parse_decline("top5.decline <= 0.5pp", tolerance=0.01).metric == "top5"
    assert parse_decline("top5.decline <= 0.5pp", tolerance=0.01).tolerance == 0.01
    for text in ("kl <= 1", "5", ""):
        with pytest.raises(RecipeError, match="is not a limit for the decline"):
            parse_decline(text)
