from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from clients import app_of, client_of, clients_of

from quantlab.errors import ModelError
from quantlab.serve import uploads as module
from quantlab.serve.db import UPLOADS, UnavailableError
from quantlab.serve.service import Service
from quantlab.serve.uploads import Uploads
from quantlab.testing.models import tiny_classifier

UPLOADS_PATH = "/api/v1/uploads"
CONTENT = bytes(range(256)) * 40
Check = Any


class Looked:
    """A check that remembers what it saw; the real one is tested beside."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self.error: Exception | None = None

    def __call__(self, file: Path, tmp: Path) -> dict[str, Any]:
        assert file.is_absolute()
        assert tmp.is_dir()
        self.seen.append((file.name, file.read_bytes()))
        if self.error:
            raise self.error
        return {"classes": 4}


@pytest.fixture
def looked() -> Looked:
    return Looked()


@pytest.fixture
def client(service: Service, looked: Looked) -> Any:
    app = app_of(service)
    app.state.uploads = Uploads(service, looked)
    return client_of(app)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def begin(client: Any, content: bytes = CONTENT, name: str = "net.onnx") -> Any:
    facts = {"name": name, "bytes": len(content), "sha256": sha256_of(content)}
    return client.post(UPLOADS_PATH, json=facts)


def send(client: Any, upload: str, content: bytes = CONTENT, size: int = 3000) -> None:
    for offset in range(0, len(content), size):
        chunk = content[offset : offset + size]
        response = client.put(f"{UPLOADS_PATH}/{upload}?offset={offset}", content=chunk)
        assert response.status_code == 200
        assert response.json()["received"] == offset + len(chunk)


def uploaded(client: Any, content: bytes = CONTENT, name: str = "net.onnx") -> Any:
    upload = begin(client, content, name).json()["id"]
    send(client, upload, content)
    return client.post(f"{UPLOADS_PATH}/{upload}/complete")


def test_a_file_in_chunks_becomes_a_model(client: Any, service: Service, looked: Looked) -> None:
    begun = begin(client)
    assert begun.status_code == 201
    assert begun.json()["received"] == 0
    assert begun.json()["max_chunk"] == service.settings.max_chunk
    upload = begun.json()["id"]
    send(client, upload)
    assert client.get(f"{UPLOADS_PATH}/{upload}").json()["received"] == len(CONTENT)
    done = client.post(f"{UPLOADS_PATH}/{upload}/complete")
    assert done.status_code == 201
    model = done.json()
    assert (model["name"], model["sha256"]) == ("net", sha256_of(CONTENT))
    assert model["facts"] == {"classes": 4}
    assert looked.seen == [("net.onnx", CONTENT)]
    assert client.get(model["links"]["file"]).content == CONTENT
    assert service.objects.sizes("uploads") == {}, "chunks are left"
    assert list(service.settings.work.iterdir()) == [], "files are left"


def test_who_did_not_hear_that_it_is_done_may_ask_again(client: Any, looked: Looked) -> None:
    upload = begin(client).json()["id"]
    send(client, upload)
    first = client.post(f"{UPLOADS_PATH}/{upload}/complete")
    again = client.post(f"{UPLOADS_PATH}/{upload}/complete")
    assert first.status_code == again.status_code == 201
    assert first.json()["sha256"] == again.json()["sha256"]
    assert len(looked.seen) == 1


def test_what_is_known_is_not_sent_again_but_gets_the_name(client: Any) -> None:
    first = uploaded(client).json()
    known = begin(client, name="other")
    assert known.status_code == 200
    assert known.json()["model"]["sha256"] == first["sha256"]
    assert client.get("/api/v1/models/other").json()["sha256"] == first["sha256"]
    assert client.get("/api/v1/models/net").json()["sha256"] == first["sha256"]


def test_what_the_store_has_lost_is_sent_again(client: Any, service: Service) -> None:
    model = uploaded(client).json()
    (service.settings.home / "store" / "models" / model["sha256"]).unlink()
    assert begin(client).status_code == 201


def test_chunks_may_come_again_and_anywhere_before_the_end(client: Any) -> None:
    upload = begin(client).json()["id"]
    send(client, upload)
    again = client.put(f"{UPLOADS_PATH}/{upload}?offset=3000", content=CONTENT[3000:6000])
    assert again.json()["received"] == len(CONTENT)
    assert client.post(f"{UPLOADS_PATH}/{upload}/complete").status_code == 201


def test_a_gap_is_refused_with_where_to_go_on(client: Any) -> None:
    upload = begin(client).json()["id"]
    client.put(f"{UPLOADS_PATH}/{upload}?offset=0", content=CONTENT[:3000])
    gap = client.put(f"{UPLOADS_PATH}/{upload}?offset=6000", content=CONTENT[6000:9000])
    early = client.post(f"{UPLOADS_PATH}/{upload}/complete")
    for response in (gap, early):
        assert response.status_code == 409
        assert "offset=3000" in response.json()["remedy"]


def test_a_chunk_that_was_cut_is_found_at_the_end(client: Any) -> None:
    upload = begin(client).json()["id"]
    send(client, upload)
    client.put(f"{UPLOADS_PATH}/{upload}?offset=3000", content=CONTENT[3000:4000])
    early = client.post(f"{UPLOADS_PATH}/{upload}/complete")
    assert early.status_code == 409
    assert client.get(f"{UPLOADS_PATH}/{upload}").json()["received"] == 4000
    client.put(f"{UPLOADS_PATH}/{upload}?offset=4000", content=CONTENT[4000:6000])
    assert client.post(f"{UPLOADS_PATH}/{upload}/complete").status_code == 201


@pytest.mark.parametrize(
    ("offset", "content"), [(0, b""), (0, CONTENT + b"x"), (2, CONTENT), (0, b"x")]
)
def test_chunks_that_do_not_fit(
    client: Any, offset: int, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CHUNKS", 100)
    upload = begin(client).json()["id"]
    client.put(f"{UPLOADS_PATH}/{upload}?offset=0", content=CONTENT[:3000])
    response = client.put(f"{UPLOADS_PATH}/{upload}?offset={offset}", content=content)
    assert response.status_code == 422


@pytest.mark.parametrize("offset", ["-1", "x", "", str(2**41), str(2**200)])
def test_offsets_that_are_none(client: Any, offset: str) -> None:
    upload = begin(client).json()["id"]
    response = client.put(f"{UPLOADS_PATH}/{upload}?offset={offset}", content=b"x")
    assert response.status_code == 422


def test_another_content_is_refused_and_forgotten(client: Any, service: Service) -> None:
    upload = begin(client).json()["id"]
    send(client, upload, CONTENT[::-1])
    response = client.post(f"{UPLOADS_PATH}/{upload}/complete")
    assert response.status_code == 422
    assert "sha256" in response.json()["detail"]
    assert client.get(f"{UPLOADS_PATH}/{upload}").status_code == 404
    assert service.objects.sizes("uploads") == {}
    assert client.get("/api/v1/models").json()["items"] == []


def test_what_is_no_model_is_refused_and_forgotten(
    client: Any, service: Service, looked: Looked
) -> None:
    looked.error = ModelError("it has a loop.", "Export it again.")
    response = uploaded(client)
    assert response.status_code == 422
    assert (response.json()["detail"], response.json()["remedy"]) == (
        "it has a loop.",
        "Export it again.",
    )
    assert service.objects.sizes("uploads") == service.objects.sizes("models") == {}


def test_a_server_that_cannot_look_now_forgets_nothing(client: Any, looked: Looked) -> None:
    looked.error = UnavailableError("the database is away.")
    upload = begin(client).json()["id"]
    send(client, upload)
    assert client.post(f"{UPLOADS_PATH}/{upload}/complete").status_code == 503
    looked.error = None
    assert client.post(f"{UPLOADS_PATH}/{upload}/complete").status_code == 201


def test_a_zip_is_marked(client: Any) -> None:
    content = b"PK\x03\x04" + CONTENT
    model = uploaded(client, content).json()
    assert model["facts"]["packed"] == "zip"
    disposition = client.get(model["links"]["file"]).headers["content-disposition"]
    assert disposition.endswith("net.zip")


def test_sizes_are_bounded(client: Any, service: Service) -> None:
    facts = {"name": "net", "sha256": "a" * 64}
    most = service.settings.max_model
    assert client.post(UPLOADS_PATH, json={**facts, "bytes": most}).status_code == 201
    assert client.post(UPLOADS_PATH, json={**facts, "bytes": most + 1}).status_code == 413
    for size in (0, -1, 2**64, 1.5, "x"):
        assert client.post(UPLOADS_PATH, json={**facts, "bytes": size}).status_code == 422


@pytest.mark.parametrize(
    "facts",
    [
        {"name": "../net"},
        {"name": "a/b"},
        {"name": "<b>x</b>"},
        {"name": ""},
        {"name": "net\x00"},
        {"sha256": "A" * 64},
        {"sha256": "../../etc"},
        {"more": 1},
    ],
)
def test_names_and_digests_are_plain(client: Any, facts: dict[str, Any]) -> None:
    valid = {"name": "net", "bytes": 5, "sha256": "a" * 64}
    assert client.post(UPLOADS_PATH, json={**valid, **facts}).status_code == 422


def test_an_upload_is_its_tokens(service: Service) -> None:
    first, second = clients_of(service, "submit", "admin")
    upload = begin(first).json()["id"]
    assert second.get(f"{UPLOADS_PATH}/{upload}").status_code == 404
    assert second.put(f"{UPLOADS_PATH}/{upload}?offset=0", content=b"x").status_code == 404
    assert second.post(f"{UPLOADS_PATH}/{upload}/complete").status_code == 404


def test_not_too_many_at_a_time(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UPLOADS", 2)
    contents = [CONTENT + bytes([i]) for i in range(3)]
    assert [begin(client, c).status_code for c in contents] == [201, 201, 429]


def test_old_ones_are_forgotten(
    client: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begin(client).json()["id"]
    send(client, upload)
    left = service.settings.work / "upload-x"
    left.mkdir(parents=True)
    (left / "net.onnx").write_bytes(b"x")
    begin(client, b"other")
    assert client.get(f"{UPLOADS_PATH}/{upload}").status_code == 200
    monkeypatch.setattr(module, "SECONDS_KEPT", 0.0)
    time.sleep(0.01)
    begin(client, b"another")
    assert client.get(f"{UPLOADS_PATH}/{upload}").status_code == 404
    assert service.objects.sizes("uploads") == {}
    assert not left.exists()


def test_two_servers_share_an_upload(service: Service, looked: Looked) -> None:
    apps = [app_of(service) for _ in range(2)]
    for app in apps:
        app.state.uploads = Uploads(service, looked)
    clients = [client_of(app) for app in apps]
    upload = begin(clients[0]).json()["id"]
    for i, offset in enumerate(range(0, len(CONTENT), 3000)):
        chunk = CONTENT[offset : offset + 3000]
        response = clients[i % 2].put(f"{UPLOADS_PATH}/{upload}?offset={offset}", content=chunk)
        assert response.status_code == 200
    assert clients[1].post(f"{UPLOADS_PATH}/{upload}/complete").status_code == 201


def test_no_more_checks_at_a_time_than_there_may_be(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS_FOR_A_CHECK", 0.0)
    uploads = client.app.state.uploads
    upload = begin(client).json()["id"]
    send(client, upload)
    for _ in range(module.CHECKS):
        uploads._checks.acquire()
    busy = client.post(f"{UPLOADS_PATH}/{upload}/complete")
    assert (busy.status_code, "retry-after" in busy.headers) == (503, True)
    for _ in range(module.CHECKS):
        uploads._checks.release()
    assert client.post(f"{UPLOADS_PATH}/{upload}/complete").status_code == 201


def test_rows_of_uploads_hold_what_was_received(client: Any, service: Service) -> None:
    upload = begin(client).json()["id"]
    client.put(f"{UPLOADS_PATH}/{upload}?offset=0", content=CONTENT[:3000])
    with service.database.reading() as connection:
        row = connection.execute(sa.select(UPLOADS)).one()
    assert (row.id, row.received, row.done) == (upload, 3000, False)


def test_the_real_check_in_its_confined_process(sqlite_service: Service, tmp_path: Path) -> None:
    client = client_of(app_of(sqlite_service))
    model = tiny_classifier(tmp_path / "net.onnx").read_bytes()
    done = uploaded(client, model)
    assert done.status_code == 201, done.text
    assert done.json()["facts"]["quantized"] is False
    for content in (b"no model", model[: len(model) // 2], b"PK\x03\x04" + model):
        refused = uploaded(client, content, "bad.onnx")
        assert refused.status_code == 422
        assert str(tmp_path) not in refused.text
    assert sqlite_service.objects.sizes("uploads") == {}
