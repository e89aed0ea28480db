"""Run ``quantlab serve`` and ``quantlab worker`` until they are told to stop."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any

from quantlab._util.interrupts import ignored
from quantlab._util.reporter import Reporter
from quantlab.errors import MissingExtraError, QuantlabError
from quantlab.serve import logs
from quantlab.serve.logs import LogFormat
from quantlab.serve.sandbox import available
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.worker import Worker


def serve(
    settings: Settings,
    host: str,
    port: int,
    reporter: Reporter,
    *,
    worker: bool = True,
    log: LogFormat | None = None,
) -> None:
    """Serve the API and pages at this address, with one worker, until SIGTERM, or SIGINT where it
    is not ignored. ``log``: each request is logged, in this format; None: only what goes wrong is.

    Raises QuantlabError for an address that cannot be had, for one beyond this machine while there
    are no tokens, and where jobs cannot be confined.
    """
    try:
        import uvicorn

        from quantlab.serve.app import create_app
        from quantlab.serve.runs import Runs
        from quantlab.serve.tokens import Tokens
        from quantlab.serve.watcher import Watcher
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "serve", "the service") from error
    if log is not None:
        logs.install(log)
    with Service.open(settings) as service, _bound(host, port) as listening:
        address = listening.getsockname()
        _check_tokens(Tokens(service.database).any(), address[0], reporter)
        config = uvicorn.Config(
            create_app(service),
            log_level="warning",
            log_config=None if log else uvicorn.config.LOGGING_CONFIG,
            timeout_graceful_shutdown=5,
        )
        deaf = ignored()

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                if sig != signal.SIGINT or not deaf:
                    super().handle_exit(sig, frame)

        # Before uvicorn has its own, and once more from it when it has ended.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        url = settings.url or _url(address)
        with (
            suppress(KeyboardInterrupt),
            _working(service, reporter) if worker else nullcontext(),
            Runs(service) as runs,
            Watcher(service, runs, url).working(),
        ):
            reporter.say(f"Serving {_url(address)} from {settings.home} (Ctrl-C ends it)")
            Server(config).run(sockets=[listening])


def work(settings: Settings, reporter: Reporter, *, log: LogFormat | None = None) -> None:
    """Run one worker until SIGTERM, or SIGINT where it is not ignored. Raises QuantlabError."""
    if log is not None:
        logs.install(log)
    with Service.open(settings) as service:
        _say_confinement(settings, reporter)
        worker = Worker(service)
        for number in (signal.SIGTERM,) if ignored() else (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop.set())
        reporter.say(f"Working as {worker.name} (Ctrl-C ends it)")
        worker.run()


@contextmanager
def _working(service: Service, reporter: Reporter) -> Iterator[None]:
    """Run a worker in a thread within the block."""
    _say_confinement(service.settings, reporter)
    worker = Worker(service)
    thread = threading.Thread(target=worker.run, name="worker")
    thread.start()
    try:
        yield
    finally:
        worker.stop.set()
        thread.join()


def _say_confinement(settings: Settings, reporter: Reporter) -> None:
    """What jobs are kept from here. Raises QuantlabError where they must be and cannot."""
    held = available()
    for line in held.lines():
        (reporter.say if held.complete else reporter.warn)(f"Jobs: {line}")
    if settings.confine and not held.complete:
        raise QuantlabError(
            "this machine cannot confine jobs.",
            "See docs/security.md; with `confine: false` in the settings jobs run as they are.",
        )


def _check_tokens(any_token: bool, address: str, reporter: Reporter) -> None:
    """Raises QuantlabError for a service that other machines could use without a token."""
    if any_token:
        return
    if not ipaddress.ip_address(address).is_loopback:
        raise QuantlabError(
            f"there are no tokens yet, and {address} can be reached from elsewhere.",
            "Make one: quantlab token create NAME --scope admin",
        )
    reporter.warn("There are no tokens: every user of this machine may do everything.")


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens."""
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(place[:2], family=family)
        # answers go out in two parts: without this the second waits for the client's 40 ms
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        known = error.errno is not None and error.errno > 0  # the name was found
        reason = os.strerror(error.errno or 0) if known else str(error.strerror)
        raise QuantlabError(
            f"cannot listen at {host}:{port}: {reason.lower()}.",
            "Choose another one with --host and --port.",
        ) from error
    with listening:
        yield listening


def _url(address: tuple[Any, ...]) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"
