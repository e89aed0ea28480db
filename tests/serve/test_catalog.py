"""The catalog: names and what they stand for, in both databases."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.errors import QuantlabError
from quantlab.fetch import catalog as published
from quantlab.serve.catalog import Catalog, check_name
from quantlab.serve.datasets import add_dataset
from quantlab.serve.queue import NotFoundError
from quantlab.serve.service import Service
from quantlab.testing.images import image_folder, listed_folder

A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def catalog(service: Service) -> Catalog:
    return service.catalog


def test_a_model_is_found_by_its_name_and_its_hash(catalog: Catalog) -> None:
    added = catalog.add_model(A, "net.onnx", 10, {"opset": 13}, "job1")
    assert (added.name, added.key, added.job) == ("net", f"models/{A}", "job1")
    for name in ("net", "net.onnx", A):
        assert catalog.model(name) == added
    for name in ("other", B, "a" * 63):
        with pytest.raises(NotFoundError, match="no model called"):
            catalog.model(name)


def test_the_newest_model_of_a_name_counts(catalog: Catalog) -> None:
    catalog.add_model(A, "net", 10, {})
    catalog.add_model(B, "net", 20, {})
    assert catalog.model("net").sha256 == B
    assert catalog.model(A).sha256 == A
    catalog.add_model(A, "net", 10, {})
    assert catalog.model("net").sha256 == A


def test_a_model_may_have_several_names(catalog: Catalog) -> None:
    catalog.add_model(A, "first", 10, {})
    catalog.add_model(A, "second", 10, {})
    assert catalog.model("first").sha256 == catalog.model("second").sha256 == A
    assert len(catalog.models()) == 2


def test_models_are_listed_in_pages_each_once(catalog: Catalog) -> None:
    for name in ("x", "y", "z"):
        for sha256 in (A, B, C):
            catalog.add_model(sha256, name, 10, {})
    found, before = [], None
    for _ in range(20):
        page = catalog.models(before=before, limit=2)
        if not page:
            break
        found += [(model.sha256, model.name) for model in page]
        before = (page[-1].created, page[-1].sha256)
    assert found == [(model.sha256, model.name) for model in catalog.models()]
    assert len(set(found)) == len(found) == 9


def test_the_same_model_from_many_sides_is_there_once(catalog: Catalog) -> None:
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def add() -> None:
        start.wait()
        try:
            catalog.add_model(A, "net", 10, {})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(catalog.models()) == 1


def test_datasets(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no dataset called val") as caught:
        catalog.dataset("val")
    assert "quantlab dataset add" in caught.value.remedy
    facts = add_dataset(catalog, "val", image_folder(tmp_path / "images", 3))
    assert (facts["images"], facts["labelled"]) == (6, True)
    found = catalog.dataset("val")
    assert (found.path, found.facts, found.list_file) == (str(tmp_path / "images"), facts, None)
    listed = listed_folder(tmp_path / "listed", [0, 1], list_name="mine.txt")
    add_dataset(catalog, "val", listed, Path("listed/mine.txt"))
    changed = catalog.dataset("val")
    assert changed.list_file == str(listed / "mine.txt"), "absolute, wherever a worker is"
    assert changed.facts["images"] == 2
    catalog.add_dataset("other", tmp_path, None, None, {})
    assert [each.name for each in catalog.datasets()] == ["other", "val"]
    with pytest.raises(NotFoundError) as caught:
        catalog.dataset("nothing")
    assert caught.value.remedy == "There is: other, val."
    catalog.remove_dataset("val")
    assert (tmp_path / "listed" / "mine.txt").exists()
    with pytest.raises(NotFoundError):
        catalog.remove_dataset("val")


def test_a_dataset_that_is_none_gets_no_name(catalog: Catalog, tmp_path: Path) -> None:
    for place in (tmp_path / "nothing", tmp_path):
        with pytest.raises(QuantlabError):
            add_dataset(catalog, "val", place)
    assert catalog.datasets() == []


def test_recipes(catalog: Catalog) -> None:
    added = catalog.add_recipe("mine", "name: mine\nformat: qdq\n")
    assert catalog.recipe("mine") == added
    changed = catalog.add_recipe("mine", "name: mine\nformat: qoperator\n")
    assert catalog.recipes() == [changed]
    assert catalog.recipe(next(iter(published()))) is None, "every quantlab has it"
    with pytest.raises(NotFoundError):
        catalog.recipe("nothing")
    for text in ("format: nonsense", "- 1", "a: &a [*a]", "{", "nothing: 1", ""):
        with pytest.raises(QuantlabError):
            catalog.add_recipe("bad", text)
    assert catalog.recipes() == [changed]


def test_baselines(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError):
        catalog.baseline("release")
    catalog.add_baseline("release", "job1", {"b.yaml": "jobs/job1/1/b.yaml"})
    catalog.add_baseline("release", "job2", {"b.yaml": "jobs/job2/1/b.yaml"})
    (found,) = catalog.baselines()
    assert (found.job, found.files) == ("job2", {"b.yaml": "jobs/job2/1/b.yaml"})
    assert catalog.baseline("release") == found


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "ä", "a" * 101, "a\0", "~", "a\\b"]
)
def test_what_is_no_name(name: str, sqlite_service: Service, tmp_path: Path) -> None:
    catalog = sqlite_service.catalog
    for add in (
        lambda: catalog.add_model(A, name, 1, {}),
        lambda: catalog.add_dataset(name, tmp_path, None, None, {}),
        lambda: catalog.add_recipe(name, "name: a"),
        lambda: catalog.add_baseline(name, "job", {}),
    ):
        with pytest.raises(QuantlabError, match="no name for the service"):
            add()


@given(st.text(max_size=110))
def test_a_name_is_one_part_of_a_path(name: str) -> None:
    try:
        check_name(name)
    except QuantlabError:
        return
    assert Path(name).parts == (name,)
    assert name not in (".", "..")
    assert name.isascii()
    assert not name.startswith(("-", "."))
