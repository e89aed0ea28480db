"""Datasets, recipes, baselines."""

from __future__ import annotations

from typing import Any

import pytest
from clients import clients_of
from holdings import ask, end

from quantlab._util.yamlfile import parse_yaml, validate
from quantlab.recipe import Recipe
from quantlab.serve.service import Service

RECIPES = "/api/v1/recipes"
TEXT = "name: mine\nformat: qdq\nranges: percentile\n"


def test_datasets_have_no_paths(client: Any) -> None:
    (dataset,) = client.get("/api/v1/datasets").json()["items"]
    assert dataset == client.get("/api/v1/datasets/val").json()
    assert {key: value for key, value in dataset.items() if key != "created"} == {
        "name": "val",
        "images": 12,
        "labelled": True,
        "digest": "d" * 64,
    }
    assert client.get("/api/v1/datasets/nobody").status_code == 404


def test_a_recipe_is_kept_and_replaced(client: Any) -> None:
    headers = {"Content-Type": "application/yaml"}
    kept = client.put(f"{RECIPES}/mine", content=TEXT, headers=headers)
    assert (kept.status_code, kept.json()["source"]) == (200, "uploaded")
    response = client.get(f"{RECIPES}/mine")
    assert (response.text, response.headers["content-type"]) == (TEXT, "application/yaml")
    client.put(f"{RECIPES}/mine", content=TEXT.replace("qdq", "qoperator"))
    assert "qoperator" in client.get(f"{RECIPES}/mine").text


def test_recipes_of_published_models_are_there_too(client: Any) -> None:
    found = {each["name"]: each for each in client.get(RECIPES).json()["items"]}
    assert len(found) > 5
    assert list(found) == sorted(found)
    for name, each in found.items():
        text = client.get(each["links"]["self"]).text
        assert validate(Recipe, parse_yaml(text, name), name)
    client.put(f"{RECIPES}/mine", content=TEXT)
    assert len(client.get(RECIPES).json()["items"]) == len(found) + 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"name: [",
        b"format: qdq\ncolour: red\n",
        b"\xff\xfe",
        b"a: &a [1]\nb: *a\n",
        b"!!python/object/apply:os.system [true]",
        b"name: x\nformat: 2026-99-99\n",
        b"[" * 60_000,
        b"- " * 30_000,
        b"? " * 30_000,
        b"{a: " * 15_000,
        b"name: mine\x00",
    ],
)
def test_what_is_no_recipe(small_client: Any, text: bytes) -> None:
    response = small_client.put(f"{RECIPES}/mine", content=text)
    assert response.status_code == 422
    assert small_client.get(f"{RECIPES}/mine").status_code == 404


def test_a_recipe_is_short(small_client: Any) -> None:
    long = TEXT + "# " + "x" * 64 * 1024
    assert small_client.put(f"{RECIPES}/mine", content=long).status_code == 413


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "nonsense", "a/b/c"])
def test_the_body_is_yaml_whatever_it_is_called(small_client: Any, kind: str) -> None:
    response = small_client.put(f"{RECIPES}/mine", content=TEXT, headers={"Content-Type": kind})
    assert response.status_code in (200, 422)


def test_readers_change_nothing(stocked: Service) -> None:
    (client,) = clients_of(stocked, "read")
    assert client.put(f"{RECIPES}/mine", content=TEXT).status_code == 403
    assert client.get(f"{RECIPES}/mine").status_code == 404


def test_baselines_lead_to_their_files(client: Any, stocked: Service) -> None:
    ask(stocked, verb="baseline", name="accepted")
    job = end(stocked, {"quantlab-baseline.yaml": b"a: 1\n", "quantlab-baseline.npz": b"x"})
    keys = {name: f"{job.folder}/{name}" for name in job.files}
    stocked.catalog.add_baseline("accepted", job.id, keys)
    (found,) = client.get("/api/v1/baselines").json()["items"]
    assert found == client.get("/api/v1/baselines/accepted").json()
    assert str(job.folder) not in str(found)
    assert client.get(found["links"]["files"]["quantlab-baseline.yaml"]).content == b"a: 1\n"
    assert client.get("/api/v1/baselines/nobody").status_code == 404
