from __future__ import annotations

from typing import Any

import pytest
from holdings import add_model

from quantlab.serve.service import Service

MODELS = "/api/v1/models"


def test_a_model_by_name_and_by_content(client: Any) -> None:
    (model,) = client.get(MODELS).json()["items"]
    assert model["name"] == "net"
    assert model["facts"] == {"opset": 13}
    for name in ("net", "net.onnx", model["sha256"]):
        assert client.get(f"{MODELS}/{name}").json() == model


def test_its_file(client: Any, stocked: Service) -> None:
    model = stocked.catalog.model("net")
    response = client.get(f"{MODELS}/net/file")
    with stocked.objects.open(model.key) as file:
        assert response.content == file.read()
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].endswith("''net.onnx")


def test_the_newest_of_a_name(client: Any, stocked: Service) -> None:
    newer = add_model(stocked, "net", seed=1)
    assert client.get(f"{MODELS}/net").json()["sha256"] == newer.sha256
    assert len(client.get(MODELS).json()["items"]) == 2


def test_pages(client: Any, stocked: Service) -> None:
    made = ["net"]
    for i in range(1, 6):
        add_model(stocked, f"net{i}", seed=i)
        made.append(f"net{i}")
    found, address = [], f"{MODELS}?limit=2"
    while address:
        page = client.get(address).json()
        found += [model["name"] for model in page["items"]]
        address = page["next"]
    assert found == made[::-1]


@pytest.mark.parametrize("after", ["x", "1", "1,2", "1.0," + "g" * 64, "nan," + "a" * 64])
def test_a_page_after_nothing(small_client: Any, after: str) -> None:
    assert small_client.get(MODELS, params={"after": after}).status_code == 422


def test_nobody_knows_it(client: Any) -> None:
    for path in ("nobody", "f" * 64, "nobody/file"):
        response = client.get(f"{MODELS}/{path}")
        assert response.status_code == 404
        assert "Upload it" in response.json()["remedy"]
