"""The service: what a request's names stand for is settled when it is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import make_request
from sqlalchemy import update

from quantlab.errors import QuantlabError
from quantlab.fetch import catalog as published
from quantlab.serve.db import JOBS
from quantlab.serve.queue import ConflictError, NotFoundError, TooManyError
from quantlab.serve.service import Service, request_of
from quantlab.serve.settings import Settings, load_settings

A, B = "a" * 64, "b" * 64
ASKED = {"verb": "evaluate", "model": "net", "data": "val"}


@pytest.fixture
def held(service: Service, tmp_path: Path) -> Service:
    """A service with a model and a dataset."""
    service.catalog.add_model(A, "net", 10, {})
    service.catalog.add_dataset("val", tmp_path, None, tmp_path / "synsets.txt", {})
    return service


def test_a_job_means_what_it_meant_when_it_was_asked_for(held: Service, tmp_path: Path) -> None:
    job, new = held.submit(make_request(**ASKED), "token")
    assert new
    held.catalog.add_model(B, "net", 20, {})
    held.catalog.remove_dataset("val")
    kept = held.queue.get(job.id)
    synsets = str(tmp_path / "synsets.txt")
    assert kept.inputs == {
        "models": [{"sha256": A, "name": "net"}],
        "data": {
            "data": {"name": "val", "path": str(tmp_path), "list_file": None, "synsets": synsets}
        },
    }
    assert request_of(kept) == make_request(**ASKED)
    assert str(tmp_path) not in str(kept.request), "the request is the client's own"


def test_recipes_and_baselines_are_kept_with_the_job(held: Service) -> None:
    held.catalog.add_recipe("mine", "name: mine\nformat: qdq\n")
    tune = {"verb": "tune", "model": "net", "data": "val"}
    mine, _ = held.submit(make_request(**tune, recipe="mine"), "token")
    held.catalog.add_recipe("mine", "name: mine\nformat: qoperator\n")
    assert mine.inputs["recipe"] == {"name": "mine", "text": "name: mine\nformat: qdq\n"}
    name = next(iter(published()))
    known, _ = held.submit(make_request(**tune, recipe=name), "token")
    assert known.inputs["recipe"] == {"name": name, "text": None}
    files = {"b.yaml": f"{mine.folder}/b.yaml"}
    held.catalog.add_baseline("release", mine.id, files)
    gate = make_request(verb="gate", models=["net"], data="val", baseline="release")
    judged, _ = held.submit(gate, "token")
    assert judged.inputs["baseline"] == files


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"data": "other"},
        {"verb": "tune", "recipe": "other"},
        {"verb": "tune", "eval_data": "other"},
    ],
    ids=str,
)
def test_names_that_stand_for_nothing(change: dict[str, str], held: Service) -> None:
    with pytest.raises(NotFoundError, match="other"):
        held.submit(make_request(**{**ASKED, **change}), "token")
    assert held.queue.recent() == []


def test_the_same_key_is_the_same_job_also_when_names_mean_other_things(held: Service) -> None:
    first, new = held.submit(make_request(**ASKED), "token", "key")
    assert new
    held.catalog.remove_dataset("val")
    again, new = held.submit(make_request(**ASKED), "token", "key")
    assert (again, new) == (first, False)
    with pytest.raises(ConflictError):
        held.submit(make_request(**{**ASKED, "threads": 1}), "token", "key")


def test_a_token_s_jobs_are_limited(tmp_path: Path) -> None:
    with Service.open(Settings(home=tmp_path / "home", max_queued=1)) as service:
        service.catalog.add_model(A, "net", 10, {})
        service.catalog.add_dataset("val", tmp_path, None, None, {})
        service.submit(make_request(**ASKED), "token", "key")
        with pytest.raises(TooManyError):
            service.submit(make_request(**ASKED), "token")
        assert service.submit(make_request(**ASKED), "token", "key")[1] is False


def test_a_request_of_another_version(held: Service) -> None:
    job, _ = held.submit(make_request(**ASKED), "token")
    with held.database.writing() as connection:
        values = {"request": {"verb": "evaluate", "old": 1}}
        connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(values))
    with pytest.raises(QuantlabError, match="another version"):
        request_of(held.queue.get(job.id))


def test_opening_again_finds_what_was_there(tmp_path: Path) -> None:
    for _ in range(2):
        with Service.open(Settings(home=tmp_path / "home")) as service:
            service.catalog.add_model(A, "net", 10, {})
    with Service.open(Settings(home=tmp_path / "home")) as service:
        assert [model.name for model in service.catalog.models()] == ["net"]


DOCS = Path(__file__).parents[2] / "docs" / "serve.md"


def in_words(name: str) -> str:
    """A setting's default, as a file would say it."""
    value = Settings.model_fields[name].default
    if name == "machine":
        return "its host name"
    if value is None:
        return "for ever" if name.startswith("keep_") else "in `home`"
    if value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, tuple):
        return ", ".join(f"`{part or repr(part)}`" for part in value)
    if isinstance(value, float):
        return next(f"`{value / n:g}{unit}`" for unit, n in DURATIONS if value % n == 0)
    sizes = (f"`{value // n}{unit}`" for unit, n in SIZES if value >= n and name not in COUNTS)
    return next(sizes, f"`{value}`") if isinstance(value, int) else f"`{value}`"


DURATIONS = (("h", 3600), ("m", 60), ("s", 1))
SIZES = (("GB", 10**9), ("MB", 10**6))
COUNTS = ("max_queued", "requests_a_minute", "losses")


class TestSettings:
    def test_the_docs_table_is_of_these(self) -> None:
        rows = [
            f"| `{name}` | {in_words(name)} | {field.description} |"
            for name, field in Settings.model_fields.items()
        ]
        text = DOCS.read_text().partition("## Settings\n")[2].partition("\n## ")[0]
        assert [line for line in text.splitlines() if line.startswith("| `")] == rows, "\n".join(
            rows
        )

    def test_the_docs_settings_are_settings(self, tmp_path: Path) -> None:
        blocks = re.findall(r"^```yaml\n(.*?)^```$", DOCS.read_text(), re.M | re.S)
        assert blocks
        for block in blocks:
            (tmp_path / "settings.yaml").write_text(block)
            load_settings(tmp_path / "settings.yaml")

    def test_places_are_in_the_home(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path)
        assert settings.db_url == f"sqlite:///{tmp_path / 'server.db'}"
        assert settings.store_url == str(tmp_path / "store")

    def test_what_is_given_wins_over_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QUANTLAB_SERVER_HOME", str(tmp_path / "home"))
        assert load_settings(None).home == tmp_path / "home"
        file = tmp_path / "settings.yaml"
        file.write_text("home: /srv/a\njob_time: 10m\njob_memory: 2GB\nlease: 5\n")
        loaded = load_settings(file, home=None, store="s3://bucket/x")
        assert (loaded.home, loaded.store) == (Path("/srv/a"), "s3://bucket/x")
        assert (loaded.job_time, loaded.job_memory, loaded.lease) == (600.0, 2 * 10**9, 5.0)
        assert load_settings(file, home=Path("/srv/b")).home == Path("/srv/b")

    @pytest.mark.parametrize(
        "text", ["nothing: 1", "job_time: soon", "lease: 0", "max_queued: 0", "domains: 1", "- 1"]
    )
    def test_what_is_wrong_is_said(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "settings.yaml").write_text(text)
        with pytest.raises(QuantlabError, match=r"settings\.yaml"):
            load_settings(tmp_path / "settings.yaml")
