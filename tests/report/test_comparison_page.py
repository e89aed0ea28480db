from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from pages import CONTEXT, made

from quantlab.compare.compare import compare
from quantlab.compare.comparison import Comparison
from quantlab.data.dataset import ImageProblem
from quantlab.gate.criterion import Finding
from quantlab.gate.notation import parse_criterion, parse_decline
from quantlab.gate.verdict import judge, verdict_of
from quantlab.report import comparison_tables
from quantlab.report.advice import shortfall
from quantlab.report.comparison_page import finding, report_page, unjudged_page
from quantlab.report.context import ReportContext, TrialRow, Unfinished
from quantlab.report.markdown import markdown
from quantlab.report.pays_off import worth
from quantlab.report.verdict import _WORDS
from quantlab.testing import fake_predictions
from quantlab.tune.reverted_groups import Reverted

ZOO = replace(CONTEXT, zoo=True)


def _page(comparison: Comparison, context: ReportContext = CONTEXT, limit: str = "1%") -> str:
    return markdown(report_page(comparison, judge(comparison, parse_decline(limit)), context), {})


def _tables(page: str) -> int:
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(page)
    return sum(token.type == "table_open" for token in tokens)


def test_the_verdict_is_the_first_line() -> None:
    assert _page(made(), limit="20%").startswith("# PASS: zoo-int8, top-1 decline ")
    assert _page(made(5000, 0.3), limit="0.1%").startswith("# FAIL: zoo-int8, top-1 decline ")


def test_the_zoos_phrase() -> None:
    pattern = (
        r"> Compared with the fp32 zoo, int8 zoo-int8's Top-1 accuracy decline ratio is -?[\d.]+%, "
        r"Top-5 accuracy decline ratio is -?[\d.]+% and performance improvement is 2\.0\dx\."
    )
    assert re.search(pattern, _page(made(), ZOO))
    assert "decline ratio" not in _page(made())


@pytest.mark.parametrize("n", [20, 1300])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("flip", [0.0, 0.1])
def test_pages_are_markdown_with_narrow_tables(n: int, labelled: bool, flip: float) -> None:
    page = _page(made(n, flip, labelled=labelled))
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert max(map(len, tables)) < 100
    assert _tables(page) == len(re.findall(r"^\| -", page, re.MULTILINE))
    assert "\n\n\n" not in page
    assert "None" not in page
    assert "nan" not in page


def test_few_images_and_unlabelled_ones_lead_with_agreement() -> None:
    for comparison in (made(20), made(500, labelled=False)):
        page = _page(comparison)
        assert page.splitlines()[0].startswith("# INCONCLUSIVE: ")
        assert "zoo-int8 agrees with fp32 on " in page.splitlines()[0]
        accuracy = page.find("## Accuracy")
        assert accuracy == -1 or page.index("## Fidelity") < accuracy
    assert "too few to quote" in _page(made(20), ZOO)
    assert page.count("Top-1") == 0


def test_a_title_says_why_nothing_was_measured() -> None:
    """Whatever was found; that the images are too few is said of what was measured alone."""
    comparison = made(500)
    criterion = parse_criterion("top1.decline <= 1%")
    for cause in (*_WORDS, "another"):
        verdict = verdict_of(criterion, Finding(cause=cause, leads_with="agreement"))
        assert "are too few" not in finding(comparison, verdict), cause
    assert finding(comparison, verdict).startswith("no top-1 decline to judge by; zoo-int8 agrees")


def test_conditions_recipe_and_command_are_there() -> None:
    comparison = made()
    page = _page(comparison)
    for text in (
        f"`{comparison.fp32.sha256}`",
        f"`{comparison.int8.sha256}`",
        f"`{comparison.data_digest}`",
        "AVX-512 VNNI",
        "- conv1\n- conv2\n",
        "```\nquantlab compare a.onnx b.onnx\n```",
        "- **Note:** This CPU has no VNNI.",
    ):
        assert text in page


def test_tuning_and_problems() -> None:
    context = replace(
        CONTEXT,
        trials=(
            TrialRow(
                "qdq-mean",
                top1=0.79,
                decline=0.012,
                agreement=0.95,
                kl=0.016,
                speedup=2.0,
                size_bytes=3_700_000,
                chosen=True,
            ),
            TrialRow("qdq-entropy", error="out of memory"),
        ),
        shortfall="The best declines by 1.2%, 0.2% more than allowed.",
        suggestions=("More calibration images.",),
        problems=tuple(ImageProblem(f"{i}.jpg", "truncated") for i in range(12)),
    )
    page = _page(made(), context)
    assert "**No recipe met the criterion.** The best declines by 1.2%" in page
    assert re.search(r"\| → qdq-mean +\| 79.00%", page)
    assert "- `qdq-entropy` failed: out of memory" in page
    assert "- More calibration images." in page
    assert "12 images are left out; the first 10:" in page
    assert "`9.jpg`: truncated" in page
    assert "`10.jpg`" not in page


def test_two_kinds_of_kl_have_a_column_each() -> None:
    rows = (
        TrialRow("scored", calibration_kl=0.0081),
        TrialRow("evaluated", calibration_kl=0.0004, kl=0.0124, images=100, int8_macs=0.995),
        TrialRow("stopped", calibration_kl=0.5, kl=0.25, images=40),
    )
    table = comparison_tables.trials(rows)
    assert table.head == ["recipe", "KL calib.", "images", "KL eval.", "int8 MACs"]
    assert table.rows == [
        ["scored", "0.0081", "–", "–", "–"],
        ["evaluated", "0.0004", "100", "0.0124", "99.5%"],
        ["stopped", "0.5000", "40", "0.2500", "–"],
    ]
    assert "images" not in comparison_tables.trials(rows[:2]).head
    page = _page(made(), replace(CONTEXT, trials=rows))
    assert re.search(r"^\| recipe +\| KL calib\. +\| images +\| KL eval\. +\|", page, re.M)


ENDED = Unfinished(
    limit="the time budget of 20s",
    untried=("qoperator", "ort"),
    unevaluated=("plain",),
    later="keeping groups in fp32",
    command="quantlab tune --resume runs/x --budget 40s",
)


def test_a_tune_that_a_limit_ended_says_so_first() -> None:
    line = (
        "Ended by the time budget of 20s: not tried: qoperator, ort; only scored, not evaluated: "
        "plain; not begun: keeping groups in fp32. To go on: "
        "`quantlab tune --resume runs/x --budget 40s`"
    )
    context = replace(CONTEXT, unfinished=ENDED)
    first, title, *_ = _page(made(), context, "20%").split("\n\n")
    assert first == line
    assert title.startswith("# PASS: ")
    slow = made(int8_ms=20)
    first, pays, title, *rest = _page(slow, context, "20%").split("\n\n")
    assert (first, pays) == (line, worth(slow))
    assert title.startswith("# PASS: ")
    assert worth(slow) not in "\n\n".join(rest)
    nothing = markdown(unjudged_page(context), {})
    assert nothing.splitlines()[0] == line


def test_that_int8_does_not_pay_comes_right_after_the_verdict() -> None:
    slow = made(int8_ms=20)
    title, pays, *_ = _page(slow, limit="20%").split("\n\n")
    assert title.startswith("# PASS: ")
    assert pays == worth(slow)
    assert "does not pay" not in _page(made())


def test_what_stays_in_fp32_and_what_was_not_measured() -> None:
    reverted = (
        Reverted(
            nodes=("conv1", "relu1"),
            kl=0.0035,
            kl_by="trials",
            top1=0.0025,
            time=0.012,
            time_by="plain files",
        ),
        Reverted(nodes=("conv2",), kl=0.001, kl_by="ranking"),
    )
    context = replace(CONTEXT, trials=(TrialRow("one"),), reverted=reverted)
    page = _page(made(), context)
    first, second = re.findall(r"^\| (conv[12].*) \|$", page, re.M)
    assert re.split(r" *\| *", first) == [
        "conv1, relu1", "0.00350 (trials)", "0.25 points", "+1.2% (plain files)",
    ]  # fmt: skip
    assert re.split(r" *\| *", second) == [
        "conv2", "0.00100 (ranking)", "not measured", "not measured",
    ]  # fmt: skip


@pytest.mark.parametrize("output", ["", "best.onnx"])
def test_without_any_evaluation_there_are_the_trials(output: str) -> None:
    trials = (TrialRow("one", kl=0.01), TrialRow("two", error="bad"))
    page = markdown(unjudged_page(replace(CONTEXT, trials=trials, output=output)), {})
    assert page.startswith("# No verdict")
    assert ("`best.onnx`" in page) == bool(output)
    assert "| one " in page
    assert "- `two` failed: bad" in page
    assert "- CPU: Some CPU" in page
    assert "```\nquantlab compare a.onnx b.onnx\n```" in page
    assert "\n\n\n" not in page


def test_names_cannot_break_the_page() -> None:
    page = _page(made())
    assert "kind <" not in page
    assert "kind &lt;" in page


@pytest.mark.parametrize("n", [50, 1300])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "agreement >= 10%",
            r"# PASS: fake-int8, agreement with fp32 \d+(\.\d+)?% \(95% interval ",
        ),
        ("agreement >= 99.99%", r"# FAIL: fake-int8, agreement with fp32 [\d.]+% .*, limit 99.99%"),
        ("kl <= 5", r"# PASS: fake-int8, KL divergence from fp32 [\d.]+ nats .*, limit 5 nats"),
        ("kl <= 0.00001", r"# FAIL: fake-int8, KL divergence from fp32 .*, limit 1e-05 nats"),
        (
            "my:score.decline <= 90%",
            r"# PASS: fake-int8, my:score decline -?[\d.]+% \(95% interval ",
        ),
        (
            "my:loss.decline <= 1%",
            r"# INCONCLUSIVE: fp32's mean my:loss is not above 0; fake-int8 agrees",
        ),
    ],
)
def test_every_criterion_has_its_page(n: int, labelled: bool, text: str, line: str) -> None:
    metrics = {"my:score": lambda out, _: out.max(1), "my:loss": lambda out, _: -out.max(1)}
    comparison = compare(
        fake_predictions(n, 30, 0, 1, labelled),
        fake_predictions(n, 30, 0.4, 1, labelled),
        metrics=metrics,
    )
    verdict = judge(comparison, parse_criterion(text))
    page = markdown(report_page(comparison, verdict, CONTEXT), {})
    assert re.match(line, page.splitlines()[0])
    assert verdict.reason in page
    assert "## Your metrics" in page
    assert max(len(row) for row in page.splitlines() if row.startswith("|")) < 100
    assert _tables(page) == len(re.findall(r"^\| -", page, re.MULTILINE))
    assert "None" not in page
    accuracy = page.find("## Accuracy")
    if not text.startswith("my") and accuracy >= 0:
        assert page.index("## Fidelity") < accuracy


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1%", r"The best one declines by [\d.]+%, [\d.]+% more than the limit of 1%\."),
        (
            "top5.decline <= 0.1pp",
            r"declines by [\d.]+ points? in top-5, .* more than the limit of 0.1 p",
        ),
        (
            "agreement >= 99%",
            r"one's agreement with fp32 is .*%, .* points? less than the limit of 99%",
        ),
        (
            "kl <= 0.001",
            r"KL divergence from fp32 is .* nats, .* nats more than the limit of 0.001",
        ),
        (
            "my:score.decline <= 0.1%",
            r"declines by [\d.]+% in my:score, [\d.]+% more than the limit of 0.1%",
        ),
    ],
)
def test_shortfalls_of_every_criterion(text: str, sentence: str) -> None:
    def right(outputs: Any, labels: Any) -> Any:
        return outputs.argmax(1) == labels

    fp32 = fake_predictions(1000, 30, 0, 1)
    worse = fp32.outputs * np.where(np.arange(1000) % 4, 1, -1).astype(np.float32)[:, None]
    comparison = compare(fp32, replace(fp32, outputs=worse), metrics={"my:score": right})
    said = shortfall(judge(comparison, parse_criterion(text)))
    assert re.search(sentence, said)
    assert said.endswith("It was written all the same.")
    broken = replace(fp32, outputs=np.full_like(worse, np.nan))
    said = shortfall(judge(compare(fp32, broken), parse_criterion("kl <= 1")))
    assert said.startswith("The int8 model gives a NaN")
    for passing in ("99%", "agreement >= 1%", "kl <= 9"):
        assert shortfall(judge(comparison, parse_criterion(passing))) == ""
