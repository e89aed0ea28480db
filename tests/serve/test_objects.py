"""Objects in a folder and behind the S3 protocol: whole or not at all, always below the root."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab._util.cache import ABANDONED
from quantlab.errors import MissingExtraError, OutputError, QuantlabError
from quantlab.serve.objects import ObjectMissingError, Objects, is_key

BUCKET = "quantlab-test"
_S3_WARNS = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # a session of s3fs is never closed
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A server of the S3 protocol on loopback, with one bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture(params=["folder", pytest.param("s3", marks=_S3_WARNS)])
def objects(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Objects:
    if request.param == "folder":
        return Objects(str(tmp_path / "store"))
    return s3_objects(request.getfixturevalue("s3_server"), tmp_path.name, monkeypatch)


def s3_objects(server: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Objects:
    """An empty store in the server's bucket."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    if not files.exists(BUCKET):
        files.mkdir(BUCKET)
    return Objects(f"s3://{BUCKET}/{prefix}")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def content_of(objects: Objects, key: str) -> bytes:
    with objects.open(key) as file:
        return file.read()


def test_what_is_put_is_there(objects: Objects, tmp_path: Path) -> None:
    assert not objects.has("models/a")
    objects.put("models/a", write(tmp_path / "one", b"one"))
    assert objects.has("models/a")
    assert content_of(objects, "models/a") == b"one"
    objects.get("models/a", tmp_path / "new" / "copy")
    assert (tmp_path / "new" / "copy").read_bytes() == b"one"
    objects.put("models/a", write(tmp_path / "two", b"twice"))
    assert content_of(objects, "models/a") == b"twice"
    assert objects.sizes("models") == {"a": 5}


def test_large_content_is_whole(objects: Objects, tmp_path: Path) -> None:
    content = os.urandom(12_000_001)
    objects.put("models/large", write(tmp_path / "large", content))
    objects.get("models/large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


def test_what_is_not_there_is_gone(objects: Objects, tmp_path: Path) -> None:
    objects.put("jobs/1/a.txt", write(tmp_path / "a", b"a"))
    for key in ("nothing", "jobs/1", "jobs/1/a.txt/b"):
        with pytest.raises(ObjectMissingError):
            objects.get(key, tmp_path / "copy")
        assert not objects.has(key)
    assert not (tmp_path / "copy").exists()
    assert objects.sizes("nothing") == {}
    objects.remove("nothing")


def test_a_folder_is_listed_and_forgotten(objects: Objects, tmp_path: Path) -> None:
    source = write(tmp_path / "a", b"abc")
    for key in ("jobs/1/1/a", "jobs/1/1/runs/x/run.json", "jobs/1/2/a", "jobs/10/1/a"):
        objects.put(key, source)
    assert objects.sizes("jobs/1/1") == {"a": 3, "runs/x/run.json": 3}
    objects.remove("jobs/1/1")
    assert objects.sizes("jobs/1") == {"2/a": 3}
    assert objects.sizes("jobs/10") == {"1/a": 3}


def test_what_another_process_writes_is_seen(objects: Objects, tmp_path: Path) -> None:
    """No listing and no size is remembered."""
    assert not objects.has("a")
    assert objects.sizes("jobs") == {}
    other = Objects(objects.url)
    other.put("a", write(tmp_path / "one", b"one"))
    other.put("jobs/b", tmp_path / "one")
    assert objects.has("a")
    assert objects.sizes("jobs") == {"b": 3}
    assert content_of(objects, "a") == b"one"
    other.put("a", write(tmp_path / "two", b"much longer than before"))
    assert content_of(objects, "a") == b"much longer than before"


OUTSIDE = [
    "", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "a//b", "a/", "./a", "a/./b",
    ".hidden", "a/.hidden", "a\\..\\b", "a\0b", "a\n", "~/a", "-a", "a b", "s3://other/a", "ä",
]  # fmt: skip


@pytest.mark.parametrize("key", OUTSIDE)
def test_a_key_stays_below_the_root(key: str, objects: Objects, tmp_path: Path) -> None:
    source = write(tmp_path / "a", b"a")
    assert not is_key(key)
    for use in (
        lambda: objects.put(key, source),
        lambda: objects.get(key, tmp_path / "copy"),
        lambda: objects.has(key),
        lambda: objects.sizes(key),
        lambda: objects.remove(key),
        lambda: objects.local(key) or 1 / 0,
    ):
        with pytest.raises((QuantlabError, ZeroDivisionError)):
            use()
    assert not (tmp_path / "copy").exists()


@given(st.text())
def test_whatever_a_key_is_it_leads_down(key: str) -> None:
    if is_key(key):
        place = Path(os.path.normpath(f"/root/{key}"))
        assert place.is_relative_to("/root")
        assert place != Path("/root")
        assert place.as_posix() == f"/root/{key}"


def test_readers_never_see_half(tmp_path: Path) -> None:
    """In a folder, where files grow as they are written."""
    objects = Objects(str(tmp_path / "store"))
    sources = [write(tmp_path / str(i), bytes([65 + i]) * 3_000_000) for i in range(2)]
    objects.put("a", sources[0])
    stop = threading.Event()

    def write_on() -> None:
        while not stop.is_set():
            for source in sources:
                objects.put("a", source)

    thread = threading.Thread(target=write_on)
    thread.start()
    try:
        for _ in range(30):
            content = content_of(objects, "a")
            assert (len(content), len(set(content))) == (3_000_000, 1)
    finally:
        stop.set()
        thread.join()


def test_a_put_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = Objects(str(tmp_path / "store"))
    objects.put("a", write(tmp_path / "one", b"one"))

    def torn(source: Path, target: Path) -> None:
        target.write_bytes(b"tw")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("quantlab.serve.objects.shutil.copyfile", torn)
    with pytest.raises(OutputError, match="the store cannot be used") as caught:
        objects.put("a", write(tmp_path / "two", b"two"))
    assert str(tmp_path) not in str(caught.value), "its place is the operator's business"
    assert content_of(objects, "a") == b"one"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a"]


def test_what_killed_writers_left_goes_in_time(tmp_path: Path) -> None:
    objects = Objects(str(tmp_path / "store"))
    objects.put("models/a", write(tmp_path / "one", b"one"))
    old, new = (tmp_path / "store" / "models" / f".a.{name}.part" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - ABANDONED - 1,) * 2)
    objects.sweep()
    assert not old.exists()
    assert new.exists(), "somebody may be writing it"
    assert objects.sizes("models") == {"a": 3}, "half a file is no object"
    new.unlink()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    objects = Objects(str(tmp_path / "store"))
    with pytest.raises(OutputError, match="the store cannot be used"):
        objects.put("models/a", write(tmp_path / "one", b"one"))


def test_a_folder_has_places_on_this_machine(tmp_path: Path) -> None:
    assert Objects(str(tmp_path / "s")).local("a/b") == tmp_path / "s" / "a" / "b"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_store_that_is_away(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the driver raises, it is one error."""
    objects = s3_objects(s3_server, "away", monkeypatch)

    def fail(*_: object, **__: object) -> None:
        from botocore.exceptions import EndpointConnectionError

        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    monkeypatch.setattr(objects._files, "isfile", fail)
    with pytest.raises(OutputError, match="the store cannot be used"):
        objects.has("a")
    assert objects.local("a") is None


def test_stores_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QuantlabError, match="no place for a store"):
        Objects("nonsense://a")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setattr(sys.modules["fsspec.registry"], "registry", {})
    with pytest.raises(MissingExtraError, match=r"quantlab\[s3\]"):
        Objects("s3://bucket/never-asked-before")
