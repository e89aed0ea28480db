"""How fast the service answers, beside bare FastAPI routes on the same machine.

    python benchmarks/service.py [--seconds 2] [--rounds 5] [--clients 50] [--out FILE]

Real uvicorn processes on loopback, one for the service (without a worker) and one for the bare
routes; the clients are connections of this process that ask again as soon as they are answered.
What is compared takes turns in one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quantlab._util.files import write_whole
from quantlab.runs.entry import Entry
from quantlab.runs.index import Index
from quantlab.runtime.environment import environment
from quantlab.serve.queue import JobOutcome
from quantlab.serve.requests import REQUESTS
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.tokens import Tokens
from quantlab.serve.worker import PLACE

FloatArray = npt.NDArray[np.float64]
Rounds = list[list[float]]
"""The seconds of each request, round by round."""
QUEUED, DONE, MODELS = 200, 200, 50
BARE_APP = """\
import fastapi, json, pathlib, socket, sys, uvicorn
app = fastapi.FastAPI()

def serve(number, body):
    @app.get(f"/def/{number}")
    def bare() -> fastapi.Response:
        return fastapi.Response(body, media_type="application/json")

    @app.get(f"/async/{number}")
    async def bare_async() -> fastapi.Response:
        return fastapi.Response(body, media_type="application/json")

for number, body in enumerate(json.loads(pathlib.Path(sys.argv[1]).read_text())):
    serve(number, body.encode())
listening = socket.create_server(("127.0.0.1", 0))
listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
"""


@dataclass(frozen=True)
class Asked:
    """A request as it goes over the wire, to a port on loopback; ``apart``: each client has an
    address of its own for it; ``written``: meanwhile the database is, ten times a second."""

    name: str
    port: int
    path: str
    headers: tuple[str, ...] = ()
    apart: bool = False
    written: bool = False

    def raw(self, client: int) -> bytes:
        """The request's bytes."""
        path = f"{self.path}?client={client}" if self.apart else self.path
        lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *self.headers, "", ""]
        return "\r\n".join(lines).encode()


@dataclass(frozen=True)
class Stocked:
    """What a service holds."""

    token: str
    job: str
    run: str


def stock(settings: Settings) -> Stocked:
    """Models, a dataset, jobs that have ended with their runs, and jobs that wait."""
    with Service.open(settings) as service:
        for i in range(MODELS):
            sha256 = f"{i:064x}"
            facts = {"opset": 13, "classes": 1000, "operators": {"Conv": 52, "Gemm": 1}}
            service.catalog.add_model(sha256, f"net{i}", 13_964_571, facts)
        facts = {"images": 1300, "labelled": True, "digest": "d" * 64}
        service.catalog.add_dataset("val", settings.home, None, None, facts)
        asked = REQUESTS["evaluate"](verb="evaluate", model="net0", data="val")
        for number in range(DONE):
            service.submit(asked, "benchmark")
            job = service.queue.claim("worker", "here")
            assert job is not None
            run = f"20261122T{number:06}Z-evaluate-{number:06x}"
            files = {f"runs/{run}/{name}": 1000 for name in ("run.json", "predictions.npz")}
            out = "Top-1 71.88%\n" * 20
            service.queue.finish(job, JobOutcome("done", 0, out, run=run, files=files))
        for _ in range(QUEUED):
            service.submit(asked, "benchmark")
        entries = [
            Entry(f"20261122T{n:06}Z-evaluate-{n:06x}", f"{n}", "evaluate", "success",
                  f"2026-11-22T{n // 60:02}:{n % 60:02}:00+00:00", (("net0", "0" * 64),),
                  top1=0.7)
            for n in range(DONE)
        ]  # fmt: skip
        with Index(settings.db_url, PLACE) as index:
            index.update([("1", entry) for entry in entries], ())
        return Stocked(Tokens(service.database).create("b", "read")[1], job.id, run)


@contextmanager
def running(command: Sequence[str]) -> Iterator[int]:
    """The port of a server, which says its address."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            yield int(next(m[1] for line in lines if (m := re.search(r"127\.0\.0\.1:(\d+)", line))))
        finally:
            server.terminate()


async def _client(asked: Asked, number: int, end: float, seconds: list[float]) -> None:
    """One connection that asks until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", asked.port)
    raw = asked.raw(number)
    try:
        while (start := time.perf_counter()) < end:
            writer.write(raw)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 304")):
                raise SystemExit(f"{asked.path}: {head.decode()}")
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            seconds.append(time.perf_counter() - start)
    finally:
        writer.close()


def load(asked: Asked, clients: int, seconds: float) -> list[float]:
    """The seconds of each request, of so many clients at a time."""
    found: list[float] = []

    async def all_of() -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(*(_client(asked, i, end, found) for i in range(clients)))

    asyncio.run(all_of())
    return found


@contextmanager
def writing(beat: Callable[[], object]) -> Iterator[None]:
    """Commit ten times a second, within the block."""
    over = threading.Event()

    def beats() -> None:
        while not over.wait(0.1):
            beat()

    thread = threading.Thread(target=beats)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def in_turns(
    requests: Sequence[Asked],
    rounds: int,
    clients: int,
    seconds: float,
    beat: Callable[[], object],
) -> dict[str, Rounds]:
    """Round by round the seconds of each, every other round the other way about."""
    found: dict[str, Rounds] = {asked.name: [] for asked in requests}
    for asked in requests:
        load(asked, clients, seconds / 4)
    for number in range(rounds):
        for asked in requests if number % 2 == 0 else reversed(requests):
            with writing(beat) if asked.written else nullcontext():
                found[asked.name].append(load(asked, clients, seconds))
            print(f"{number} {asked.name}: {len(found[asked.name][-1])}", file=sys.stderr)
    return found


def rates(rounds: Rounds, seconds: float) -> FloatArray:
    """The requests a second of each round."""
    return np.array([len(each) for each in rounds]) / seconds


def row(name: str, rounds: Rounds, bare: Rounds, bare_async: Rounds, seconds: float) -> str:
    """One request's figures: medians over the rounds, ratios round by round."""
    tails = [np.percentile(each, 99) for each in rounds]
    found = rates(rounds, seconds)
    cells = [
        name,
        f"{np.median(found):.0f}",
        f"{1e3 * np.median([np.median(each) for each in rounds]):.1f}",
        f"{1e3 * np.median(tails):.1f}",
        f"{np.median(found / rates(bare, seconds)):.2f}",
        f"{np.median(found / rates(bare_async, seconds)):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def reads(port: int, held: Stocked) -> list[Asked]:
    """What clients read most."""
    paths = {
        "`GET /health`, no token": "/health",
        "`GET /jobs/ID`": f"/jobs/{held.job}",
        "`GET /models/NAME`": "/models/net0",
        "`GET /datasets`": "/datasets",
        "`GET /jobs`, 50 of 400": "/jobs",
        "`GET /runs`, 50 of 200": "/runs",
        "`GET /models`, 50": "/models",
    }
    token = (f"Authorization: Bearer {held.token}",)
    return [
        Asked(name, port, f"/api/v1{path}", () if path == "/health" else token)
        for name, path in paths.items()
    ]


def got(asked: Asked) -> HTTPResponse:
    """The answer to a request."""
    connection = HTTPConnection("127.0.0.1", asked.port)
    headers = dict(each.split(": ", 1) for each in asked.headers)
    connection.request("GET", asked.path, headers=headers)
    return connection.getresponse()


def variants(asked: Asked) -> list[Asked]:
    """A request, and of a list also: by clients that have the answer, and while the database is
    written, by clients that share an address or not."""
    if ", 50" not in asked.name:
        return [asked]
    known = (*asked.headers, f"If-None-Match: {got(asked).headers['ETag']}")
    written = replace(asked, name=f"{asked.name}; 10 commits/s", written=True)
    apart = replace(written, name=f"{written.name}, 50 addresses", apart=True)
    return [asked, replace(asked, name=f"{asked.name}; 304", headers=known), written, apart]


def report(rounds: int, clients: int, seconds: float) -> str:
    """All parts in Markdown."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home, config = Path(folder) / "home", Path(folder) / "server.yaml"
        held = stock(Settings(home=home, max_queued=10**6))
        config.write_text(json.dumps({"requests_a_minute": 10**9}))
        places = ["--home", str(home), "--config", str(config)]
        serve = [sys.executable, "-m", "quantlab", "serve", "--no-worker", "--port", "0", *places]
        port = stack.enter_context(running(serve))
        asked = reads(port, held)
        bodies = Path(folder) / "bodies.json"
        bodies.write_text(json.dumps([got(each).read().decode() for each in asked]))
        bare = stack.enter_context(running([sys.executable, "-c", BARE_APP, str(bodies)]))
        queued = replace(asked[4], path=f"/api/v1/jobs?state=queued&limit={QUEUED}")
        load(queued, 1, seconds / 4)
        alone = 1e3 * np.array(load(queued, 1, seconds))
        service = stack.enter_context(Service.open(Settings(home=home)))
        work = service.queue.claim("worker", "here")
        assert work is not None
        beat = partial(service.queue.heartbeat, work)
        rows = []
        for number, each in enumerate(asked):
            base = [Asked(kind, bare, f"/{kind}/{number}") for kind in ("def", "async")]
            mine = variants(each)
            found = in_turns([base[0], *mine, base[1]], rounds, clients, seconds, beat)
            rows += [
                row(one.name, found[one.name], found["def"], found["async"], seconds)
                for one in mine
            ]
    facts = environment()
    lines = [
        "# The service under load",
        "",
        "Written by `benchmarks/service.py`.",
        "",
        f"- Machine: {facts['cpu']}, {facts['logical_cores']} logical cores, which the server and "
        "the clients share.",
        f"- Software: quantlab {facts['quantlab']}, Python {facts['python']}; SQLite; one uvicorn "
        "process, no worker.",
        f"- {clients} clients on loopback, each asks again as soon as it is answered; "
        f"{seconds:g} s in each of {rounds} rounds, in turns with the bare routes.",
        f"- The service holds {DONE} jobs that have ended, with as many runs, {QUEUED} that wait, "
        f"and {MODELS} models.",
        "",
        "A bare route is a FastAPI function that returns the same bytes as a constant: it reads no "
        "database, knows no token and counts nothing. Declared with `def` it runs in a thread, as "
        "functions that read a database must; with `async def` it does not. The service gives an "
        "answer again until its SQLite database has changed, and requests for one address that "
        "come at the same time share one: `10 commits/s` shows it while a worker writes as often, "
        "`50 addresses` where besides no two clients ask for the same one.",
        "",
        "| request | requests/s | median ms | p99 ms | requests/s ÷ bare `def` | ÷ bare "
        "`async def` |",
        "|---|--:|--:|--:|--:|--:|",
        *rows,
        "",
        f"One client lists the {QUEUED} queued jobs in {np.median(alone):.1f} ms (median of "
        f"{len(alone)}; p99 {np.percentile(alone, 99):.1f} ms).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs everything and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("reports/service.md"))
    given = parser.parse_args()
    write_whole(given.out, report(given.rounds, given.clients, given.seconds))
    print(f"{given.out} written", file=sys.stderr)


if __name__ == "__main__":
    main()
