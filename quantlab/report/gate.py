"""Format a gate's decision for people, GitHub, GitLab, test and trend tools."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from quantlab.compare.comparison import Comparison
from quantlab.errors import QuantlabError
from quantlab.gate.baseline import Baseline, Difference
from quantlab.gate.rules import Decision, Judged
from quantlab.report.document import Block, Bullets, Code, Page, Section, Strong, Table, say
from quantlab.report.export import EXTRA, smaller_is_better
from quantlab.report.formats import (
    NOTHING,
    aligned,
    megabytes,
    one_line,
    percent,
    percents,
    table,
)
from quantlab.report.markdown import markdown
from quantlab.report.verdict import class_words, family
from quantlab.stats.paired import Interval

MARKER = "<!-- quantlab gate"
"""How the last line of a comment begins, by which the comment is found again."""

SUITE = "quantlab gate: "
"""How the name of a JUnit suite begins."""


@dataclass(frozen=True)
class GateContext:
    """What was compared with what, and under which conditions; ``command`` repeats it. ``where``
    the answers hold stands first, ``lead`` are sentences that come next, ``pays`` follows them:
    that int8 is not shown to be faster, "" when it is or nothing was timed; ``notes`` are sentences
    the reader should not miss."""

    subject: str
    reference: str
    images: int
    command: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pays: str = ""
    lead: tuple[str, ...] = ()
    where: str = ""

    @property
    def title(self) -> str:
        """``int8 against fp32 on 1,800 images``."""
        return f"{self.subject} against {self.reference} on {self.images:,} images"


def gate_summary(decision: Decision, context: GateContext) -> str:
    """What is printed: the verdict, a line a rule, the reasons of those that do not pass."""
    first = [f"{decision.status.upper()}: {context.title}", *_first(decision, context)]
    lines = [*first, "", _plain(rules_table(decision)), ""]
    for judged in decision.judged:
        if judged.verdict.status != "pass":
            lines += [
                f"{judged.rule.text}: {judged.verdict.reason} {judged.verdict.remedy}".strip()
            ]
    lines += [*_class_lines(decision), *decision.alarms, family(decision)]
    return "\n".join(line for i, line in enumerate(lines) if line or i < len(first) + 3)


def _first(decision: Decision, context: GateContext) -> list[str]:
    """What stands before the rules: where the answers hold, what a reader must know, whether int8
    pays, and why rules pass without an interval, once."""
    unchanged = dict.fromkeys(j.verdict.reason for j in decision.judged if j.verdict.unchanged)
    told = (context.where, *context.lead, context.pays, *unchanged)
    return [sentence for sentence in told if sentence]


def _plain(t: Table) -> str:
    """A table for a terminal, where nothing needs an escape."""
    return aligned(t.head, t.rows, t.right, lambda cell: one_line(str(cell)))


def comment(decision: Decision, context: GateContext) -> str:
    """The pull-request comment: the verdict in its first line, a marker in its last."""
    return f"{markdown(gate_page(decision, context), {})}\n{marker(context.subject)}\n"


def marker(subject: str) -> str:
    """A hidden line that identifies this gate's comment."""
    name = re.sub(r"[^\w.]+", "_", subject)
    return f"{MARKER}: {name} -->"


def gate_page(decision: Decision, context: GateContext) -> Page:
    """The decision as a page."""
    blocks: list[Block] = [*map(say, _first(decision, context)), rules_table(decision)]
    reasons = tuple(
        (Strong(j.rule.text), f": {j.verdict.reason} {j.verdict.remedy}".rstrip())
        for j in decision.judged
        if j.verdict.status != "pass"
    )
    said = [*_class_lines(decision), *decision.alarms, family(decision), *context.notes]
    if reasons:
        blocks.append(Bullets(reasons))
    blocks += [say(sentence) for sentence in said if sentence]
    facts = tuple((f"{name}: {value}",) for name, value in context.conditions.items())
    return Page(
        status=decision.status.upper(),
        title=context.title,
        blocks=tuple(blocks),
        sections=(
            Section("Conditions", (Bullets((*facts, ("Repeat: ", Code(context.command)))),)),
        ),
    )


def rules_table(decision: Decision) -> Table:
    """Every rule with its level, its verdict and what was measured."""
    rows = [
        [j.rule.text, j.rule.level, j.verdict.status, _measured(j), _interval(j)]
        for j in decision.judged
    ]
    return Table(["rule", "level", "verdict", "measured", "95% interval"], rows)


def _measured(judged: Judged) -> str:
    loss = judged.verdict.measured
    return NOTHING if loss is None else judged.verdict.criterion.amount(loss)


def _interval(judged: Judged) -> str:
    interval = judged.verdict.interval
    return NOTHING if interval is None else judged.verdict.criterion.span(interval)


def _class_lines(decision: Decision) -> Iterator[str]:
    for word, classes in (("fell", decision.fell), ("rose", decision.rose)):
        if classes:
            yield (
                f"Classes that surely {word} (McNemar, 5% false discoveries): "
                f"{class_words(classes)}."
            )


def failure_page(error: QuantlabError, subject: str, command: str) -> str:
    """The comment of a gate that could not judge."""
    page = Page(
        status="ERROR",
        title=f"the gate on {subject} could not judge",
        blocks=(say(error.problem), *([say(error.remedy)] if error.remedy else [])),
        sections=(Section("Conditions", (Bullets((("Repeat: ", Code(command)),)),)),),
    )
    return f"{markdown(page, {})}\n{marker(subject)}\n"


def workflow_commands(decision: Decision, context: GateContext) -> list[str]:
    """GitHub's workflow commands: an error for a required rule that fails, a warning for whatever
    else does not pass."""
    lines = []
    for j in decision.judged:
        if j.verdict.status == "pass":
            continue
        broken = j.rule.level == "required" and j.verdict.status == "fail"
        words = f"{j.verdict.status}: {j.verdict.reason} {j.verdict.remedy}".rstrip()
        title = f"{context.subject}: {j.rule.text} ({j.rule.level})"
        lines.append(_command("error" if broken else "warning", title, words))
    said = [*([context.pays] if context.pays else []), *decision.alarms]
    return lines + [_command("warning", context.subject, sentence) for sentence in said]


def error_annotation(error: QuantlabError) -> str:
    """The same for a gate that could not judge."""
    return _command("error", "quantlab gate", f"{error.problem} {error.remedy}".strip())


def _command(level: str, title: str, message: str) -> str:
    """``::error title=...::...`` with what would end a line or a property escaped."""
    return f"::{level} title={_percents(title, '%:,')}::{_percents(message, '%')}"


def _percents(text: str, characters: str) -> str:
    return "".join(f"%{ord(c):02X}" if c in f"{characters}\r\n" else c for c in text)


def junit(decision: Decision, context: GateContext) -> str:
    """JUnit XML: a case a rule, and one for each class that a rule says has fallen.

    What makes the gate red is a failure, a required rule that is not decided an error; what an
    advisory rule says stands in a case that is skipped.
    """
    suite = ElementTree.Element("testsuite", name=f"{SUITE}{_xml(context.title)}")
    for j in decision.judged:
        words = f"{j.verdict.reason} {j.verdict.remedy}".strip()
        _outcome(_case(suite, "quantlab.gate", j.rule.text), j, words)
        for fallen in j.verdict.classes:
            name = f"{fallen.index} {fallen.name}".strip()
            _outcome(_case(suite, "quantlab.gate.verdict.class", name), j, class_words([fallen]))
    return _xml_text(suite)


def junit_error(error: QuantlabError, subject: str) -> str:
    """The same for a gate that could not judge."""
    suite = ElementTree.Element("testsuite", name=f"{SUITE}{_xml(subject)}")
    case = _case(suite, "quantlab.gate", "gate")
    words = _xml(f"{error.problem} {error.remedy}".strip())
    ElementTree.SubElement(case, "error", message=words, type=type(error).__name__)
    return _xml_text(suite)


def _case(suite: ElementTree.Element, group: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=group, name=_xml(name))


def _outcome(case: ElementTree.Element, judged: Judged, words: str) -> None:
    status = judged.verdict.status
    if status == "pass":
        ElementTree.SubElement(case, "system-out").text = _xml(words)
    elif judged.rule.level == "advisory":
        note = f"advisory, {status}: {words}"
        ElementTree.SubElement(case, "skipped", message=_xml(note))
    else:
        kind = "failure" if status == "fail" else "error"
        told = ElementTree.SubElement(case, kind, message=_xml(words), type=status)
        told.text = _xml(f"{judged.rule.text}\n{words}")


def _xml_text(suite: ElementTree.Element) -> str:
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]", "?", text)


def benchmark_json(decision: Decision, context: GateContext) -> str:
    """github-action-benchmark's ``customSmallerIsBetter``: every rule's loss, so that a chart shows
    its course."""
    trends = ((j, j.verdict.criterion.trend(j.verdict)) for j in decision.judged)
    return smaller_is_better(
        {
            "name": f"{context.subject} {trend.name}",
            "unit": trend.unit,
            "value": trend.value,
            **({} if trend.span is None else {"range": "{:.4g} to {:.4g}".format(*trend.span)}),
            "extra": f"{EXTRA}gate: {j.rule.text}: {j.verdict.status}, {context.images:,} images",
        }
        for j, trend in trends
        if trend is not None
    )


def baseline_summary(baseline: Baseline) -> str:
    """What was accepted."""
    stored = baseline.predictions
    rows = [
        ["Model", f"{baseline.model.name} ({megabytes(baseline.model.bytes)})"],
        ["  sha256", baseline.model.sha256],
        ["Images", f"{baseline.data.images:,}, digest {baseline.data.digest[:16]}"],
        ["Preprocessing", str(baseline.pipeline.get("name", "own"))],
        *(
            [
                {"top1": "Top-1", "top5": "Top-5"}[name],
                f"{percent(rate.value)} ({percents(Interval(rate.low, rate.high))})",
            ]
            for name, rate in baseline.metrics.items()
        ),
        ["CPU", f"{baseline.isa} instructions"],
        ["Versions", ", ".join(f"{k} {v}" for k, v in baseline.versions.items())],
        ["Answers", stored.file if stored else "not kept: gates compare by intervals"],
    ]
    return table(["", "accepted"], rows)


def changes_summary(changes: Sequence[Difference], comparison: Comparison | None = None) -> str:
    """What differs between two baselines, and both models' answers image by image."""
    rows = [[c.key, c.old or NOTHING, c.new or NOTHING] for c in changes]
    lines = [table(["key", "old", "new"], rows) or "Nothing differs."]
    if comparison is not None:
        same = comparison.fidelity.agreement
        lines += [
            "",
            f"Image by image: the same first answer on {same.count:,} of {same.n:,} "
            f"({percent(same.value)}).",
        ]
        if comparison.top1 is not None:
            lines[-1] += (
                f" Top-1: {comparison.top1.lost:,} lost, {comparison.top1.gained:,} gained."
            )
    return "\n".join(lines)
