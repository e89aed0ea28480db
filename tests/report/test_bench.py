"""What bench prints and exports: every figure where a reader looks for it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from quantlab._util.terminal import table_width
from quantlab.bench.measurement import BenchResult, Conditions
from quantlab.bench.queueing import Load, LoadResult, LoadWindow
from quantlab.bench.throughput import Throughput, ThroughputResult
from quantlab.compare.speeds import Contrast, Ratio, ratios_of
from quantlab.errors import QuantlabError
from quantlab.report.bench import bench_page, figures_of, ratio_sentence
from quantlab.report.export import MARKER, ExportedFigure, check_exports, export
from quantlab.stats.paired import Interval
from quantlab.testing import fake_measurement


def latencies(int8_ms: float = 5.0) -> BenchResult:
    a, b = fake_measurement("one", 10, seed=1), fake_measurement("two", int8_ms, seed=2)
    return BenchResult(((a,), (b,)), (fake_measurement("one", 10, seed=3),))


def rates() -> ThroughputResult:
    def made(name: str, ms: float) -> Throughput:
        rounds = (((ms, ms), (2 * ms,)),) * 4
        return Throughput(name, "ab", 1, 2, rounds, Conditions(3, 1, 4, 0))

    return ThroughputResult(((made("one", 10.0),), (made("two", 5.0),)), (made("one", 10.0),))


def loads(done: tuple[float, ...] = (20.0, 510.0), batch: int = 1) -> LoadResult:
    window = LoadWindow(2, 1.0, (10.0, 500.0), (10.0, 500.0), done)
    conditions = Conditions(1, batch, 1, 0)
    made = Load("one", "ab", 2.0 * batch, 1, (window,), conditions)
    return LoadResult(((made,),), (made,))


def rows(page: str) -> list[list[str]]:
    table = page.split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_every_model_and_the_noise() -> None:
    result = latencies()
    page = bench_page(result, ratios_of(result))
    head, _, *body = rows(page)
    assert head[:3] == ["model", "batch", "ms/step"]
    assert [row[0] for row in body] == ["one", "two", "one (A/A)"]
    assert "10 rounds of 10 runs in turns, one process, 1 thread, provider cpu" in page
    last = page.split("\n\n")[-1]
    assert last.startswith("batch 1: two is 2.")
    assert "faster than one (95% interval " in last
    assert "noise floor" in last


def test_lines_are_no_wider_than_the_terminal() -> None:
    long = replace(fake_measurement("m" * 60, 10_000, seed=1), peak_rss_bytes=10**11)
    with table_width(98):
        page = bench_page(BenchResult(((long,),), (long,)), ())
    assert all(len(line) <= 98 for line in page.split("\n\n")[0].splitlines())


@pytest.mark.parametrize(
    ("conclusion", "words"),
    [
        ("faster", "batch 1: b is 2.00x faster than a (95%"),
        ("slower", "batch 1: b is 0.50x slower than a (95%"),
        ("same", "batch 1: b and a: no difference that this machine can show (2.00x, 95%"),
        ("too noisy", "batch 1: b and a: too noisy to tell, a differs from itself (2.00x, 95%"),
    ],
)
@pytest.mark.parametrize("resolution", [0.02, 0.05])
def test_sentences(conclusion: str, words: str, resolution: float) -> None:
    found = Contrast(
        2.0, Interval(1.9, 2.1), Interval(0.9, 1.1), 0.1, conclusion, resolution, 15, 42
    )
    lines = ratio_sentence(Ratio("b", "a", 1, found)).splitlines()
    assert lines[0].startswith(words)
    assert lines[0].endswith("interval 1.90x to 2.10x, noise floor 10.0%)")
    coarse = "  This run could show a difference of 5.0% or more; 3% would take about 42 rounds"
    assert [line.startswith(coarse) for line in lines[1:]] == [True] * (resolution > 0.03)


def test_instances() -> None:
    result = rates()
    page = bench_page(result, ratios_of(result))
    first = rows(page)[2]
    assert first == ["one", "1", "150.0", "150.0", "10.00 to 20.00", "10.00 to 20.00"]
    assert "2 instances of 3 cores at once, 4 rounds in turns" in page
    assert "two is 2.00x faster than one" in page


def test_a_load_that_is_kept_up_with() -> None:
    page = bench_page(loads(), ())
    assert rows(page)[2] == ["one", "2", "2.0", "2%", "10.00", "10.00", "10.00", "keeps up"]
    assert "cannot keep up" not in page
    assert rows(bench_page(loads(batch=8), ()))[0][:2] == ["model", "batch"]


def test_a_load_that_is_not() -> None:
    page = bench_page(loads(done=(2010.0, 2500.0)), ())
    assert rows(page)[2][-1] == "grows"
    assert "one cannot keep up with 2 images/s, batch 1: that takes 400% of 1 instance." in page


def test_json_is_github_action_benchmarks(tmp_path: Path) -> None:
    export(tmp_path / "b.json", figures_of(latencies()), "")
    entries = json.loads((tmp_path / "b.json").read_text())
    assert all({"name", "unit", "value", "extra"} <= set(entry) for entry in entries)
    by_name = {entry["name"]: entry for entry in entries}
    assert len(by_name) == len(entries)
    assert by_name["two p50, batch 1"]["unit"] == "ms"
    assert by_name["two p50, batch 1"]["value"] == pytest.approx(5, rel=0.05)
    assert by_name["two p50, batch 1"]["range"].startswith("± ")
    assert {entry["unit"] for entry in entries} == {"ms"}


def test_only_times_are_smaller_is_better(tmp_path: Path) -> None:
    export(tmp_path / "b.json", figures_of(rates()), "")
    units = {e["unit"] for e in json.loads((tmp_path / "b.json").read_text())}
    assert units == {"ms", "ms/image"}


def test_csv_holds_all_figures(tmp_path: Path) -> None:
    for result in (latencies(), rates(), loads()):
        figures = figures_of(result)
        export(tmp_path / "b.csv", figures, "")
        lines = list(csv.DictReader(io.StringIO((tmp_path / "b.csv").read_text())))
        assert len(lines) == len(figures)
        assert [float(line["value"]) for line in lines] == [f.value for f in figures]
    assert {line["rate"] for line in lines} == {"2.0"}


def test_markdown_is_the_page(tmp_path: Path) -> None:
    export(tmp_path / "B.MD", (), "a page")
    assert (tmp_path / "B.MD").read_text() == f"a page\n\n{MARKER}\n"


def test_a_name_says_everything() -> None:
    figure = ExportedFigure("m", 8, 1, "cpu", "p99", "ms", 1.0, instances=2, rate=50.0)
    assert figure.name == "m p99, batch 8, 2 instances, 50 images/s offered"


def test_an_ending_without_a_format(tmp_path: Path) -> None:
    with pytest.raises(QuantlabError, match="ending says no format") as caught:
        check_exports([tmp_path / "a.json", tmp_path / "a.txt"])
    assert caught.value.remedy == "Endings: .json, .csv, .md."
    (tmp_path / "x.md").mkdir()
    with pytest.raises(QuantlabError, match="it is a folder"):
        check_exports([tmp_path / "x.md"])
