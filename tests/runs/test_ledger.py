"""The ledger: which figures stand beside which recipe."""

from __future__ import annotations

from typing import Any

import pytest

from quantlab.fetch import PublishedModel
from quantlab.recipe import Recipe
from quantlab.runs.ledger import LedgerRow, ledger, measured
from quantlab.runs.record import RunRecord
from quantlab.stats.paired import Share, wilson

FP32, INT8, OTHER = ("a" * 64, "b" * 64, "c" * 64)
RECIPE = Recipe(name="mine", ranges="minmax")


def entry(name: str, sha256: str = "", **fields: Any) -> PublishedModel:
    url = {"url": f"https://example.org/{name}", "sha256": sha256, "size": 1}
    return PublishedModel.model_validate(
        {"name": name, "description": "", "licence": "", "file": f"{name}.onnx", "pipeline": "tf",
         "project": "mindcv", "sources": [url] if sha256 else [], **fields}
    )  # fmt: skip


def share(count: int, n: int) -> dict[str, Any]:
    return Share(count=count, n=n, value=count / n, interval=wilson(count, n)).model_dump()


def file(sha256: str, name: str = "net") -> dict[str, Any]:
    return {"path": f"models/{name}.onnx", "sha256": sha256, "input": {"height": 224}}


_MINUTES = iter(range(1, 1000))


def run(results: dict[str, Any], status: str = "success", minute: int | None = None) -> RunRecord:
    started = f"2026-01-01T{minute or next(_MINUTES):06d}"
    return RunRecord.model_validate(
        {"id": "x", "verb": "v", "status": status, "started": started, "command": "",
         "environment": {"cpu": "Z80"}, "results": results}
    )  # fmt: skip


def evaluated(sha256: str, count: int = 70, n: int = 100, **more: Any) -> RunRecord:
    accuracy = {"top1": share(count, n), "top5": share(min(n, count + 5), n)}
    results = {"model": file(sha256), "data": {"root": "data/val"}, "accuracy": accuracy}
    return run(results, **more)


def benched(sha256: str, ms: float = 4.0, batch: int = 2, **more: Any) -> RunRecord:
    common = {"model": "net", "batch": batch, "threads": 1, **more}
    figures = [
        {**common, "metric": "p50", "value": ms},
        {**common, "metric": "throughput", "value": 1000 * batch / ms},
    ]
    return run({"models": [file(sha256)], "figures": figures})


def quantized(source: str, output: str, recipe: Recipe = RECIPE) -> RunRecord:
    return run({"model": file(source), "recipe": recipe.model_dump(), "output": file(output, "q")})


def rows_of(rows: tuple[LedgerRow, ...], whose: str) -> list[LedgerRow]:
    return [row for row in rows if row.whose == whose]


def test_published_and_measured_stand_side_by_side() -> None:
    one = entry("one", FP32, published={"top1": 71.5, "source": "who", "parameters": 3.5})
    runs = [evaluated(FP32), benched(FP32), run({"sha256": FP32, "parameters": 3_487_816})]
    published, here = ledger([one], runs, [])
    assert (published.top1, published.parameters, published.note) == (71.5, 3.5, "who")
    assert (here.top1, here.top5, here.n, here.images) == (70.0, 75.0, 100, "val")
    low, high = here.top1_interval or (0, 0)
    assert (low / 100, high / 100) == pytest.approx((wilson(70, 100).low, wilson(70, 100).high))
    assert (here.parameters, here.batch_size, here.ms_per_step) == (3.487816, 2, 4.0)
    assert (here.images_per_second, here.resolution, here.weight) == (
        500.0,
        224,
        f"net.onnx {FP32[:8]}",
    )
    assert here.note == "Z80, threads: 1"


def test_published_declines_are_noted() -> None:
    figures = {"source": "zoo", "top1_decline": 1.7, "speedup": 1.05, "conditions": "Xeon"}
    (row, _) = ledger([entry("one", FP32, published=figures)], [], [])
    assert row.note == "zoo, decline of top-1 1.70%, 1.05x, Xeon"


def test_without_a_run_nothing_is_made_up() -> None:
    far = entry("far", export="make it", published={"top1": 71.5, "source": "who"})
    near = entry("near", FP32)
    rows = ledger([far, near, entry("twin", same_as="near")], [], ["near"])
    words = {row.model: row.weight for row in rows_of(rows, "nobody")}
    assert words == {
        "far": "model not available here",
        "near": "not measured: no run",
        "twin": "not measured: no run",
    }
    assert not any(row.ms_per_step or row.top1 for row in rows_of(rows, "nobody"))
    assert len(rows_of(rows, "published")) == 1


def test_a_twin_has_the_figures_of_its_model() -> None:
    rows = ledger([entry("one", FP32), entry("twin", same_as="one")], [evaluated(FP32)], [])
    assert [(row.recipe, row.top1) for row in rows] == [("one", 70.0), ("twin", 70.0)]


def test_what_a_recipe_made_from_its_model_is_its_own() -> None:
    one = entry("one", FP32)
    made = entry("made", made_from="one", recipe=RECIPE.model_dump())
    runs = [quantized(FP32, INT8), evaluated(INT8, 69)]
    here = rows_of(ledger([one, made], runs, []), "here")
    assert [(row.recipe, row.model, row.top1) for row in here] == [("made", "net", 69.0)]
    for others in (quantized(OTHER, INT8), quantized(FP32, INT8, Recipe(name="mine"))):
        rows = ledger([one, made], [others, evaluated(INT8, 69)], [])
        (row,) = rows_of(rows, "here")
        assert (row.project, row.recipe.split(" of ")[0]) == ("", "mine")
    rows = ledger([one], [evaluated(FP32), quantized(FP32, INT8), evaluated(INT8, 69)], [])
    assert [row.recipe for row in rows_of(rows, "here")] == ["one", "mine of net.onnx"]


def test_what_a_recipe_made_before_it_was_changed_stays_its_own() -> None:
    now = RECIPE.model_copy(update={"percentile": 99.0})
    made = entry("made", made_from="one", recipe=now.model_dump(), former_recipes=(RECIPE.digest,))
    runs = [quantized(FP32, INT8), evaluated(INT8, 69)]
    here = rows_of(ledger([entry("one", FP32), made], runs, []), "here")
    assert [(row.recipe, row.model, row.top1) for row in here] == [("made", "net", 69.0)]


def test_files_that_no_recipe_knows_come_last() -> None:
    rows = ledger([entry("one", FP32)], [evaluated(OTHER), benched(INT8)], [])
    assert [(row.project, row.model, row.whose) for row in rows] == [
        ("mindcv", "one", "nobody"),
        ("", "net", "here"),
    ]


def test_most_images_count_then_the_latest() -> None:
    def top1(*runs: RunRecord) -> float | None:
        found = measured(runs)[FP32].top1
        return None if found is None else found.value

    few, many = evaluated(FP32, 9, 10, minute=5), evaluated(FP32, 700, 1000, minute=1)
    assert top1(few, many) == 0.7
    assert top1(many, evaluated(FP32, 710, 1000, minute=2)) == 0.71
    assert top1(evaluated(FP32, 710, 1000, minute=2), many) == 0.71


def test_unfinished_and_foreign_runs_count_nothing() -> None:
    assert measured([evaluated(FP32, status="error"), run({"path": "x"}), run({})]) == {}


def test_a_load_and_several_instances_are_no_latency() -> None:
    for more in ({"rate": 50.0}, {"instances": 2}):
        assert measured([benched(FP32, **more)]) == {}
    assert list(measured([benched(FP32), benched(FP32, batch=8)])[FP32].speeds) == [2, 8]


def test_models_of_one_name_are_not_told_apart() -> None:
    twice = benched(FP32)
    twice.results["models"] *= 2
    assert measured([twice]) == {}


def test_a_comparison_counts_for_both() -> None:
    scores = [
        {"sha256": s, "top1": share(c, 50), "top5": None} for s, c in ((FP32, 40), (INT8, 39))
    ]
    pair = dict(zip(("fp32", "int8"), scores, strict=True))
    data = {"models": [file(FP32), file(INT8)], "data": {"root": "v"}, "comparison": pair}
    found = measured([run(data)])
    assert {s: m.top1 and m.top1.count for s, m in found.items()} == {FP32: 40, INT8: 39}
