"""``quantlab serve``, ``worker`` and ``dataset`` as processes: how they start, and how they end."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import yaml
from click.testing import CliRunner, Result
from processes import started
from receiving import Receiving, receiving
from waiting import HANGS, IGNORED, interrupts, until
from worksite import CLASSES, ask, await_end, await_word, equip, file_of, upload, working

from quantlab._util.reporter import NullReporter
from quantlab.cli import main
from quantlab.errors import QuantlabError
from quantlab.serve.alerts import SIGNATURE, signature
from quantlab.serve.running import _bound, _check_tokens, _say_confinement, _url
from quantlab.serve.sandbox import Held
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.watching import Watching
from quantlab.serve.worker import runtime_words
from quantlab.testing.images import image_folder, listed_folder
from quantlab.testing.models import taught, tiny_classifier

SERVING = r"Serving (http://\S+) from"
WORKING = r"Working as \S+"
ENDLESS = {"strategy": "random", "no_bench": True, "budget": 3600, "calibration_size": 4}


def quantlab(*words: object) -> Result:
    """A command that ends by itself."""
    return CliRunner().invoke(main, list(map(str, words)))


def get(url: str) -> dict[str, object]:
    with urllib.request.urlopen(url, timeout=HANGS) as answer:
        return dict(json.load(answer))


def test_a_server_says_where_it_is_and_ends_when_told(tmp_path: Path) -> None:
    with started("serve", "--home", tmp_path / "home", "--port", 0) as server:
        url = server.until(SERVING)
        assert url.startswith("http://127.0.0.1:")
        assert not url.endswith(":0")
        assert get(f"{url}/api/v1/health")["status"] == "ok"
        assert "There are no tokens" in server.said
        assert "Jobs: " in server.said
        loaded = {Path(each.path).name for each in psutil.Process(server.process.pid).memory_maps()}
        assert not [name for name in loaded if "onnx" in name], "what opens models is confined"
        assert server.end() == 0
    assert "Traceback" not in server.said
    assert [path.name for path in (tmp_path / "home" / "work").iterdir()] == ["starting"]


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_it_too(tmp_path: Path) -> None:
    with started("serve", "--home", tmp_path / "home", "--port", 0, "--no-worker") as server:
        server.until(SERVING)
        assert "Jobs:" not in server.said, "without a worker nothing is confined"
        assert server.end(signal.SIGINT) == 0
    assert "Traceback" not in server.said
    assert not (tmp_path / "home" / "work").exists()


@pytest.mark.parametrize("verb", ["serve", "worker"])
def test_ctrl_c_is_ignored_where_a_shell_says_so(verb: str, tmp_path: Path) -> None:
    """As of what ``quantlab serve &`` in a script has started."""
    port = ("--port", 0) if verb == "serve" else ()
    with Service.open(Settings(home=tmp_path / "home")) as service, interrupts(IGNORED):
        equip(service, tmp_path / "images")
        with started(verb, "--home", tmp_path / "home", *port) as running:
            running.until(SERVING if verb == "serve" else WORKING)
            running.process.send_signal(signal.SIGINT)
            (job,) = await_end(service, ask(service, "evaluate"))
            assert job.state == "done"
            assert running.end() == 0


def sent_of(got: Receiving, verdict: str) -> list[tuple[dict[str, Any], dict[str, str], bytes]]:
    """What a receiver has got of this verdict."""
    found = [(json.loads(b), h, b) for b, h in zip(got.bodies, got.headers, strict=False)]
    return [each for each in found if each[0]["now"] == verdict]


def test_a_damaged_version_raises_an_alert(tmp_path: Path) -> None:
    """From the upload of a version to the receiver, by a server that runs."""
    config = tmp_path / "settings.yaml"
    with Service.open(Settings(home=tmp_path / "home")) as service, receiving() as got:
        hosts = [got.url.removeprefix("http://")]
        facts = {"home": str(tmp_path / "home"), "alert_hosts": hosts, "alert_private": True}
        config.write_text(yaml.safe_dump(facts))
        equip(service, tmp_path / "images", 10)
        good = tiny_classifier(tmp_path / "good.onnx", classes=CLASSES, seed=1)
        upload(service, taught(good, tmp_path / "images", "torchvision"), "candidate")
        watching = Watching(service.database)
        secret = watching.add_receiver("team", "webhook", got.url).secret
        asked = {"verb": "compare", "fp32": "net", "int8": "candidate", "data": "val"}
        watching.create(
            "nightly", "local", request={**asked, "no_bench": True}, schedule=None,
            on_version=True, on_environment=False, enabled=True, receivers=["team"],
        )  # fmt: skip
        with started("serve", "--config", config, "--port", 0) as server:
            url = server.until(SERVING)
            until(lambda: watching.monitor("nightly").last, lambda: server.said)
            assert [alert.now for alert in watching.alerts()] in ([], ["inconclusive"])
            bad = tiny_classifier(tmp_path / "bad.onnx", classes=CLASSES, seed=2)
            upload(service, bad, "candidate")
            until(lambda: sent_of(got, "fail"), lambda: server.said)
            assert watching.seen([]).machines == (runtime_words(),)
            assert server.end() == 0
        ((told, headers, body),) = sent_of(got, "fail")
        assert headers[SIGNATURE] == signature(secret, body)
        assert (told["monitor"], told["kind"]) == ("nightly", "verdict")
        (job, _) = service.queue.recent()
        assert told["links"]["report"] == f"{url}/runs/{job.run}"
    assert "Traceback" not in server.said


@pytest.mark.parametrize("verb", ["serve", "worker"])
def test_what_is_told_to_end_gives_its_job_back(verb: str, tmp_path: Path) -> None:
    with Service.open(Settings(home=tmp_path / "home")) as service:
        equip(service, tmp_path / "images")
        job = ask(service, "tune", **ENDLESS)
        port = ("--port", 0) if verb == "serve" else ()
        with started(verb, "--home", tmp_path / "home", *port) as running:
            running.until(SERVING if verb == "serve" else WORKING)
            await_word(service, job, "Trial 1")
            assert running.end() == 0
        now = service.queue.get(job.id)
        assert (now.state, now.losses, now.attempts) == ("queued", 0, 1)
        assert [path.name for path in service.settings.work.iterdir()] == ["starting"]
    assert "Traceback" not in running.said


def test_a_tune_that_lost_its_worker_goes_on_on_another_machine(tmp_path: Path) -> None:
    """With the database and the store alone: what the first machine had is gone with it."""
    places = {"db": f"sqlite:///{tmp_path / 'server.db'}", "store": str(tmp_path / "store")}
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump({**places, "lease": 1, "home": str(tmp_path / "first")}))
    second = Settings(**places, home=tmp_path / "second", machine="there", lease=1.0)
    with Service.open(second) as service:
        equip(service, tmp_path / "images")
        job = ask(service, "tune", **{**ENDLESS, "max_trials": 6})
        with started("worker", "--config", config) as first:
            first.until(WORKING)
            await_word(service, job, "Trial 3")
            kept = until(lambda: finished_trials(service, f"jobs/{job.id}/1"))
            first.process.kill()
        shutil.rmtree(tmp_path / "first")
        with working(service):
            (done,) = await_end(service, job)
        assert (done.state, done.attempts, done.losses) == ("done", 2, 1)
        ledger = finished_trials(service, done.folder)
        assert len(ledger) == 6
        assert {digest: ledger[digest] for digest in kept} == kept, "none of them was made again"
        (tmp_path / "study.db").write_bytes(file_of(service, done, f"runs/{done.run}/study.db"))
    url = f"sqlite:///{tmp_path / 'study.db'}"
    (summary,) = optuna.get_all_study_summaries(url)
    assert summary.n_trials == 6, "each is in the study once"


def finished_trials(service: Service, folder: str) -> dict[str, str]:
    """By recipe, the finished trials' records below a folder of the store."""
    found = {}
    for name in service.objects.sizes(folder):
        if "/trials/" in name and name.endswith(".json"):
            with service.objects.open(f"{folder}/{name}") as file:
                content = file.read().decode()
            if json.loads(content)["status"] != "scored":
                found[name] = content
    return found


def test_an_address_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = quantlab("serve", "--home", tmp_path / "home", "--port", port)
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        f"Error: cannot listen at 127.0.0.1:{port}: address already in use.",
        "Choose another one with --host and --port.",
    ]


def test_beyond_this_machine_only_with_tokens(tmp_path: Path) -> None:
    home = ("--home", tmp_path / "home")
    refused = quantlab("serve", *home, "--host", "0.0.0.0", "--port", 0)
    assert refused.exit_code == 2
    assert "there are no tokens yet" in refused.stderr
    assert "quantlab token create" in refused.stderr
    assert quantlab("token", "create", "ci", "--scope", "submit", *home).exit_code == 0
    with started("serve", *home, "--host", "0.0.0.0", "--port", 0, "--no-worker") as server:
        server.until(SERVING)
        assert "no tokens" not in server.said
        assert server.end() == 0


def test_a_host_that_is_none() -> None:
    with (
        pytest.raises(QuantlabError, match=r"cannot listen at no-such-host\.invalid:1"),
        _bound("no-such-host.invalid", 1),
    ):
        pass


def test_addresses() -> None:
    with _bound("127.0.0.1", 0) as listening:
        assert _url(listening.getsockname()).startswith("http://127.0.0.1:")
    assert _url(("::1", 80, 0, 0)) == "http://[::1]:80"
    _check_tokens(False, "127.0.0.1", NullReporter())
    _check_tokens(False, "::1", NullReporter())
    _check_tokens(True, "0.0.0.0", NullReporter())
    for address in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(QuantlabError):
            _check_tokens(False, address, NullReporter())


def test_a_machine_that_confines_nothing_runs_no_jobs_unless_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.serve.running.available", Held)
    with pytest.raises(QuantlabError, match="cannot confine") as caught:
        _say_confinement(Settings(home=tmp_path), NullReporter())
    assert "docs/security.md" in caught.value.remedy
    _say_confinement(Settings(home=tmp_path, confine=False), NullReporter())


@pytest.mark.parametrize("verb", ["serve", "worker"])
def test_a_database_that_is_not_there(verb: str, tmp_path: Path) -> None:
    url = "postgresql://user:secret@127.0.0.1:1/x"
    done = quantlab(verb, "--home", tmp_path / "home", "--db", url)
    assert done.exit_code == 2
    assert "does not answer" in done.stderr
    assert "secret" not in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_settings_that_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("port: 1\n")
    done = quantlab("serve", "--config", tmp_path / "settings.yaml")
    assert done.exit_code == 2
    assert "settings.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_datasets_by_name(tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images", 4)
    listed = listed_folder(tmp_path / "listed", [0, 1], list_name="mine.txt")
    home = ("--home", tmp_path / "home")
    added = quantlab("dataset", "add", "val", images, *home)
    assert (added.exit_code, added.stdout) == (0, "val: 8 images, labelled\n")
    list_file = ("--list", listed / "mine.txt")
    assert quantlab("dataset", "add", "small", listed, *list_file, *home).exit_code == 0
    assert quantlab("dataset", "ls", *home).stdout.splitlines() == [
        f"small  2 images  {listed}",
        f"val  8 images  {images}",
    ]
    assert quantlab("dataset", "rm", "small", *home).exit_code == 0
    for words in (("rm", "small"), ("add", "x", tmp_path / "no"), ("add", "a/b", images)):
        done = quantlab("dataset", *words, *home)
        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) <= 2
    assert quantlab("dataset", "ls", *home).stdout == f"val  8 images  {images}\n"
