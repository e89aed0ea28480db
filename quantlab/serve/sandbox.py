"""Confine this process, irrevocably, before it reads anything untrusted (Landlock, seccomp).

Linux gives all of this without root; each part is put on where the kernel has it, and ``Held`` says
which hold:

- no network: a user and network namespace of its own, whose only interface is a loopback that is
  down; Landlock refuses TCP; a seccomp filter refuses every ``socket()`` (also those to UNIX
  sockets of the file system, which neither of the others covers) and io_uring, which could make
  sockets too;
- files: Landlock admits Python, the system's libraries and what is given, and no more;
- one process group: the filter makes ``setsid()`` and ``setpgid()`` do nothing, so that a signal to
  the group reaches whatever the process has started;
- resource limits, no capabilities, no way to new privileges, no memory outside of any process
  (``memfd_create``, System V), which no limit would count.

What a process has started inherits all of it. It is done by ctypes: what PyPI offers around
Landlock is unfinished, and libseccomp is one more library for a filter of a dozen instructions.
Constants are those of the kernel's headers: ``linux/landlock.h`` (see landlock(7)),
``linux/seccomp.h``, ``linux/filter.h``, ``linux/audit.h``, ``linux/sched.h``,
``linux/capability.h``, ``linux/prctl.h``, ``asm/unistd.h``.

``python -m quantlab.serve.sandbox`` confines itself and prints what holds as JSON.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from quantlab.errors import QuantlabError

_HOME = Path(__file__).resolve().parents[2]
"""The folder that holds the package quantlab."""
OPEN_FILES = 1024
CPU_GRACE = 5
"""Seconds between the signal that says that CPU time is over and the one that cannot be caught."""
SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/bin/fc-list", "/usr/share",
    "/proc", "/sys", "/dev/urandom", "/dev/random", "/dev/zero", "/etc/ld.so.cache", "/etc/fonts",
    "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/os-release", "/etc/passwd",
    "/etc/group", "/etc/nsswitch.conf",
)  # fmt: skip
"""Every process may read these, and run what is in them."""


@dataclass(frozen=True)
class SandboxLimits:
    """Limits of a child and all that it starts, in bytes and seconds; ``lines`` are those of its
    output.

    Memory (RSS), CPU time and files' sizes are summed by the parent as it looks; the kernel limits
    the memory and CPU time of each single process, and the size of each file, at once.
    """

    memory_bytes: int
    cpu_seconds: int
    seconds: float
    file_bytes: int
    lines: int = 200_000
    processes: int = 256


@dataclass(frozen=True)
class Held:
    """Which confinement is in force. ``files`` is Landlock's version, 0 where there is none."""

    network: tuple[str, ...] = ()
    files: int = 0
    filtered: bool = False
    root: bool = False

    @property
    def no_network(self) -> bool:
        """Landlock alone refuses TCP only."""
        return bool({"namespace", "seccomp"}.intersection(self.network))

    @property
    def complete(self) -> bool:
        """Whether network and files are closed, and no process can leave its group."""
        return self.no_network and self.files > 0 and self.filtered

    def lines(self) -> list[str]:
        """Sentences for the operator: what is in force and what is not."""
        means = ", ".join(self.network)
        lines = [
            f"network: none ({means})" if self.no_network
            else "network: OPEN but for TCP (Landlock)" if self.network
            else "network: OPEN: jobs can reach whatever this machine can",
            f"files: Python, libraries, its data and its own folders (Landlock {self.files})"
            if self.files
            else "files: OPEN: jobs can read and write whatever this user can",
            "processes: all end with their job" if self.filtered
            else "processes: one that leaves its group may outlive its job",
        ]  # fmt: skip
        if 0 < self.files < 6:
            lines.append("signals: OPEN: jobs can end this user's other processes (Landlock < 6)")
        if self.root:
            lines.append("user: root; an ordinary user is safer")
        return lines


def available() -> Held:
    """The confinement possible on this machine, found out in another process.

    Raises QuantlabError when that process fails.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", "quantlab.serve.sandbox"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(_HOME)},
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise QuantlabError(f"a process cannot confine itself here: {last}")
    facts = json.loads(done.stdout)
    return Held(**{**facts, "network": tuple(facts["network"])})


def confine(read: Iterable[Path], write: Iterable[Path], limits: SandboxLimits) -> Held:
    """Confines this process, which must have one thread only, to ``read`` and ``write`` (files or
    folders that are there) beside SYSTEM and Python itself.

    Raises OSError where the kernel has a means and refuses it in the middle.
    """
    _limit(limits)
    if sys.platform != "linux":
        return Held(root=os.geteuid() == 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    network = ["namespace"] if _own_network() else []
    _drop_capabilities()
    version = _own_files([*_python(), *map(Path, SYSTEM), *read], write)
    if version >= 4:
        network.append("Landlock")
    filtered = _filter_calls()
    if filtered:
        network.append("seccomp")
    return Held(tuple(network), version, filtered, os.geteuid() == 0)


def _python() -> Iterator[Path]:
    """Where the interpreter, its library and all packages are. Of a checkout of quantlab only the
    package and its recipes: a server's own folder may lie beside them."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.realpath(sys.executable)}
    packages = {place for place in sys.path if place and Path(place).resolve() != _HOME}
    yield from map(Path, sorted(places | packages))
    yield from (_HOME / "quantlab", _HOME / "tuning")


def _limit(limits: SandboxLimits) -> None:
    import resource

    cpu = max(1, limits.cpu_seconds)
    wanted = {
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_DATA": (limits.memory_bytes, limits.memory_bytes),
        "RLIMIT_CPU": (cpu, cpu + CPU_GRACE),
        "RLIMIT_FSIZE": (limits.file_bytes, limits.file_bytes),
        "RLIMIT_NOFILE": (OPEN_FILES, OPEN_FILES),
    }
    for name, (soft, hard) in wanted.items():
        which = getattr(resource, name)
        most = resource.getrlimit(which)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(which, (soft, hard))


_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_CAPABILITY_VERSION_3 = 0x20080522


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _failed() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _prctl(option: int, *arguments: object) -> None:
    if _libc().prctl(option, *arguments, *[ctypes.c_ulong(0)] * (4 - len(arguments))):
        raise _failed()


def _own_network() -> bool:
    """Whether the process now is in a network namespace of its own; its user stays the same."""
    user, group = os.geteuid(), os.getegid()
    if _libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _drop_capabilities() -> None:
    """Those that root has, and those that a new user namespace gives."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _libc().capset(header, bytes(24)):
        raise _failed()


_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION, _RULE_PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << i for i in range(6))
_MAKE_DIR, _MAKE_REG, _MAKE_FIFO = 1 << 7, 1 << 8, 1 << 10
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""By Landlock's version, how many rights for files there are; the last also for later ones."""
_TCP_RIGHTS, _SCOPES = 0b11, 0b11
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_WRITE = (
    _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG
    | _MAKE_FIFO | _REFER | _TRUNCATE
)  # fmt: skip
"""No links, no devices, no sockets, and nothing that was written is run."""
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE


def _own_files(read: Iterable[Path], write: Iterable[Path]) -> int:
    """Landlock's version, with the rules in force; 0 where the kernel has none."""
    syscall = _libc().syscall
    version = int(syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _RULESET_VERSION))
    if version < 1:
        return 0
    rights = (1 << _FS_RIGHTS.get(version, _FS_RIGHTS[5])) - 1
    parts = [rights, *([_TCP_RIGHTS] if version >= 4 else []), *([_SCOPES] if version >= 6 else [])]
    attributes = struct.pack(f"={len(parts)}Q", *parts)
    ruleset = int(syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    if ruleset < 0:
        raise _failed()
    try:
        for allowed, paths in (
            (_READ, read),
            (_WRITE, write),
            (_READ_DIR, [_HOME]),
            (_READ_FILE | _WRITE_FILE, [Path("/dev/null")]),
        ):
            for path in paths:
                _allow(ruleset, path, allowed & rights)
        if syscall(_RESTRICT_SELF, ruleset, 0):
            raise _failed()
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, path: Path, allowed: int) -> None:
    """Gives rights for a file, or all beneath a folder; what is not there is passed over."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return
        raise
    try:
        if not path.is_dir():
            allowed &= _OF_FILES
        rule = struct.pack("=Qi", allowed, place)
        if _libc().syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0):
            raise _failed()
    finally:
        os.close(place)


_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_AT_NUMBER, _AT_ARCHITECTURE = 0, 4
_KILL, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
_NOTHING = _ERRNO
"""The call returns 0 and does nothing."""
_X32 = 0x40000000
"""From here on an x86-64 kernel's calls are those of another interface, with the same effect."""


@dataclass(frozen=True)
class _Calls:
    """A machine architecture's number in audit(7), and the numbers of its system calls."""

    architecture: int
    socket: int
    setsid: int
    setpgid: int
    memfd_create: int
    shmget: int
    io_uring_setup: int = 425

    def outcomes(self) -> dict[int, int]:
        """What becomes of each call that is not just done."""
        return {
            self.socket: _ERRNO | errno.EACCES,
            self.io_uring_setup: _ERRNO | errno.ENOSYS,
            self.memfd_create: _ERRNO | errno.EACCES,
            self.shmget: _ERRNO | errno.EACCES,
            self.setsid: _NOTHING,
            self.setpgid: _NOTHING,
        }


_MACHINES = {
    "x86_64": _Calls(0xC000003E, socket=41, setsid=112, setpgid=109, memfd_create=319, shmget=29),
    "aarch64": _Calls(
        0xC00000B7, socket=198, setsid=157, setpgid=154, memfd_create=279, shmget=194
    ),
}


def _program(calls: _Calls) -> list[tuple[int, int, int, int]]:
    """The seccomp filter as BPF instructions: (code, jump if true, jump if false, operand) each."""
    steps = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_EQUAL, 1, 0, calls.architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _AT_NUMBER),
    ]
    if calls.architecture == _MACHINES["x86_64"].architecture:
        steps += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for number, outcome in calls.outcomes().items():
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, outcome)]
    return [*steps, (_RETURN, 0, 0, _ALLOW)]


class _FilterProgram(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _filter_calls() -> bool:
    """Whether the filter is in force: not on kinds of machines that it does not know."""
    calls = _MACHINES.get(platform.machine())
    if calls is None or sys.maxsize < 2**32:
        return False
    steps = _program(calls)
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    with suppress(OSError):
        program = _FilterProgram(len(steps), code)
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))
        return True
    return False


if __name__ == "__main__":
    held = confine([], [], SandboxLimits(2**40, 3600, 3600, 2**40))
    print(json.dumps(asdict(held)))
