"""Downloads from a real server on this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from quantlab.errors import FetchError
from quantlab.fetch.download import copy_from, download

CONTENT = bytes(range(256)) * 4096


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the tests' output is not the place."""

    def do_GET(self) -> None:
        if self.path == "/broken":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"too short")
            return
        super().do_GET()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the folder ``served``, which holds ``file.bin``."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.bin").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_the_file_comes_with_progress(server: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    size = len(CONTENT)
    download(f"{server}/file.bin", tmp_path / "got", size=size, progress=lambda *s: seen.append(s))
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)


def test_more_than_promised_is_refused(server: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="larger than the 1000 bytes"):
        download(f"{server}/file.bin", tmp_path / "got", size=1000)
    assert (tmp_path / "got").stat().st_size <= 1000


@pytest.mark.parametrize(("path", "reason"), [("missing", "404"), ("broken", "broke off")])
def test_failures_are_told(server: str, tmp_path: Path, path: str, reason: str) -> None:
    with pytest.raises(FetchError, match=reason):
        download(f"{server}/{path}", tmp_path / "got", size=1000)


def test_a_silent_server_costs_little_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(FetchError, match=r"no answer within 0\.2 s"):
            download(f"http://127.0.0.1:{port}/x", tmp_path / "got", size=1, open_seconds=0.2)


def test_copies_from_an_address(server: str, tmp_path: Path) -> None:
    copy_from(f"{server}/", "file.bin", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == CONTENT
    with pytest.raises(FetchError, match="404"):
        copy_from(server, "other.bin", tmp_path / "got")


def test_copies_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    copy_from(str(tmp_path), "file.bin", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == CONTENT
    with pytest.raises(FetchError, match="no such file"):
        copy_from(str(tmp_path), "other.bin", tmp_path / "got")
