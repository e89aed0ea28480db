"""A child process with other tasks: those of somebody who means ill.

``python hostile.py [--without=NAME,…] FD``: on a system that lacks these means, see WITHOUT. Each
task returns 0 where it succeeded, and REFUSED where the system said no.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quantlab.serve import child, sandbox
from quantlab.serve.child import EventWriter

REFUSED = 7
Task = dict[str, Any]


def attempt(act: Callable[[Task], object]) -> Callable[[Task, EventWriter], int]:
    """The act as a task that says whether it was refused."""

    def task(order: Task, writer: EventWriter) -> int:
        try:
            found = act(order)
        except (PermissionError, OSError) as error:
            writer.write("say", text=errno.errorcode.get(error.errno or 0, repr(error)))
            return REFUSED
        writer.write("say", text=str(found))
        return 0

    return task


def connect(order: Task) -> None:
    socket.create_connection(("127.0.0.1", order["port"]), timeout=600).close()


def send_datagram(order: Task) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.sendto(b"word", ("127.0.0.1", order["port"]))


def connect_unix(order: Task) -> None:
    with socket.socket(socket.AF_UNIX) as there:
        there.connect(order["path"])


def io_uring(_: Task) -> None:
    if ctypes.CDLL(None, use_errno=True).syscall(425, 1, bytes(120)) < 0:
        raise OSError(ctypes.get_errno(), "io_uring")


def memfd(_: Task) -> None:
    os.close(os.memfd_create("held"))


def link_in(order: Task) -> None:
    Path("link").symlink_to(order["path"])


def hard_link_in(order: Task) -> None:
    Path("link").hardlink_to(order["path"])


def run_written(_: Task) -> int:
    Path("own.sh").write_text("#!/bin/sh\n")
    Path("own.sh").chmod(0o755)
    return subprocess.run(["./own.sh"], check=False).returncode


def become_root_again(_: Task) -> None:
    os.setuid(0)
    os.chroot("/")


def thread_data(_: Task) -> str:
    """What honest work needs: threads, a database, processes, pipes."""
    import sqlite3
    import threading

    import numpy as np

    thread = threading.Thread(target=lambda: np.ones((64, 64)) @ np.ones((64, 64)))
    thread.start()
    thread.join()
    with sqlite3.connect("study.db") as database:
        database.execute("create table t (x)")
    code = "import os, socket; a, b = socket.socketpair(); os.nice(1); print(os.getpid())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return "worked" if done.stdout.strip().isdigit() else done.stderr


ATTEMPTS: dict[str, Callable[[Task], object]] = {
    "connect": connect,
    "datagram": send_datagram,
    "unix": connect_unix,
    "io_uring": io_uring,
    "memfd": memfd,
    "read": lambda order: Path(order["path"]).read_bytes(),
    "list": lambda order: list(Path(order["path"]).iterdir()),
    "write": lambda order: Path(order["path"]).write_text("x"),
    "truncate": lambda order: os.truncate(order["path"], 0),
    "remove": lambda order: Path(order["path"]).unlink(),
    "link": link_in,
    "hard link": hard_link_in,
    "kill": lambda order: os.kill(order["pid"], signal.SIGTERM),
    "environ": lambda order: Path(f"/proc/{order['pid']}/environ").read_bytes(),
    "written program": run_written,
    "privileges": become_root_again,
    "honest": thread_data,
}


def show_environment(_: Task, writer: EventWriter) -> int:
    for name, value in os.environ.items():
        writer.write("say", text=f"{name}={value}")
    return 0


def allocate(order: Task, writer: EventWriter) -> int:
    held = []
    while True:
        held.append(bytes(order.get("piece", 1 << 26)))


def allocate_shared(order: Task, writer: EventWriter) -> int:
    """Memory that is no data segment's."""
    held = []
    while True:
        held.append(mmap.mmap(-1, 1 << 26))
        held[-1].write(b"x" * (1 << 26))


def allocate_in_children(order: Task, writer: EventWriter) -> int:
    code = f"held = b'x' * {order['piece']}; import time; time.sleep(600)"
    for _ in range(order["count"]):
        subprocess.Popen([sys.executable, "-c", code])
    time.sleep(600)
    return 0


def spin(order: Task, writer: EventWriter) -> int:
    while True:
        pass


def spin_in_children(order: Task, writer: EventWriter) -> int:
    for _ in range(2):
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(600)
    return 0


def fork(order: Task, writer: EventWriter) -> int:
    while True:
        if os.fork() == 0:
            time.sleep(600)


def scatter(order: Task, writer: EventWriter) -> int:
    """A grandchild in a session of its own whose parent ends, and another beside; their pids."""
    code = (
        "import os, subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " stdout=subprocess.DEVNULL, start_new_session=True)\n"
        "print(p.pid, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    near = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    writer.write("say", text=f"{int(done.stdout)} {near.pid}")
    time.sleep(order.get("seconds", 600))
    return 0


def flood(order: Task, writer: EventWriter) -> int:
    while True:
        writer.write("say", text="again")


def flood_raw(order: Task, writer: EventWriter) -> int:
    """Bytes without a line's end, then what is no event."""
    handle = int(sys.argv[1])
    os.write(handle, b"x" * 300_000 + b'\n[1]\n{"kind": "say"}\n\xff\xfe\n{"kind": "nonsense"}\n')
    os.write(handle, b'{"kind": "say", "text": 5}\n' + b"[" * 50_000 + b"\n")
    writer.write("say", text="still here")
    return 0


def flood_log(order: Task, writer: EventWriter) -> int:
    while True:
        os.write(1, b"x" * (1 << 16))
        time.sleep(0.001)


def print_much(order: Task, writer: EventWriter) -> int:
    print("é" * 100_000, end="")
    print("wrong", file=sys.stderr)
    return 0


def ignore(order: Task, writer: EventWriter) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    writer.write("say", text="ready")
    time.sleep(600)
    return 0


def wait(order: Task, writer: EventWriter) -> int:
    writer.write("say", text="ready")
    time.sleep(600)
    return 0


def crash(order: Task, writer: EventWriter) -> int:
    ctypes.string_at(0)
    return 0


def leave(order: Task, writer: EventWriter) -> int:
    os._exit(9)


def fail(order: Task, writer: EventWriter) -> int:
    raise ValueError("a secret place")


def write_large(order: Task, writer: EventWriter) -> int:
    with Path("large").open("wb") as file:
        while True:
            file.write(bytes(1 << 20))


def write_many(order: Task, writer: EventWriter) -> int:
    for number in range(10**6):
        Path(f"{number}").write_bytes(bytes(order["piece"]))
    return 0


child.TASKS.update({name: attempt(act) for name, act in ATTEMPTS.items()})
child.TASKS.update(
    {
        task.__name__: task
        for task in (
            show_environment, allocate, allocate_shared, allocate_in_children, spin,
            spin_in_children, fork, scatter, flood, flood_raw, flood_log, print_much, ignore, wait,
            crash, leave, fail, write_large, write_many,
        )
    }
)  # fmt: skip

WITHOUT: dict[str, tuple[str, Callable[..., object]]] = {
    "namespace": ("_own_network", lambda: False),
    "Landlock": ("_own_files", lambda *_: 0),
    "seccomp": ("_filter_calls", lambda: False),
}

if __name__ == "__main__":
    if sys.argv[1].startswith("--without="):
        for means in sys.argv.pop(1).removeprefix("--without=").split(","):
            setattr(sandbox, *WITHOUT[means])
    child.main()
