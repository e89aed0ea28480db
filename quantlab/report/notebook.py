"""Show results in a notebook: the verdict first, then a small table.

Colours are the notebook's own, light or dark: nothing here sets one.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from quantlab.bench.measurement import Measurement
from quantlab.compare.comparison import Comparison
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.criteria.accuracy import AccuracyCriterion
from quantlab.gate.rules import Decision
from quantlab.gate.verdict import Verdict, judge
from quantlab.report.comparison_page import finding
from quantlab.report.comparison_tables import summary
from quantlab.report.document import Inline, Strong, Table
from quantlab.report.formats import megabytes, number, percent, percents, times
from quantlab.report.gate import rules_table
from quantlab.report.html import inline
from quantlab.report.where import where_line
from quantlab.tune.trials import Trial, pareto_front

SHOWN = 10
_CELL = "padding:.2em .8em;border-bottom:1px solid;border-color:inherit;text-align:{}"


def verdict_html(verdict: Verdict) -> str:
    """The verdict, its reason and what to do about it."""
    return _block(_lead(verdict.status, verdict.reason), _markup(verdict.remedy))


def decision_html(decision: Decision) -> str:
    """The decision and every rule's verdict."""
    count = len(decision.judged)
    said = f"{count} rule{'s were' if count > 1 else ' was'} judged."
    return _block(_lead(decision.status, said), _table(rules_table(decision)))


def comparison_html(comparison: Comparison, verdict: Verdict | None = None) -> str:
    """The verdict (on 1% of the fp32 top-1, where no other is given) and both models' figures."""
    found = verdict or judge(comparison, AccuracyCriterion())
    lead = _lead(found.status, f"{finding(comparison, found)}. {found.reason}")
    return _block(lead, _markup(where_line(comparison.where)), _table(summary(comparison)))


def predictions_html(predictions: Predictions) -> str:
    """The accuracy and the first answers."""
    found = predictions.accuracy
    shares = (
        ("top-1", found.top1 if found else None),
        ("top-5", found.top5 if found else None),
    )
    words = [
        f"{name} {percent(share.value)} ({percents(share.interval)})"
        for name, share in shares
        if share is not None
    ]
    said = ", ".join(words) or "without labels"
    labels = predictions.labels
    rows = [
        [name, "" if labels is None else str(labels[i]), str(answer), percent(probability)]
        for i, (name, answer, probability) in enumerate(
            zip(*first_answers(predictions, SHOWN), strict=True)
        )
    ]
    head = ["image", "label", "answer", "probability"]
    title = f"{predictions.model_name} on {len(predictions):,} images: {said}"
    return _block(_strong(title), _table(Table(head, rows, " rrr")))


def first_answers(predictions: Predictions, count: int) -> tuple[list[str], list[int], list[float]]:
    """The first images' names, answers and their probabilities."""
    frame = predictions.to_frame().head(count)
    return frame.image.tolist(), frame.top1.tolist(), frame.probability.tolist()


def latency_html(measurements: Sequence[Measurement]) -> str:
    """The latencies of models, in milliseconds a batch."""
    rows = [
        [
            m.model_name,
            str(m.conditions.batch_size),
            *(number(value, ".3f") for value in (m.p50, m.p90, m.p99)),
            number(m.images_per_second, ".1f"),
        ]
        for m in measurements
    ]
    head = ["model", "batch", "p50 ms", "p90 ms", "p99 ms", "images/s"]
    return _block(_table(Table(head, rows, " rrrrr")))


def tune_html(
    comparison: Comparison, verdict: Verdict, trials: Sequence[Trial], chosen: Trial
) -> str:
    """The best file's comparison, and what was tried."""
    front = {trial.digest for trial in pareto_front(trials)}
    rows = [_trial_row(t, t.digest in front, t.digest == chosen.digest) for t in trials]
    head = ["recipe", "top-1", "agreement", "KL", "speed", "size", ""]
    table = Table(head, rows, " rrrrr", "Recipes tried; * nothing beats these")
    return _block(Markup(comparison_html(comparison, verdict)), _table(table))


def _trial_row(t: Trial, front: bool, chosen: bool) -> list[Inline]:
    name: Inline = Strong(t.recipe.name) if chosen else t.recipe.name
    s = t.scores
    if s is None:
        note = "failed" if t.error else ""
        return [name, "", "", number(t.proxy, ".4f"), "", megabytes(t.size_bytes), note]
    return [
        name,
        percent(s.top1),
        percent(s.agreement),
        number(s.kl, ".4f"),
        times(s.speedup),
        megabytes(t.size_bytes),
        "*" if front else "",
    ]


def _lead(status: str, sentence: str) -> Markup:
    return Markup("<p><strong>{}</strong>: {}</p>").format(status.upper(), sentence)


def _strong(text: str) -> Markup:
    return Markup("<p><strong>{}</strong></p>").format(text)


def _markup(sentence: str) -> Markup:
    return Markup("<p>{}</p>").format(sentence) if sentence else Markup()


def _block(*parts: Markup) -> str:
    return str(Markup("<div>{}</div>").format(Markup().join(parts)))


def _table(table: Table) -> Markup:
    head = _row("th", table, table.head)
    body = Markup().join(_row("td", table, row) for row in table.rows)
    caption = Markup("<caption>{}</caption>").format(table.caption) if table.caption else Markup()
    frame = '<table style="border-collapse:collapse;color:inherit;background:none">{}{}{}</table>'
    return Markup(frame).format(caption, head, body)


def _row(tag: str, table: Table, cells: Sequence[Inline]) -> Markup:
    made = (
        Markup('<{0} style="{1}">{2}</{0}>').format(
            Markup(tag), _CELL.format("right" if table.is_right(i) else "left"), inline(cell)
        )
        for i, cell in enumerate(cells)
    )
    return Markup("<tr>{}</tr>").format(Markup().join(made))
