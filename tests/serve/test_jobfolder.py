"""A job's folder: inputs under their names, results and nothing else, and what came before."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from conftest import make_request
from worksite import CLASSES, ask, equip, upload

from quantlab.data.readers import open_dataset
from quantlab.errors import DataError, QuantlabError
from quantlab.model.model import Model
from quantlab.serve.jobfolder import JobFolder
from quantlab.serve.objects import ObjectMissingError
from quantlab.serve.queue import Job
from quantlab.serve.service import Service
from quantlab.testing.formats import record_file
from quantlab.testing.images import image_folder, listed_folder, npz_file
from quantlab.testing.models import tiny_classifier


@pytest.fixture
def service(sqlite_service: Service, tmp_path: Path) -> Service:
    """A service with the model ``net`` and the dataset ``val``."""
    equip(sqlite_service, tmp_path / "images")
    return sqlite_service


def laid_out(service: Service, job: Job, place: Path) -> JobFolder:
    folder = JobFolder(place, job, service.objects, service.settings.bounds)
    folder.lay_out()
    return folder


def tree(folder: Path) -> dict[str, str]:
    """By path, what lies there: the target of a link, or the size of a file."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink())
        if path.is_symlink()
        else str(path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_model_and_a_dataset(service: Service, tmp_path: Path) -> None:
    folder = laid_out(service, ask(service, "evaluate"), tmp_path / "job")
    size = str((tmp_path / "home" / "net.onnx").stat().st_size)
    images = str(tmp_path / "images")
    assert tree(folder.path) == {"net.onnx": size, "datasets/val": images}
    assert folder.argv == ["evaluate", "--data=datasets/val", "net.onnx"]
    assert folder.read == [tmp_path / "images"]
    assert folder.results() == {}
    folder.remove()
    assert not folder.path.exists()
    assert len(list((tmp_path / "images").rglob("*.png"))) == 12, "a link is not followed"


def test_what_lay_there_is_gone_but_not_what_it_leads_to(service: Service, tmp_path: Path) -> None:
    write(tmp_path / "precious" / "file")
    write(tmp_path / "job" / "old")
    (tmp_path / "job" / "link").symlink_to(tmp_path / "precious")
    folder = laid_out(service, ask(service, "evaluate"), tmp_path / "job")
    assert set(tree(folder.path)) == {"net.onnx", "datasets/val"}
    assert (tmp_path / "precious" / "file").exists()


def test_two_models_of_one_name(service: Service, tmp_path: Path) -> None:
    other = tiny_classifier(tmp_path / "net.onnx", classes=CLASSES, seed=1)
    first = service.catalog.model("net").sha256
    second = upload(service, other).sha256
    asked = ask(service, "compare", fp32=first, int8=second, no_bench=True)
    folder = laid_out(service, asked, tmp_path / "job")
    assert folder.argv[-2:] == ["net.onnx", f"{second[:12]}/net.onnx"]
    assert [Model.load(folder.path / place).sha256 for place in folder.argv[-2:]] == [first, second]
    assert folder.results() == {}


def test_one_model_twice(service: Service, tmp_path: Path) -> None:
    sha256 = service.catalog.model("net").sha256
    folder = laid_out(service, ask(service, "bench", models=["net"] * 3), tmp_path / "job")
    assert folder.argv[-3:] == ["net.onnx", *[f"{sha256[:12]}/net.onnx"] * 2]
    assert all((folder.path / place).is_file() for place in folder.argv[-3:])


@pytest.mark.parametrize("name", ["net2", "runs", "datasets", "recipes", "quantlab.yaml"])
def test_a_zip_with_external_data(name: str, service: Service, tmp_path: Path) -> None:
    """Whatever it is called, and whatever is called so in the zip."""
    proto = onnx.load(tiny_classifier(tmp_path / "plain.onnx", classes=CLASSES))
    place = tmp_path / "export" / "My model.onnx"
    place.parent.mkdir()
    onnx.save(proto, place, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with zipfile.ZipFile(tmp_path / "packed", "w") as archive:
        for file in place.parent.iterdir():
            archive.write(file, f"deep/{file.name}")
    stored = upload(service, tmp_path / "packed", name)
    folder = laid_out(service, ask(service, "quantize", model=name), tmp_path / "job")
    mine = stored.sha256[:12]
    assert folder.argv[0] == "quantize"
    assert f"{mine}/deep/{name}.onnx" in folder.argv
    model = Model.load(folder.path / mine / "deep" / f"{name}.onnx")
    assert model.num_classes == CLASSES
    assert folder.results() == {}
    write(folder.path / "runs" / "one" / "run.json")
    write(folder.path / f"{name}.int8.onnx")
    assert set(folder.results()) == {"runs/one/run.json", f"{name}.int8.onnx"}


def test_a_damaged_zip_is_refused(service: Service, tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(b"PK\x03\x04 and no more")
    upload(service, tmp_path / "packed", "bad")
    with pytest.raises(QuantlabError, match="damaged zip"):
        laid_out(service, ask(service, "evaluate", model="bad"), tmp_path / "job")


def test_lists_and_class_lists(service: Service, tmp_path: Path) -> None:
    images = listed_folder(tmp_path / "listed", [0, 1], list_name="mine.csv")
    synsets = write(tmp_path / "elsewhere" / "classes.txt", "n00000001\nn00000002\n")
    service.catalog.add_dataset("mine", images, images / "mine.csv", synsets, {})
    folder = laid_out(service, ask(service, "evaluate", data="mine"), tmp_path / "job")
    assert folder.argv[1:4] == [
        "--data=datasets/mine",
        "--list=datasets/mine.list_file.csv",
        "--synsets=datasets/mine.synsets.txt",
    ]
    links = tree(folder.path)
    assert links["datasets/mine.list_file.csv"] == str(images / "mine.csv")
    assert links["datasets/mine.synsets.txt"] == str(synsets)
    assert set(folder.read) == {images, images / "mine.csv", synsets}


def test_a_class_list_that_is_found_beside_the_images_may_be_read(
    service: Service, tmp_path: Path
) -> None:
    images = image_folder(tmp_path / "set" / "val", ["n00000001", "n00000002"])
    synsets = write(tmp_path / "set" / "synset_words.txt", "n00000001 a\nn00000002 b\n")
    service.catalog.add_dataset("named", images, None, None, {})
    folder = laid_out(service, ask(service, "evaluate", data="named"), tmp_path / "job")
    assert set(folder.read) == {images, synsets}
    dataset = open_dataset(folder.path / "datasets" / "named")
    assert dataset.class_names == ("a", "b")


@pytest.mark.parametrize("kind", ["npz", "rec", "list"])
def test_a_dataset_that_is_a_file(kind: str, service: Service, tmp_path: Path) -> None:
    place = tmp_path / "set"
    place.mkdir()
    if kind == "npz":
        file = npz_file(place / "images.npz", [0, 1])
    elif kind == "rec":
        record_file(file := place / "images.rec", [0, 1])
    else:
        file = npz_list(place)
    service.catalog.add_dataset("packed", file, None, None, {})
    folder = laid_out(service, ask(service, "evaluate", data="packed"), tmp_path / "job")
    assert folder.argv[1] == f"--data=datasets/packed/{file.name}"
    assert folder.read == [place if kind == "list" else file]
    assert len(open_dataset(folder.path / "datasets" / "packed" / file.name)) == 2


def npz_list(place: Path) -> Path:
    """What ``quantlab data npz`` writes."""
    from click.testing import CliRunner

    from quantlab.cli import main

    tiny_classifier(place / "m.onnx", classes=2)
    image_folder(place / "images", 2, 1)
    words = ["data", "npz", "--model", str(place / "m.onnx"), "--data", str(place / "images")]
    done = CliRunner().invoke(main, [*words, "--output", str(place / "npz")])
    assert done.exit_code == 0, done.output
    (found,) = place.rglob("npz_datalist.txt")
    for file in found.parent.iterdir():
        file.rename(place / file.name)
    return place / found.name


def test_images_to_judge_on_with_a_list(service: Service, tmp_path: Path) -> None:
    judged = listed_folder(tmp_path / "judged", [0, 1, 2, 3], list_name="mine.txt")
    service.catalog.add_dataset("judged", judged, judged / "mine.txt", None, {})
    asked = ask(service, "tune", eval_data="judged", no_bench=True)
    folder = laid_out(service, asked, tmp_path / "job")
    assert [word for word in folder.argv if "datasets" in word] == [
        "--data=datasets/val",
        "--eval-data=datasets/judged",
        "--eval-list=datasets/judged.list_file.txt",
    ]
    assert set(folder.read) >= {judged, judged / "mine.txt", tmp_path / "images"}
    assert folder.results() == {}


def test_what_is_not_on_this_machine(service: Service, tmp_path: Path) -> None:
    gone = image_folder(tmp_path / "gone", 2)
    service.catalog.add_dataset("gone", gone, None, None, {})
    service.catalog.add_dataset("half", tmp_path / "images", tmp_path / "no.txt", None, {})
    first, second = ask(service, "evaluate", data="gone"), ask(service, "evaluate", data="half")
    gone.rename(tmp_path / "moved")
    for job in (first, second):
        with pytest.raises(DataError, match="not on this machine") as caught:
            laid_out(service, job, tmp_path / "job")
        assert str(tmp_path) not in str(caught.value)
    (service.objects.local(service.catalog.model("net").key) or Path()).unlink()
    with pytest.raises(ObjectMissingError):
        laid_out(service, ask(service, "evaluate"), tmp_path / "job")


def test_recipes(service: Service, tmp_path: Path) -> None:
    """An uploaded one lies where it is no configuration; a published one is only a name."""
    text = "name: mine\nformat: qdq\n"
    service.catalog.add_recipe("quantlab", text)
    asked = ask(service, "quantize", recipe="quantlab")
    folder = laid_out(service, asked, tmp_path / "job")
    assert "--recipe=recipes/quantlab.yaml" in folder.argv
    assert (folder.path / "recipes" / "quantlab.yaml").read_text() == text
    assert not (folder.path / "quantlab.yaml").exists()
    assert folder.results() == {}
    published = ask(service, "quantize", recipe="mobilenetv2-12")
    folder = laid_out(service, published, tmp_path / "job")
    assert "--recipe=mobilenetv2-12" in folder.argv


def test_a_baseline(service: Service, tmp_path: Path) -> None:
    names = ("quantlab-baseline.yaml", "quantlab-baseline.npz")
    made = ask(service, "evaluate").id
    for name in names:
        service.objects.put(f"jobs/{made}/1/{name}", write(tmp_path / name, name))
    files = {name: f"jobs/{made}/1/{name}" for name in names}
    service.catalog.add_baseline("release", made, files)
    asked = ask(service, "gate", models=["net"], baseline="release")
    folder = laid_out(service, asked, tmp_path / "job")
    assert "--baseline=quantlab-baseline.yaml" in folder.argv
    assert (folder.path / "quantlab-baseline.npz").read_text() == "quantlab-baseline.npz"
    assert folder.results() == {}


def test_results_are_files_of_the_folder_and_no_links(service: Service, tmp_path: Path) -> None:
    folder = laid_out(service, ask(service, "evaluate"), tmp_path / "job")
    secret = write(tmp_path / "secret" / "key")
    for name in ("a.txt", "runs/r/run.json", "runs/r/deep/b.png", ".hidden", "runs/.lock", "a b"):
        write(folder.path / name)
    (folder.path / "link").symlink_to(secret)
    (folder.path / "runs" / "r" / "link").symlink_to(secret)
    (folder.path / "folder").symlink_to(secret.parent)
    assert set(folder.results()) == {"a.txt", "runs/r/run.json", "runs/r/deep/b.png"}


def attempt(job: Job, number: int) -> Job:
    return replace(job, attempts=number)


class TestWhatIsKept:
    def tune(self, service: Service, tmp_path: Path, number: int, **asked: Any) -> JobFolder:
        job = attempt(ask(service, "tune", no_bench=True, key="tune", **asked), number)
        return laid_out(service, job, tmp_path / str(number))

    def test_only_what_is_new_in_the_order_it_was_written(
        self, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = self.tune(service, tmp_path, 1)
        folder.keep()
        run = folder.path / "runs" / "r"
        names = ["run.json", "trials/b.npz", "trials/a.json", "study.db", "study.db-journal"]
        for time, name in enumerate(names):
            os.utime(write(run / name), (1000 + time, 1000 + time))
        write(folder.path / "net.int8.onnx")
        order: list[str] = []
        put = service.objects.put

        def noted(key: str, source: Path) -> None:
            order.append(key)
            put(key, source)

        monkeypatch.setattr(service.objects, "put", noted)
        folder.keep()
        base = f"{folder.job.folder}/runs/r"
        kept = [f"{base}/{name}" for name in names[:3]]
        assert order == kept
        folder.keep()
        assert order == kept
        write(run / "trials" / "c.json")
        folder.keep()
        assert order == [*kept, f"{base}/trials/c.json"]

    def test_another_attempt_goes_on_with_it(self, service: Service, tmp_path: Path) -> None:
        first = self.tune(service, tmp_path, 1, gate=True)
        for name in ("run.json", "trials/a.json", "models/m.onnx"):
            write(first.path / "runs" / "r" / name, f"1 {name}")
        first.keep()
        second = self.tune(service, tmp_path, 2, gate=True)
        assert second.argv == ["tune", "--resume=runs/r", "--gate"]
        assert (second.path / "net.onnx").exists()
        found = {p.relative_to(second.path / "runs" / "r") for p in second.path.rglob("r/**/*.*")}
        assert set(map(str, found)) == {"run.json", "trials/a.json", "models/m.onnx"}

    def test_of_each_file_the_newest(self, service: Service, tmp_path: Path) -> None:
        """The second attempt was lost when it had kept only some of what it was given."""
        first = self.tune(service, tmp_path, 1)
        for name in ("run.json", "trials/a.json", "trials/b.json"):
            write(first.path / "runs" / "r" / name, f"1 {name}")
        first.keep()
        second = attempt(first.job, 2)
        for name in ("run.json", "trials/c.json"):
            file = write(tmp_path / "new", f"2 {name}")
            service.objects.put(f"{second.folder}/runs/r/{name}", file)
        third = self.tune(service, tmp_path, 3)
        found = {path.name: path.read_text()[0] for path in third.path.glob("runs/r/**/*.json")}
        assert found == {"run.json": "2", "a.json": "1", "b.json": "1", "c.json": "2"}

    def test_without_a_record_it_begins_again(self, service: Service, tmp_path: Path) -> None:
        first = self.tune(service, tmp_path, 1)
        write(first.path / "runs" / "r" / "trials" / "a.json")
        first.keep()
        second = self.tune(service, tmp_path, 2)
        assert second.argv[0] == "tune"
        assert "net.onnx" in second.argv
        assert "--resume" not in second.argv
        assert not (second.path / "runs").exists()

    def test_other_verbs_begin_again(self, service: Service, tmp_path: Path) -> None:
        job = ask(service, "evaluate")
        file = write(tmp_path / "run.json")
        service.objects.put(f"jobs/{job.id}/1/runs/r/run.json", file)
        folder = laid_out(service, attempt(job, 2), tmp_path / "job")
        assert folder.argv[0] == "evaluate"
        assert folder.results() == {}


def test_no_input_takes_the_place_of_another(service: Service, tmp_path: Path) -> None:
    """All that a request can name at once, called as badly as can be."""
    for name in ("runs", "quantlab"):
        upload(service, tiny_classifier(tmp_path / "m.onnx", classes=CLASSES), name)
    service.catalog.add_dataset("quantlab.yaml", tmp_path / "images", None, None, {})
    service.catalog.add_recipe("quantlab-baseline", "name: x\n")
    asked = make_request(
        verb="tune", model="quantlab", data="quantlab.yaml", recipe="quantlab-baseline"
    )
    job, _ = service.submit(asked, "token")
    folder = laid_out(service, job, tmp_path / "job")
    assert set(tree(folder.path)) == {
        "quantlab.onnx",
        "datasets/quantlab.yaml",
        "recipes/quantlab-baseline.yaml",
    }
