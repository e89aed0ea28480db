"""A service behind a real socket, for tests: uvicorn in a thread, a worker in another."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from clients import app_of

from quantlab.serve.running import _bound
from quantlab.serve.service import Service


@contextmanager
def served(service: Service) -> Iterator[str]:
    """Its URL, until the block ends."""
    with _bound("127.0.0.1", 0) as listening:
        config = uvicorn.Config(app_of(service), log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
