"""What verbs print: short, plain, complete."""

from __future__ import annotations

from pathlib import Path

from quantlab.compare.compare import compare
from quantlab.compare.comparison import Comparison
from quantlab.gate.notation import parse_decline
from quantlab.gate.verdict import judge
from quantlab.inspect.inspection import inspect_model
from quantlab.model.model import Model
from quantlab.report.context import TrialRow, Unfinished
from quantlab.report.text import (
    accuracy_summary,
    compare_summary,
    inspect_summary,
    tune_summary,
)
from quantlab.testing import fake_measurement, fake_predictions, tiny_classifier


def comparison(
    flip: float = 0.1,
    *,
    labelled: bool = True,
    sizes: tuple[int, int] = (4_000_000, 1_000_000),
    int8_ms: float = 5,
) -> Comparison:
    return compare(
        fake_predictions(1300, 20, 0, 1, labelled, name="net"),
        fake_predictions(1300, 20, flip, 1, labelled, name="net-int8"),
        fp32_speed=fake_measurement("net", 10, seed=1),
        int8_speed=fake_measurement("net-int8", int8_ms, seed=2),
        noise=fake_measurement("net", 10, seed=3),
        fp32_bytes=sizes[0],
        int8_bytes=sizes[1],
    )


def summary(c: Comparison, limit: str = "1%", *, zoo: bool = False) -> str:
    return compare_summary(c, judge(c, parse_decline(limit)), zoo=zoo)


def test_compare_says_the_verdict_first() -> None:
    c = comparison()
    verdict = judge(c, parse_decline("50%"))
    lines = summary(c, "50%").splitlines()
    assert lines[0].startswith("PASS: net-int8, top-1 decline ")
    assert lines[1] == verdict.reason
    text = "\n".join(lines)
    for part in (
        "| Top-1 ",
        "| Top-5 ",
        "4.00x smaller",
        "Agreement ",
        "KL 0.",
        " dB",
        "Speedup 2.",
    ):
        assert part in text
    assert "Download" not in text
    lines = summary(c, "50%", zoo=True).splitlines()
    assert lines[-1].startswith("Compared with the fp32 net, int8 net-int8's Top-1 accuracy")
    head, _, fp32, int8 = ([cell.strip() for cell in x.split("|")[1:-1]] for x in lines[-6:-2])
    assert head == ["Model", "Download", "Top-1 accuracy (%)", "Top-5 accuracy (%)"]
    assert (fp32[0], int8[0]) == ("net", "net-int8")


def test_compare_without_labels() -> None:
    text = summary(comparison(labelled=False))
    assert "no labels to judge accuracy by" in text
    for part in ("Top-1", "Top-5", "Compared with"):
        assert part not in text


def test_a_file_that_grew_is_not_called_smaller() -> None:
    text = summary(comparison(sizes=(1_000_000, 2_000_000)))
    assert "2.00x larger" in text
    assert "smaller" not in text
    assert "smaller" not in summary(comparison(sizes=(1000, 1000)))


def test_identical_answers_have_no_noise() -> None:
    text = summary(comparison(0.0))
    assert "SQNR no noise" in text
    assert "Image by image" not in text


def test_the_worst_images_are_told_beside_the_means() -> None:
    c = comparison()
    f = c.fidelity
    line = next(x for x in summary(c).splitlines() if x.startswith("Image by image"))
    assert line == (
        f"Image by image: KL 99th percentile {f.kl_p99:.4f}, largest {f.kl_max:.4f}; "
        f"SQNR 1st percentile {f.sqnr_p1_db:.1f} dB"
    )


def test_tune_lists_the_trials_and_the_places() -> None:
    c = comparison()
    rows = (
        TrialRow(
            "a",
            top1=0.7,
            decline=0.01,
            agreement=0.9,
            kl=0.01,
            speedup=2.0,
            size_bytes=1_000_000,
            chosen=True,
        ),
        TrialRow("b", error="it failed"),
    )
    places = {"int8 model": Path("o.onnx"), "Report": Path("runs/x/report.md")}
    text = tune_summary(c, judge(c, parse_decline("1%")), rows, "It misses.", places)
    assert "→ a" in text
    assert "\n✗ b: it failed\n" in text
    assert "It misses." in text
    assert text.endswith("\nint8 model: o.onnx\nReport:     runs/x/report.md")


def test_what_must_not_be_missed_comes_before_the_trials() -> None:
    c, places = comparison(int8_ms=20), {"Report": Path("r.md")}
    rows = (TrialRow("a", chosen=True, faster=False, speedup=0.5, calibration_kl=0.1, kl=0.2),)
    ended = Unfinished("--max-trials 1", ("b",), (), "", "quantlab tune --resume r --max-trials 2")
    verdict = judge(c, parse_decline("50%"))
    lines = tune_summary(c, verdict, rows, "", places, ended).splitlines()
    assert lines[0] == (
        "Ended by --max-trials 1: not tried: b. To go on: quantlab tune --resume r --max-trials 2"
    )
    assert lines[1].startswith("int8 does not pay on this machine: 2.00x slower")
    assert lines[3].split("|")[1:4] == [" recipe ", " KL calib. ", " KL eval. "]
    assert sum("does not pay" in line for line in lines) == 1
    lines = tune_summary(c, verdict, rows, "", places).splitlines()
    assert lines[0].startswith("int8 does not pay on this machine")
    lines = tune_summary(comparison(), verdict, rows, "", places).splitlines()
    assert lines[0].startswith("| recipe ")


def test_compare_says_in_its_second_line_that_int8_does_not_pay() -> None:
    first, second, *_ = summary(comparison(int8_ms=20), "50%").splitlines()
    assert first.startswith("PASS: ")
    assert second.startswith("int8 does not pay on this machine: 2.00x slower than fp32")


def test_accuracy_lines() -> None:
    predictions = fake_predictions(1300, 20, 0, 1)
    first, second = accuracy_summary(predictions.accuracy, 1300).splitlines()
    assert first.startswith("Top-1 ")
    assert second.startswith("Top-5 ")
    assert "of 1,300)" in first
    assert accuracy_summary(None, 7).startswith("7 images without labels")
    found = predictions.accuracy
    assert found is not None
    assert accuracy_summary(found.model_copy(update={"top5": None}), 1300) == first


def test_inspect_of_a_plain_model(tmp_path: Path) -> None:
    found = inspect_model(Model.load(tiny_classifier(tmp_path / "net.onnx", batch=1)))
    text = inspect_summary(found, scales=True)
    assert text.startswith("net: opset 13, ")
    assert "input    input float32 [1, 3, 32, 32] (NCHW)" in text
    assert "output   output float32 [1, 10] (logits, 10 classes)" in text
    assert "3 Conv" in text
    assert "0 int8" in text
    assert "fp32," not in text.splitlines()[-1]
