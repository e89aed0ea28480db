"""Deleting: what hangs on a thing keeps it, whose it is, and what goes with it; on each
database."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clients import app_of, client_of
from holdings import RUN, accuracy, add_dataset, add_model, ask, end, leave_run

from quantlab.runs.index import Filter, Index
from quantlab.serve.audit_log import AuditLog
from quantlab.serve.queue import ConflictError, ForbiddenError, NotFoundError
from quantlab.serve.removal import Removal
from quantlab.serve.service import _REQUEST, Service
from quantlab.serve.tokens import LOCAL, Token, Tokens
from quantlab.serve.uploads import Upload, Uploads
from quantlab.serve.worker import PLACE

ANNE, BOB = Token("anne", "anne", "submit", 0.0, None), Token("bob", "bob", "submit", 0.0, None)
BASELINE = {"quantlab-baseline.yaml": b"a: 1\n", "quantlab-baseline.npz": b"npz"}


@pytest.fixture
def held(service: Service) -> Service:
    """With a model and a dataset."""
    add_model(service)
    add_dataset(service)
    return service


def accept(service: Service, token: str = "local", name: str = "accepted") -> Any:
    """A job that has made a baseline of this name, with a run."""
    ask(service, token)
    job = leave_run(service, RUN, accuracy(), {"report.html": b"<p>"})
    files = {each: f"{job.folder}/{each}" for each in BASELINE}
    place = service.settings.home / "written"
    for each, content in BASELINE.items():
        place.write_bytes(content)
        service.objects.put(files[each], place)
    service.catalog.add_baseline(name, job.id, files)
    return job


def gate(service: Service) -> Any:
    """A waiting job that gates by the baseline."""
    facts = {"verb": "gate", "models": ["net"], "data": "val", "baseline": "accepted"}
    return service.submit(_REQUEST.validate_python(facts), "local")[0]


def history(service: Service) -> list[str]:
    with Index(service.settings.db_url, PLACE) as index:
        return [row.folder for row in index.rows(Filter())]


class TestModels:
    def test_it_goes_with_its_file(self, held: Service) -> None:
        sha256 = held.catalog.model("net").sha256
        Removal(held, LOCAL).model("net")
        with pytest.raises(NotFoundError):
            held.catalog.model("net")
        assert not held.objects.has(f"models/{sha256}")

    def test_another_name_of_it_keeps_the_file(self, held: Service) -> None:
        model = held.catalog.model("net")
        held.catalog.add_model(model.sha256, "other", model.bytes, {})
        Removal(held, LOCAL).model("other")
        assert held.objects.has(model.key)
        assert held.catalog.model("net").sha256 == model.sha256
        held.catalog.add_model(model.sha256, "other", model.bytes, {})
        Removal(held, LOCAL).model(model.sha256)
        assert not held.objects.has(model.key)
        assert held.catalog.models() == []

    def test_a_job_that_has_not_ended_keeps_it(self, held: Service) -> None:
        job = ask(held)
        with pytest.raises(ConflictError, match=f"needed by job {job.id}"):
            Removal(held, LOCAL).model("net")
        assert held.catalog.model("net")
        Removal(held, LOCAL).model("net", cascade=True)
        assert held.queue.get(job.id).state == "cancelled"

    def test_a_running_job_is_told_to_stop(self, held: Service) -> None:
        ask(held)
        job = held.queue.claim("w", "here")
        assert job is not None
        Removal(held, LOCAL).model("net", cascade=True)
        assert held.queue.heartbeat(job)

    def test_the_job_of_another_token_is_not_cancelled(self, held: Service) -> None:
        add_model(held, "mine", seed=1)
        found = held.catalog.model("mine")
        held.catalog.add_model(found.sha256, "yours", found.bytes, {}, token="anne")
        Removal(held, LOCAL).model(found.sha256, only="mine")
        job = ask(held, "bob", model="yours")
        with pytest.raises(ForbiddenError):
            Removal(held, ANNE).model("yours", cascade=True)
        assert held.queue.get(job.id).state == "queued"
        assert held.objects.has(found.key)

    def test_whose_it_is(self, held: Service) -> None:
        found = held.catalog.model("net")
        held.catalog.add_model(found.sha256, "hers", found.bytes, {}, token="anne")
        for token, name in ((BOB, "hers"), (ANNE, "net")):
            with pytest.raises(ForbiddenError, match="needs the scope admin"):
                Removal(held, token).model(name)
        Removal(held, ANNE).model(found.sha256, only="hers")
        with pytest.raises(NotFoundError):
            held.catalog.model("hers")

    def test_a_job_is_not_asked_for_with_what_was_deleted_meanwhile(
        self, held: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inputs = held.queue.known

        def then_deleted(*args: Any) -> Any:
            return inputs(*args)

        monkeypatch.setattr(held.queue, "known", then_deleted)
        submit = held.queue.submit

        def late(*args: Any) -> Any:
            Removal(held, LOCAL).model("net")
            return submit(*args)

        monkeypatch.setattr(held.queue, "submit", late)
        with pytest.raises(NotFoundError, match="was deleted"):
            ask(held)
        assert held.queue.recent() == []

    def test_a_model_that_is_stored_while_its_like_is_deleted_is_there(
        self, held: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = held.catalog.model("net")
        path = held.settings.home / "net.onnx"
        add = held.catalog.add_model

        def late(*args: Any) -> Any:
            Removal(held, LOCAL).model(found.sha256)
            return add(*args)

        with monkeypatch.context() as patch:
            patch.setattr(type(held.catalog), "add_model", lambda _, *args: late(*args))
            held.add_model(path, found.sha256, "again", {})
        assert held.objects.has(found.key)
        assert held.catalog.model("again").sha256 == found.sha256


class TestJobs:
    def test_it_goes_with_its_run_and_files(self, held: Service) -> None:
        ask(held)
        job = leave_run(held, RUN, accuracy(), {"report.html": b"<p>"})
        other = ask(held)
        end(held, {"a.txt": b"a"})
        found = held.catalog.model("net")
        held.catalog.add_model(found.sha256, "made", found.bytes, {}, job.id)
        Removal(held, LOCAL).job(job.id)
        with pytest.raises(NotFoundError):
            held.queue.get(job.id)
        assert held.objects.sizes(f"jobs/{job.id}") == {}
        assert history(held) == []
        assert held.queue.events(job.id) == []
        assert held.catalog.model("made").job is None
        assert held.objects.sizes(f"jobs/{other.id}") == {"1/a.txt": 1}

    @pytest.mark.parametrize("running", [False, True])
    def test_one_that_has_not_ended(self, held: Service, running: bool) -> None:
        job = ask(held)
        if running:
            claimed = held.queue.claim("w", "here")
        with pytest.raises(ConflictError, match="has not ended"):
            Removal(held, LOCAL).job(job.id)
        Removal(held, LOCAL).job(job.id, cascade=True)
        assert held.queue.recent() == []
        if running:
            assert claimed is not None
            with pytest.raises(Exception, match="another worker, or has ended"):
                held.queue.heartbeat(claimed)

    def test_its_baseline_keeps_it_and_goes_if_asked(self, held: Service) -> None:
        job = accept(held)
        for delete in (Removal(held, LOCAL).job, lambda _: Removal(held, LOCAL).run(RUN)):
            with pytest.raises(ConflictError, match="needed by baseline accepted"):
                delete(job.id)
        assert held.objects.sizes(f"jobs/{job.id}")
        Removal(held, LOCAL).job(job.id, cascade=True)
        assert held.catalog.baselines() == []
        assert held.objects.sizes(f"jobs/{job.id}") == {}

    def test_a_gate_that_waits_keeps_the_files_of_its_baseline(self, held: Service) -> None:
        job = accept(held)
        waits = gate(held)
        Removal(held, LOCAL).baseline("accepted")
        with pytest.raises(ConflictError, match=f"needed by job {waits.id}"):
            Removal(held, LOCAL).job(job.id)
        assert all(held.objects.has(f"{job.folder}/{name}") for name in BASELINE)
        Removal(held, LOCAL).job(job.id, cascade=True)
        assert held.queue.get(waits.id).state == "cancelled"

    def test_whose_it_is(self, held: Service) -> None:
        job = ask(held, "anne")
        end(held)
        with pytest.raises(ForbiddenError):
            Removal(held, BOB).job(job.id)
        Removal(held, ANNE).job(job.id)
        with pytest.raises(NotFoundError):
            Removal(held, ANNE).job(job.id)


class TestOthers:
    def test_a_run_goes_and_its_job_stays(self, held: Service) -> None:
        ask(held)
        job = leave_run(held, RUN, accuracy(), {"report.html": b"<p>"})
        Removal(held, LOCAL).run(RUN)
        found = held.queue.get(job.id)
        assert (found.run, found.files) == (None, {})
        assert history(held) == []
        assert held.objects.sizes(f"jobs/{job.id}") == {}

    def test_a_recipe(self, held: Service) -> None:
        held.catalog.add_recipe("mine", "name: mine\n", "anne")
        with pytest.raises(ForbiddenError):
            Removal(held, BOB).recipe("mine")
        Removal(held, ANNE).recipe("mine")
        with pytest.raises(NotFoundError):
            Removal(held, ANNE).recipe("mine")

    def test_a_baseline_is_its_jobs_token_s(self, held: Service) -> None:
        accept(held, "anne")
        with pytest.raises(ForbiddenError):
            Removal(held, BOB).baseline("accepted")
        Removal(held, ANNE).baseline("accepted")
        assert held.catalog.baselines() == []

    def test_an_upload(self, held: Service) -> None:
        upload = Uploads(held).begin("anne", "new", 5, "a" * 64)
        assert isinstance(upload, Upload)
        place = held.settings.home / "chunk"
        place.write_bytes(b"01234")
        Uploads(held).put("anne", upload.id, 0, place)
        with pytest.raises(NotFoundError):
            Removal(held, BOB).upload(upload.id)
        Removal(held, LOCAL).upload(upload.id)
        assert held.objects.sizes(upload.folder) == {}
        with pytest.raises(NotFoundError):
            Uploads(held).get("anne", upload.id)


class TestByHttp:
    def test_each_kind(self, held: Service) -> None:
        job = accept(held)
        held.catalog.add_recipe("mine", "name: mine\n")
        client = client_of(app_of(held))
        refused = client.delete(f"/api/v1/jobs/{job.id}")
        assert refused.status_code == 409
        assert refused.json()["detail"].endswith("is needed by baseline accepted.")
        assert "cascade=true" in refused.json()["remedy"]
        for path in ("baselines/accepted", f"runs/{RUN}", f"jobs/{job.id}", "recipes/mine",
                     "models/net"):  # fmt: skip
            assert client.delete(f"/api/v1/{path}").status_code == 204, path
            assert client.delete(f"/api/v1/{path}").status_code == 404, path
        lines = [(line.action, line.outcome) for line in AuditLog(held.database).lines()]
        assert ("DELETE delete_model", "204") in lines
        assert ("DELETE delete_job", "409") in lines

    def test_a_reader_deletes_nothing(self, held: Service) -> None:
        token = Tokens(held.database).create("a", "read")[1]
        assert client_of(app_of(held), token).delete("/api/v1/models/net").status_code == 403

    def test_another_token_s_is_refused(self, held: Service) -> None:
        token = Tokens(held.database).create("a", "submit")[1]
        answer = client_of(app_of(held), token).delete("/api/v1/models/net")
        assert answer.status_code == 403
        assert held.catalog.model("net")

    def test_cascade(self, held: Service) -> None:
        job = ask(held)
        client = client_of(app_of(held))
        assert client.delete("/api/v1/models/net?cascade=true").status_code == 204
        assert held.queue.get(job.id).state == "cancelled"

    def test_by_the_pages(self, held: Service) -> None:
        ask(held)
        job = leave_run(held, RUN, accuracy())
        client = client_of(app_of(held))
        sha256 = held.catalog.model("net").sha256
        for page, action in (
            (f"/runs/{RUN}", f"/runs/{RUN}/delete"),
            (f"/jobs/{job.id}", f"/jobs/{job.id}/delete"),
            ("/models", f"/models/{sha256}/delete"),
        ):
            assert f'action="{action}"' in client.get(page).text
            answer = client.post(action, data={"name": "net"}, follow_redirects=False)
            assert answer.status_code == 303, answer.text
        assert held.catalog.models() == held.queue.recent() == []

    def test_the_client(self, held: Service) -> None:
        import httpx

        from quantlab.client.api import Api
        from quantlab.errors import QuantlabError

        job = ask(held)
        app = client_of(app_of(held))

        def answer(request: httpx.Request) -> httpx.Response:
            found = app.request(request.method, str(request.url.raw_path, "ascii"))
            return httpx.Response(found.status_code, content=found.content)

        with Api("http://server", transport=httpx.MockTransport(answer)) as api:
            with pytest.raises(QuantlabError, match=f"needed by job {job.id}"):
                api.delete("models", "net")
            api.delete("models", "net", cascade=True)
        assert json.loads(app.get("/api/v1/models").text)["items"] == []
