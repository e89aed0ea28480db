"""tune: always the best so far, whatever happens on the way."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.evaluate.predictions import Predictions
from quantlab.model.model import Model
from quantlab.runs.record import load_record
from quantlab.testing import fake_bench, image_folder, listed_folder, npz_file, tiny_classifier
from quantlab.tune.ladder import ladder
from quantlab.tune.study import SharedStudy
from quantlab.tune.trial_store import TrialStore
from quantlab.verbs import tune as job

pytestmark = pytest.mark.usefixtures("no_timing", "no_database", "no_plots")
RUNGS = len(ladder())
FIRST = ladder()[0].name


@pytest.fixture
def tune(cli: Any, scene: Any, tmp_path: Path) -> Callable[..., Any]:
    """``tune(...)``: on the scene's model, with an evaluation set that fp32 is always right on."""
    scene.untaught()
    own = scene.labelled_by_itself("own")

    def run(*words: object, code: int = 0, data: bool = True, model: Path | None = None) -> Any:
        images = [*scene.words, "--eval-data", own] if data else ["--pipeline", scene.pipeline]
        target = ["--model", model or scene.model, "--output", tmp_path / "best.onnx"]
        return cli("tune", *target, *images, *words, code=code)

    return run


@pytest.fixture
def best(tmp_path: Path) -> Path:
    return tmp_path / "best.onnx"


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No int8 file is faster than fp32, so that the whole ladder is tried."""
    monkeypatch.setattr("quantlab.verbs.bench.bench", partial(fake_bench, int8_ms=20))


def stop(said: Any) -> str:
    return str(said.record.results["stop"])


def test_one_recipe_is_enough_where_it_meets_and_is_faster(tune: Any) -> None:
    said = tune()
    assert (stop(said), said.record.results["unfinished"]) == ("finished", None)
    assert [t["recipe"]["name"] for t in said.record.results["trials"]] == [FIRST]


def test_the_whole_ladder_is_tried_and_the_best_is_kept(
    tune: Any, best: Path, scene: Any, slow: None
) -> None:
    said = tune()
    results = said.record.results
    assert stop(said) == "finished"
    assert [t["error"] for t in results["trials"]] == [None] * RUNGS
    assert Model.load(best).is_quantized
    assert Model.load(best).metadata["quantlab.fp32_sha256"] == Model.load(scene.model).sha256
    assert results["output"]["sha256"] == Model.load(best).sha256
    assert "→" in said.out
    assert str(best) in said.out
    assert "report.html" in said.out + said.err


def test_two_tunes_give_the_same_file(tune: Any, best: Path) -> None:
    tune("--seed", 3)
    first = best.read_bytes()
    tune("--seed", 3)
    assert best.read_bytes() == first
    tune("--seed", 4)
    assert best.read_bytes() != first


SURELY = ("--criterion", "agreement >= 20%")
"""What an almost unchanged model meets after a few of 60 images."""


def test_a_trial_ends_once_it_surely_meets_and_the_report_is_on_all(tune: Any, engine: Any) -> None:
    engine(1e-6)
    said = tune(*SURELY)
    (trial,) = said.record.results["trials"]
    assert (trial["status"], trial["scores"]["meets"]) == ("stopped", True)
    assert trial["scores"]["images"] < 60
    assert f"(surely meets, after {trial['scores']['images']} images)" in said.err
    assert said.record.results["comparison"]["n"] == 60
    assert "early_stop" not in said.record.results
    assert len(Predictions.load(said.folder / "int8-predictions.npz")) == 60


def test_also_the_report_may_end_early(tune: Any, engine: Any) -> None:
    engine(1e-6)
    said = tune(*SURELY, "--early-stop", "report")
    (trial,) = said.record.results["trials"]
    seen = trial["scores"]["images"]
    assert said.record.results["comparison"]["n"] == seen < 60
    assert said.record.results["early_stop"] == {"seen": seen, "images": 60, "decided": True}
    assert f"certain (5%) after {seen} of 60 images" in (said.folder / "report.md").read_text()


def test_answers_that_another_seed_has_seen_are_computed_again(
    tune: Any, engine: Any, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All 40 images calibrate, so that another seed is the same sample, and another order."""
    engine(1e-6)
    every = ("--calibration-size", 40, "--early-stop")
    folder = tune(*SURELY, *every, "report").folder
    said = cli("tune", "--resume", folder, "--seed", 7, "--early-stop", "search", "--max-trials", 9)
    monkeypatch.setenv("QUANTLAB_CACHE", "nothing-is-known-here")
    whole = tune(*SURELY, *every, "off")
    answers = [Predictions.load(x.folder / "int8-predictions.npz") for x in (said, whole)]
    assert answers[0].names == answers[1].names
    assert np.array_equal(answers[0].outputs, answers[1].outputs)


def test_early_stop_off_evaluates_what_meets_on_all_images(tune: Any, engine: Any) -> None:
    engine(1e-6)
    said = tune(*SURELY, "--early-stop", "off")
    assert [t["status"] for t in said.record.results["trials"]] == ["done"]


@pytest.mark.parametrize(
    "words",
    [
        ("--threads", 1),
        ("--threads", 2),
        ("--batch-size", 1),
        ("--batch-size", 7),
        ("--early-stop", "off"),
        ("--threads", 2, "--batch-size", 3, "--early-stop", "off"),
    ],
)
def test_no_schedule_changes_the_file_or_the_verdict(
    words: tuple[object, ...], tune: Any, best: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caches are off: everything is computed again."""

    def outcome(*more: object) -> Any:
        monkeypatch.setenv("QUANTLAB_CACHE", f"cache-{len(more)}")
        results = tune(*SURELY, *more).record.results
        comparison = {k: v for k, v in results["comparison"].items() if k != "speeds"}
        return best.read_bytes(), results["verdict"], comparison

    assert outcome(*words) == outcome()


def test_the_report_tells_where_the_time_went(tune: Any, engine: Any) -> None:
    engine(0.01)
    said = tune()
    steps = said.record.results["timeline"]
    names = [step["name"] for step in steps]
    assert names[0] == "calibration images decoded"
    assert {"fp32 evaluated", f"quantizing by {FIRST}", f"{FIRST} timed"} <= set(names)
    assert [s["start"] for s in steps] == sorted(s["start"] for s in steps)
    page = (said.folder / "report.md").read_text()
    assert "### Where the time went" in page
    assert re.search(rf"\| quantizing by {FIRST} +\| +\d", page)


@pytest.fixture
def ctrl_c_in_timing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``ctrl_c_in_timing(n)``: while something is timed for the n-th time."""

    def install(number: int) -> None:
        calls = iter(range(1, 1000))

        def interrupted(*args: Any, **settings: Any) -> Any:
            if next(calls) == number:
                raise KeyboardInterrupt
            return fake_bench(*args, **settings)

        monkeypatch.setattr("quantlab.verbs.bench.bench", interrupted)

    return install


@pytest.mark.parametrize("call", [2, 4])
def test_ctrl_c_while_quantizing_leaves_the_best_so_far(
    call: int, tune: Any, best: Path, engine: Any, slow: None
) -> None:
    engine(*[0.01] * (call - 1), KeyboardInterrupt())
    said = tune(code=130)
    assert Model.load(best).num_classes == 10
    assert f"written to {best}" in said.err
    (folder,) = Path("runs").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"


def test_ctrl_c_in_the_second_trial_leaves_a_report(
    tune: Any, best: Path, engine: Any, ctrl_c_in_timing: Any
) -> None:
    engine(0.01, 0.02)
    ctrl_c_in_timing(2)
    said = tune(code=130)
    record = said.record
    assert (record.status, stop(said)) == ("interrupted", "interrupted")
    assert record.results["output"]["sha256"] == Model.load(best).sha256
    assert [t["status"] for t in record.results["trials"]].count("done") == 1
    assert (said.folder / "report.md").is_file()
    assert record.finished
    assert str(best) in said.out


def test_an_interrupted_run_keeps_its_warnings(
    tune: Any, engine: Any, scene: Any, ctrl_c_in_timing: Any
) -> None:
    engine(0.01)
    ctrl_c_in_timing(2)
    shutil.rmtree(scene.data / "9")
    said = tune("--no-audit", code=130)
    assert said.warnings == ["Warning: 1 of 10 classes have no calibration image: 9."]
    assert said.record.warnings == [said.warnings[0].removeprefix("Warning: ")]


def test_ctrl_c_in_the_first_evaluation_leaves_a_record(
    tune: Any, best: Path, engine: Any, ctrl_c_in_timing: Any
) -> None:
    engine(0.01)
    ctrl_c_in_timing(1)
    said = tune(code=130)
    assert said.err.splitlines()[-1] == "Interrupted."
    (folder,) = Path("runs").iterdir()
    assert f"Report: {folder / 'report.md'}" in said.err
    record = load_record(folder)
    assert (record.status, record.results["stop"]) == ("interrupted", "interrupted")
    trials = record.results["trials"]
    assert [t["status"] for t in trials] == ["scored"]
    assert Model.load(best).sha256 in {t["sha256"] for t in trials}
    assert record.artifacts["report"] == "report.md"
    page = (folder / "report.md").read_text()
    assert f"fp32 on calibration images so far is `{best}`" in page
    assert re.search(rf"^\| (→ )?{FIRST} +\|", page, re.M)
    assert "nan" not in page
    assert "None" not in page


def test_that_run_can_be_resumed(
    tune: Any, cli: Any, engine: Any, scene: Any, tmp_path: Path, slow: None
) -> None:
    engine(0.01, KeyboardInterrupt())
    tune(code=130)
    engine(0.01)
    (folder,) = Path("runs").iterdir()
    said = cli("tune", "--resume", folder)
    assert (said.record.status, stop(said)) == ("success", "finished")


def test_the_best_so_far_is_told_once_a_file(tune: Any, engine: Any) -> None:
    engine(0.01)
    told = re.findall(r"best so far: (.*), written", tune().err)
    assert told == [FIRST]


@pytest.fixture
def one_recipe(tmp_path: Path) -> Path:
    """A plain recipe that keeps the stem in fp32."""
    path = tmp_path / "one.yaml"
    path.write_text("name: one\nexclude: [stem, stem_act]\n")
    return path


def kept_in_fp32(said: Any) -> str:
    """That part of the report."""
    page = (said.folder / "report.md").read_text()
    return page[page.index("### Kept in fp32") : page.index("## Conditions")]


def test_what_stays_in_fp32_is_in_the_report(tune: Any, one_recipe: Path) -> None:
    said = tune("--recipe", one_recipe)
    (found,) = said.record.results["reverted"]
    assert found["nodes"] == ["stem", "stem_act"]
    assert (found["kl"], found["top1"]) == (None, None)
    assert found["time_by"] == "plain files"
    assert found["time"] > 0.5, "the first model of the fake timing takes twice as long"
    row = r"\| stem, stem_act +\| +not measured +\| +not measured +\| \+\d"
    assert re.search(row, kept_in_fp32(said))


def test_what_was_not_timed_is_not_made_up(tune: Any, one_recipe: Path) -> None:
    said = tune("--recipe", one_recipe, "--no-bench")
    assert kept_in_fp32(said).count("not measured |") == 3


def test_what_cannot_be_timed_is_a_warning(tune: Any, engine: Any, tmp_path: Path) -> None:
    engine(0.01)
    recipe = tmp_path / "other.yaml"
    recipe.write_text("name: other\nexclude: [nowhere]\n")
    said = tune("--recipe", recipe)
    assert "What stays in fp32 was not timed: exclude: the model has no node" in said.warnings[0]
    assert kept_in_fp32(said).count("not measured |") == 3


def test_ctrl_c_while_reverted_groups_are_timed(
    tune: Any, one_recipe: Path, ctrl_c_in_timing: Any
) -> None:
    ctrl_c_in_timing(3)
    said = tune("--recipe", one_recipe, code=130)
    assert (said.record.status, stop(said)) == ("interrupted", "interrupted")
    assert said.record.results["comparison"]["speeds"]
    assert kept_in_fp32(said).count("not measured |") == 3


@pytest.mark.parametrize(
    ("strategy", "trials", "by"), [("sensitivity", 4, "trials"), ("conservative", 1, "ranking")]
)
def test_reverted_groups_have_their_gain_from_the_ranking_or_from_trials(
    strategy: str, trials: int, by: str, tune: Any, engine: Any
) -> None:
    engine(*[9.0] * (trials - 1), 0.0)
    said = tune("--strategy", strategy, "--max-trials", trials)
    found = said.record.results["reverted"]
    assert len(found) == 3
    assert {x["kl_by"] for x in found} == {by}
    assert all(x["kl"] > 0 for x in found if x["kl_by"] == "ranking")
    assert {x["time_by"] for x in found} == {"plain files"}, "trials stopped early are not timed"


def test_the_front_is_in_the_record_and_the_report_with_what_was_measured(
    tune: Any, engine: Any, cli: Any
) -> None:
    engine(9.0, 9.0, 0.0)
    said = tune("--strategy", "sensitivity")
    results = said.record.results
    front, trials = results["front"], {t["recipe"]["name"]: t for t in results["trials"]}
    assert [point["recipe"] for point in front] == ["qdq", *(f"qdq-front-{i}" for i in (1, 2, 3))]
    errors = [point["error"] for point in front]
    assert errors == sorted(errors, reverse=True)
    assert [len(point["exclude"]) for point in front] == sorted(len(p["exclude"]) for p in front)
    for point in front:
        trial = trials.get(point["recipe"])
        assert trial is None or trial["recipe"]["exclude"] == point["exclude"]
        assert trial is None or trial["recipe"]["placement"] == "fastest"
    (chosen,) = (p for p in front if p["recipe"] == results["recipe"]["name"])
    note = f"predicted {chosen['time'] / 1000:.2f} ms, KL {chosen['error']:.4f}"
    assert trials[chosen["recipe"]]["note"] == note
    rows = front_rows(said)
    assert [row[0].removeprefix("→ ") for row in rows] == [p["recipe"] for p in front]
    measured = {row[0].removeprefix("→ ") for row in rows if row[-1] != "–"}
    assert measured == set(trials)
    picked = cli("tune", "--resume", said.folder, "--pick", "most-accurate")
    assert picked.record.results["front"] == front
    assert front_rows(picked)


def front_rows(said: Any) -> list[list[str]]:
    """The report's table of the front."""
    page = (said.folder / "report.md").read_text()
    part = page[page.index("### Speed against accuracy, as predicted") :]
    rows = re.findall(r"^\| (.*qdq.*) \|$", part[: part.index("The first missed")], re.M)
    return [re.split(r" *\| *", row.strip()) for row in rows]


def test_where_no_front_was_walked_there_is_none(tune: Any, engine: Any) -> None:
    engine(0.01)
    said = tune()
    assert said.record.results["front"] == []
    assert "as predicted" not in (said.folder / "report.md").read_text()


def test_nothing_reverted_is_no_section(tune: Any, engine: Any) -> None:
    engine(0.01)
    said = tune()
    assert said.record.results["reverted"] == []
    assert "Kept in fp32" not in (said.folder / "report.md").read_text()


def test_ctrl_c_in_the_first_trial(tune: Any, best: Path, engine: Any) -> None:
    engine(KeyboardInterrupt())
    said = tune(code=130)
    assert said.err.splitlines()[-1] == "Interrupted."
    assert not best.exists()
    (folder,) = Path("runs").iterdir()
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"


def test_ctrl_c_during_the_last_timing(
    tune: Any, best: Path, engine: Any, ctrl_c_in_timing: Any, tmp_path: Path
) -> None:
    engine(0.01)
    recipe = tmp_path / "only.yaml"
    recipe.write_text("name: only\n")
    ctrl_c_in_timing(2)
    said = tune("--recipe", recipe, code=130)
    assert stop(said) == "interrupted"
    assert [t["status"] for t in said.record.results["trials"]] == ["done"]
    assert best.is_file()


def test_a_recipe_that_fails_does_not_end_it(tune: Any, best: Path, engine: Any) -> None:
    engine(None, 0.01)
    said = tune()
    errors = [t["error"] for t in said.record.results["trials"]]
    assert errors == ["this recipe is beyond the engine.", *[None] * (RUNGS - 1)]
    assert best.is_file()
    assert "this recipe is beyond the engine" in (said.folder / "report.md").read_text()


def test_when_every_recipe_fails_the_first_reason_is_told(
    tune: Any, best: Path, engine: Any
) -> None:
    engine(None)
    said = tune("--quiet", code=2)
    first = FIRST
    assert said.complaint == [
        f"Error: no recipe gave a model; {first}: this recipe is beyond the engine."
    ]
    assert not best.exists()


def test_nothing_meets_the_criterion(tune: Any, best: Path, engine: Any) -> None:
    engine(9.0, 3.0, 9.0)
    said = tune()
    results = said.record.results
    assert not any(t["scores"]["meets"] for t in results["trials"] if t["scores"])
    assert results["output"]["sha256"] == Model.load(best).sha256
    assert results["data"]["images"] == results["comparison"]["n"] == 60
    report = (said.folder / "report.md").read_text()
    for text in (report, said.out):
        assert f"declines by {100 * results['verdict']['measured']:.4g}" in text
        assert "more than the limit of 1%. It was written all the same." in text
    assert "--images-per-class 2" in report


@pytest.mark.parametrize(
    ("noise", "limit", "code", "status"),
    [(0.0, "20%", 0, "pass"), (9.0, "1%", 1, "fail"), (1e-4, "0.1%", 3, "inconclusive")],
)
def test_with_gate_the_verdict_is_the_exit_code(
    noise: float, limit: str, code: int, status: str, tune: Any, engine: Any
) -> None:
    engine(noise)
    said = tune("--gate", "--max-decline", limit, code=code)
    assert said.record.results["verdict"]["status"] == status
    assert said.record.status == "success"
    tune("--max-decline", limit, code=0)


def test_the_budget_ends_the_trials(tune: Any, best: Path, engine: Any) -> None:
    fake = engine(9.0)
    said = tune("--budget", "0.001s")
    assert (stop(said), fake.calls) == ("budget", 1)
    first = said.out.splitlines()[0]
    others = ", ".join(r.name for r in ladder()[1:])
    assert first.startswith(f"Ended by the time budget of 0.001s: not tried: {others}; ")
    report = (said.folder / "report.md").read_text().splitlines()[0]
    assert report.replace("`", "") == first
    assert said.record.results["comparison"]["n"] == 60
    assert best.is_file()
    assert "A larger `--budget`" in (said.folder / "report.md").read_text()


@pytest.mark.parametrize("limit", [("--budget", "0.001s"), ("--max-trials", 1)])
def test_the_command_that_is_named_goes_on(
    limit: tuple[str, object], tune: Any, engine: Any, cli: Any, slow: None
) -> None:
    engine(0.01)
    said = tune(*limit)
    ended = next(line for line in said.out.splitlines() if "To go on" in line)
    words = shlex.split(ended.partition("To go on: quantlab ")[2])
    assert words[:2] == ["tune", "--resume"]
    before, after = said.record.results["trials"], cli(*words).record.results["trials"]
    assert sum(t["status"] == "done" for t in before) == 1
    assert sum(t["status"] == "done" for t in after) > 1


def test_a_slower_file_is_told_first(tune: Any, slow: None) -> None:
    """The exit code is the same, and all rungs are timed in the hope for a faster one."""
    said = tune()
    first = said.out.splitlines()[0]
    assert re.match(r"int8 does not pay on this machine: \d\.\d\dx slower than fp32 at", first)
    assert f"None of the {RUNGS} files that were timed is faster." in first
    assert "100.0% of the MACs are in int8" in first
    report = (said.folder / "report.md").read_text().split("\n\n")
    assert report[2] == first
    assert said.record.results["said_first"][0] == first
    assert said.record.results["comparison"]["macs"]["int8"] == 1
    assert all(t["scores"]["int8_macs"] > 0.9 for t in said.record.results["trials"])


def test_one_folder_for_both_is_split(cli: Any, scene: Any, engine: Any) -> None:
    engine(0.01)
    said = cli("tune", "--model", scene.model, *scene.words)
    assert f"{scene.data} serves for both: 13 images calibrate, 27 others judge." in said.err
    results = said.record.results
    assert (results["calibration"]["images"], results["data"]["images"]) == (13, 27)
    assert Path("tiny.int8.onnx").is_file()


def test_overlap_is_an_error_unless_allowed(cli: Any, scene: Any, engine: Any) -> None:
    engine(0.01)
    copy = scene.folder / "copy"
    shutil.copytree(scene.data, copy)
    line = ("tune", "--model", scene.model, *scene.words, "--eval-data", copy)
    said = cli(*line, code=2)
    assert "40 images both calibrate and judge, for example " in said.err
    assert "--allow-overlap" in said.err
    assert not Path("tiny.int8.onnx").exists()
    assert cli(*line, "--allow-overlap").record.results["data"]["images"] == 40


def test_labels_of_another_label_space(cli: Any, scene: Any, engine: Any, tmp_path: Path) -> None:
    engine(0.01)
    data = image_folder(tmp_path / "pets", ["cat", "dog"], per_class=20, size=40)
    line = ("--data", data, "--pipeline", scene.pipeline)
    said = cli("tune", "--model", scene.model, *line, code=2)
    assert "holds 2 of 10 classes (cat, dog)" in said.err
    label_free = ("--criterion", "agreement >= 60%")
    tuned = cli("tune", "--model", scene.model, *line, *label_free)
    assert "Labels are left aside, and accuracy cannot be judged" in tuned.warnings[0]
    assert tuned.record.results["data"]["labelled"] is False
    compare = ("compare", scene.model, "tiny.int8.onnx", *line, "--no-bench")
    assert "holds 2 of 10 classes (cat, dog)" in cli(*compare, code=2).err
    assert "Labels are left aside" in cli(*compare, *label_free, code=None).warnings[0]


def test_a_given_recipe_keeps_its_own_sample(cli: Any, scene: Any, engine: Any) -> None:
    engine(0.01)
    Path("few.yaml").write_text("name: few\ncalibration_size: 5\n")
    line = ("tune", "--model", scene.model, *scene.words, "--recipe", "few.yaml")
    assert cli(*line).record.results["calibration"]["images"] == 5
    said = cli(*line, "--images-per-class", 1)
    assert said.record.results["calibration"]["images"] == 10


def test_unlabelled_images(cli: Any, scene: Any, engine: Any) -> None:
    engine(0.01)
    flat = scene.folder / "flat"
    listed_folder(flat, [i % 10 for i in range(24)], size=40)
    (flat / "val.txt").unlink()
    said = cli("tune", "--model", scene.model, "--data", flat, *scene.words[2:])
    assert said.record.results["verdict"]["status"] == "inconclusive"
    assert "no labels to judge accuracy by" in said.out
    assert said.record.results["data"]["images"] == 16


def test_npz_images(cli: Any, scene: Any, engine: Any) -> None:
    engine(0.01)
    data = npz_file(scene.folder / "images.npz", [i % 10 for i in range(30)], size=40)
    said = cli("tune", "--model", scene.model, "--data", data, *scene.words[2:])
    results = said.record.results
    assert results["data"]["labelled"]
    assert results["calibration"]["images"] + results["data"]["images"] == 30


@pytest.mark.parametrize(
    "parts", [{"batch": 1}, {"softmax": True}, {"opset": 7, "batch_norm": True}, {"batch": 3}]
)
def test_other_models(parts: dict[str, Any], tune: Any, best: Path, scene: Any, slow: None) -> None:
    model = tiny_classifier(scene.folder / "other.onnx", **parts)
    said = tune("--eval-data", scene.labelled_by_itself("others", model=model), model=model)
    whole, int8 = Model.load(model), Model.load(best)
    assert int8.is_quantized
    assert (int8.input, int8.output_kind) == (whole.input, whole.output_kind)
    assert [t["error"] for t in said.record.results["trials"]].count(None) >= RUNGS - 1


def test_one_recipe_only(tune: Any, best: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\nengine: ort\nranges: minmax\n")
    said = tune("--recipe", recipe, "--images-per-class", 2)
    (trial,) = said.record.results["trials"]
    assert (trial["recipe"]["name"], trial["recipe"]["images_per_class"]) == ("mine", 2)
    assert said.record.results["calibration"]["images"] == 20


def test_fewer_images_than_classes_take_one_sentence(tune: Any, engine: Any) -> None:
    engine(0.01)
    said = tune("--calibration-size", 4)
    assert said.warnings == []
    assert "4 calibration images cover 4 classes.\n" in said.err


def test_the_input_files_are_untouched(tune: Any, scene: Any) -> None:
    before = scene.snapshot()
    tune()
    assert scene.snapshot() == before


def test_machines_share_their_trials(
    tune: Any, engine: Any, best: Path, tmp_path: Path, slow: None
) -> None:
    shared = ("--storage", f"sqlite:///{tmp_path / 'shared.db'}", "--runs-dir")
    engine(0.01)
    first = tune(*shared, "one")
    best.unlink()
    fake = engine(0.01)
    second = tune(*shared, "two")
    assert "done on another machine" in second.err
    assert fake.calls == 1, "the best file is made here"
    results = second.record.results
    assert results["comparison"]["int8"] == first.record.results["comparison"]["int8"]
    assert results["output"]["sha256"] == Model.load(best).sha256


def test_what_failed_on_another_machine_is_tried_here(
    tune: Any, engine: Any, tmp_path: Path, slow: None
) -> None:
    shared = ("--storage", f"sqlite:///{tmp_path / 'shared.db'}", "--runs-dir")
    engine(None)
    tune(*shared, "one", code=2)
    engine(0.01)
    assert [t["error"] for t in tune(*shared, "two").record.results["trials"]] == [None] * RUNGS


def test_another_tune_with_the_same_output_does_no_harm(
    tune: Any, engine: Any, best: Path, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = job.BestFile.keep

    def overwritten(*args: Any) -> None:
        keep(*args)
        shutil.copy(scene.model, best)

    engine(0.01)
    monkeypatch.setattr(job.BestFile, "keep", overwritten)
    said = tune()
    results = said.record.results
    assert Model.load(best).sha256 == results["output"]["sha256"]
    assert results["output"]["sha256"] in {t["sha256"] for t in results["trials"]}


@pytest.fixture
def ended(tune: Any, engine: Any) -> Path:
    """The folder of a tune that has ended; another seed would be other calibration images."""
    engine(0.01)
    folder: Path = tune("--images-per-class", 1).folder
    return folder


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--criterion", "kl <= 0.5"), "criterion"),
        (("--max-decline", "5%"), "criterion"),
        (("--tolerance", "1%"), "criterion"),
        (("--seed", 9), "calibration images"),
        (("--images-per-class", 2), "calibration images"),
        (("--data", "more"), "calibration images"),
        (("--eval-data", "more"), "evaluation images"),
        (("--pipeline", "other.yaml"), "pipeline"),
        (("--output-kind", "probabilities"), "output kind"),
    ],
)
def test_resume_does_not_mix_settings(
    words: tuple[object, ...], named: str, ended: Path, cli: Any, scene: Any
) -> None:
    listed_folder(Path("more"), [i % 10 for i in range(30)], size=40, seed=8)
    Path("other.yaml").write_text(scene.pipeline.read_text().replace("127, 127", "127, 120"))
    settings = (ended / "quantlab.yaml").read_bytes()
    record = (ended / "run.json").read_bytes()
    said = cli("tune", "--resume", ended, *words, code=2)
    assert (ended / "run.json").read_bytes() == record
    assert said.complaint[-2:] == [
        f"Error: {ended} was tuned with another {named}.",
        "Start a new run; what is known is taken from the cache.",
    ]
    assert (ended / "quantlab.yaml").read_bytes() == settings


def test_resume_notices_a_changed_pipeline_file(ended: Path, cli: Any, scene: Any) -> None:
    scene.pipeline.write_text(scene.pipeline.read_text().replace("127, 127", "127, 120"))
    assert "another pipeline" in cli("tune", "--resume", ended, code=2).err


def test_how_to_search_may_change_when_resumed(ended: Path, cli: Any, tmp_path: Path) -> None:
    words = ("--pick", "smallest", "--max-trials", 9, "--budget", "9s", "--strategy", "basic")
    cli("tune", "--resume", ended, *words, "--output", tmp_path / "other.onnx")
    assert (tmp_path / "other.onnx").is_file()
    cli("tune", "--resume", ended, "--max-decline", "1%")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("words", [("--pick", "smallest"), ("--pick", "best", "--gate"), ()])
def test_a_pick_is_a_run_of_its_own(
    words: tuple[str, ...], ended: Path, cli: Any, tmp_path: Path
) -> None:
    before = contents(ended)
    said = cli("tune", "--resume", ended, *words, "--output", tmp_path / "p.onnx", code=None)
    assert contents(ended) == before
    assert said.folder != ended
    assert said.record.source == ended.name
    assert stop(said) == "picked"
    assert ended.name in (said.folder / "report.md").read_text()
    written = Model.load(tmp_path / "p.onnx").sha256
    assert written == said.record.results["output"]["sha256"]
    trials = load_record(ended).results["trials"]
    assert said.record.results["trials"] == trials
    again = cli("tune", "--resume", said.folder, "--pick", "fastest")
    assert again.record.source == said.folder.name


def test_an_interrupted_search_goes_on_in_its_folder(
    tune: Any, engine: Any, cli: Any, slow: None
) -> None:
    engine(0.01, 0.01, KeyboardInterrupt())
    tune(code=130)
    (folder,) = Path("runs").iterdir()
    engine(0.01)
    assert cli("tune", "--resume", folder).folder == folder


def test_nothing_is_picked_where_nothing_was_evaluated(tune: Any, engine: Any, cli: Any) -> None:
    engine(KeyboardInterrupt())
    tune(code=130)
    (folder,) = Path("runs").iterdir()
    before = contents(folder)
    said = cli("tune", "--resume", folder, "--pick", "smallest", code=2)
    assert f"{folder} has no evaluated trial to pick from." in said.err
    assert contents(folder) == before


def test_an_engine_named_when_resuming_holds(ended: Path, cli: Any) -> None:
    record = json.loads((ended / "run.json").read_text())
    record["spec"]["engines"] = ["quantlab"]
    (ended / "run.json").write_text(json.dumps(record))
    said = cli("tune", "--resume", ended, "--engine", "nonsuch", code=2)
    assert "nonsuch" in said.err


def test_a_damaged_identity_takes_two_lines(ended: Path, cli: Any) -> None:
    (ended / "identity.json").write_text("{")
    assert "identity.json is damaged." in cli("tune", "--resume", ended, code=2).err


def test_the_study_is_never_behind(tune: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[SharedStudy] = []

    def study(*args: Any) -> SharedStudy:
        opened.append(SharedStudy(*args))
        return opened[-1]

    def compared(output: Any, *rest: Any) -> None:
        finished = {t.digest for t in TrialStore(output.folder).trials() if t.status != "scored"}
        assert {t.digest for t in opened[0].trials()} == finished
        keep(output, *rest)

    keep = job.BestFile.keep
    monkeypatch.setattr(job, "SharedStudy", study)
    monkeypatch.setattr(job.BestFile, "keep", compared)
    tune()


def test_a_search_space_replaces_the_default(tune: Any, engine: Any) -> None:
    engine(0.01)
    Path("quantlab.yaml").write_text("search: {ranges: [mean, mse]}\n")
    said = tune("--strategy", "grid")
    found = [t["recipe"]["ranges"] for t in said.record.results["trials"]]
    assert (found, stop(said)) == (["mean", "mse"], "finished")


def test_a_search_space_that_allows_nothing_is_told(tune: Any) -> None:
    text = "search: {format: [qoperator], activations: [u16]}\n"
    Path("quantlab.yaml").write_text(text)
    assert "no recipe keeps to the search space" in tune(code=2).err


def test_the_default_space_suits_the_engine(tune: Any) -> None:
    said = tune("--strategy", "grid", "--engine", "ort", "--max-trials", 3)
    assert [t["error"] for t in said.record.results["trials"]] == [None] * 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--inc-strategy", "basic"), "--inc-strategy goes with --engine inc."),
        (("--criterion", "1%", "--max-decline", "1%"), "Give --criterion or --max-decline"),
    ],
)
def test_flags_that_would_be_ignored_are_refused(
    words: tuple[str, ...], sentence: str, tune: Any
) -> None:
    assert sentence in tune(*words, code=2).err


@pytest.fixture
def never_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding a calibration image fails the test."""

    def called(*_: object) -> None:
        raise AssertionError("calibrated")

    monkeypatch.setattr(job, "calibration_images", called)


@pytest.mark.usefixtures("never_calibrated")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--criterion", "nix:score 1%"), "the metric's module nix cannot be imported"),
        (("--engine", "nix"), "no engine is called 'nix'"),
        (("--engine", "inc"), "the inc engine (Neural Compressor) needs the package"),
        *(
            (("--engine", "inc", "--inc-strategy", "basic", "--criterion", text), "of top-1 only")
            for text in (
                "kl <= 0.01",
                "agreement >= 96%",
                "top5.decline <= 1%",
                "math:sqrt.decline <= 1%",
            )
        ),
    ],
)
def test_what_cannot_be_is_told_before_calibration(
    words: tuple[str, ...], sentence: str, tune: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QUANTLAB_INC_PYTHON", raising=False)
    monkeypatch.setattr(job, "_here", lambda module: False)
    said = tune(*words, code=2)
    assert sentence in said.err
    assert len(said.complaint) <= 2


@pytest.mark.parametrize(
    ("pipeline", "words", "warned"),
    [("caffe", (), 1), ("caffe", ("--no-audit",), 0), ("tiny", (), 0)],
)
def test_the_wrong_preprocessing_is_warned_of_unless_that_is_not_wanted(
    pipeline: str, words: tuple[str, ...], warned: int, cli: Any, scene: Any, engine: Any
) -> None:
    engine(0.01)
    scene.untaught()
    data = scene.labelled_by_itself("much", 160)
    named = scene.pipeline if pipeline == "tiny" else pipeline
    line = ("--data", data, "--pipeline", named, "--calibration-size", 60, "--max-trials", 1)
    said = cli("tune", "--model", scene.model, *line, *words)
    found = [w for w in said.warnings if "seems wrong for tiny: on 60 images" in w]
    assert len(found) == warned
    assert ("inspect --preprocess-audit" in said.err) is bool(warned)
