"""The restricted unpickler, on files written here opcode by opcode."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantlab.errors import FetchError
from quantlab.fetch.pth import read_pth

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
PROTOCOL = pickle.dumps(1001, protocol=2)
SYSTEM = pickle.dumps({"protocol_version": 1001, "little_endian": True}, protocol=2)
HEAD = MAGIC + PROTOCOL + SYSTEM
ORDERED = b"ccollections\nOrderedDict\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def group(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def tensor(
    key: str, length: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0,
    kind: str = "FloatStorage",
) -> bytes:  # fmt: skip
    storage = group(
        text("storage"), f"ctorch\n{kind}\n".encode(), text(key), text("cpu"), number(length), b"N"
    )
    sizes = group(*map(number, shape)), group(*map(number, strides))
    return REBUILD + group(storage + b"Q", number(offset), *sizes, b"\x89", ORDERED + b")R") + b"R"


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def state(**entries: bytes) -> bytes:
    items = b"".join(text(key) + value for key, value in entries.items())
    return pickled(ORDERED + b")R(" + items + b"u}" + text("_metadata") + b"}sb")


def storages(**arrays: np.ndarray) -> bytes:
    body = b"".join(struct.pack("<q", a.size) + a.tobytes() for a in arrays.values())
    return pickle.dumps(list(arrays), protocol=2) + body


SIX = np.arange(6, dtype="<f4")
SMALL = (
    HEAD
    + state(
        weight=tensor("s0", 6, (2, 3), (3, 1)),
        turned=tensor("s0", 6, (3, 2), (1, 3)),
        part=tensor("s0", 6, (2,), (1,), offset=4),
        count=tensor("s1", 1, (), (), kind="LongStorage"),
    )
    + storages(s0=SIX, s1=np.array([7], "<i8"))
)


def test_tensors_come_out_as_they_were() -> None:
    got = read_pth(SMALL, "small.pth")
    np.testing.assert_array_equal(got["weight"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(got["turned"], SIX.reshape(2, 3).T)
    np.testing.assert_array_equal(got["part"], SIX[4:])
    assert got["count"].shape == ()
    assert int(got["count"]) == 7
    assert all(a.flags.c_contiguous and a.flags.owndata and a.flags.writeable for a in got.values())
    assert {a.dtype for a in got.values()} == {np.dtype(np.float32), np.dtype(np.int64)}


class _Shell:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch was-here",)


class _Eval:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("open('was-here', 'w')",)


def _global_call(name: bytes, *arguments: bytes) -> bytes:
    return pickled(b"c" + name + group(*arguments) + b"R")


ATTACKS = {
    "os.system, protocol 0": pickle.dumps({"weight": _Shell()}, protocol=0),
    "os.system, protocol 2": pickle.dumps({"weight": _Shell()}, protocol=2),
    "os.system, protocol 4": pickle.dumps({"weight": _Shell()}, protocol=4),
    "eval": pickle.dumps(_Eval(), protocol=2),
    "posix": _global_call(b"posix\nsystem\n", text("touch was-here")),
    "getattr": _global_call(b"builtins\ngetattr\n", ORDERED, text("__class__")),
    "torch code": _global_call(b"torch._utils\n_rebuild_parameter\n", number(1)),
    "a path through a known name": pickled(b"ccollections\nOrderedDict.fromkeys\n"),
    "inst": b"(S'touch was-here'\nios\nsystem\n.",
    "obj": b"\x80\x02(cos\nsystem\nX\x0e\x00\x00\x00touch was-hereo.",
    "newobj": pickled(ORDERED + b")\x81"),
    "extension registry": b"\x80\x02\x82\x01.",
    "a memo of 8 GiB": pickled(b"Nr\xff\xff\xff\x1f"),
    "endless": pickled(b"N0" * 60_000 + b"N"),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("before", [b"", MAGIC, HEAD, HEAD + state()], ids=range(4))
def test_nothing_but_tensors_is_admitted(attack: bytes, before: bytes, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"evil\.pth was refused") as error:
        read_pth(before + attack, "evil.pth")
    assert "Nothing in it was run" in error.value.remedy
    assert not (tmp_path / "was-here").exists()


NESTED = b")" + b"\x85" * 49_000
BROKEN = {
    "no magic": pickle.dumps(5, protocol=2) + SMALL,
    "another protocol": MAGIC + pickle.dumps(1002, protocol=2) + SYSTEM,
    "a list": HEAD + pickle.dumps([1], protocol=2),
    "a number": HEAD + pickle.dumps({"epoch": 3}, protocol=2),
    "a nested state": HEAD + pickled(b"}" + text("model") + b"}s"),
    "a deep key": HEAD + pickled(b"}" + NESTED + b"Ns"),
    "state set on what makes tensors": HEAD + pickled(REBUILD + b"}" + text("x") + b"Nsb"),
    "state set on a storage's type": HEAD + pickled(b"ctorch\nIntStorage\n}" + text("x") + b"Nsb"),
    "state set on OrderedDict": HEAD + pickled(ORDERED + b"}" + text("x") + b"Nsb"),
    "a tensor without storage": HEAD + pickled(REBUILD + group(*[b"N"] * 4) + b"R"),
    "a storage of another kind": HEAD + pickled(group(*[b"N"] * 6) + b"Q"),
    "beyond the storage": HEAD + state(a=tensor("s", 6, (7,), (1,))) + storages(s=SIX),
    "an offset beyond": HEAD + state(a=tensor("s", 6, (3,), (1,), 4)) + storages(s=SIX),
    "strides beyond": HEAD + state(a=tensor("s", 6, (2, 3), (4, 1))) + storages(s=SIX),
    "a bomb of zero strides": HEAD + state(a=tensor("s", 6, (99999,) * 3, (0,) * 3))
    + storages(s=SIX),
    "negative strides": HEAD + state(a=tensor("s", 6, (6,), (-1,), 5)) + storages(s=SIX),
    "strides and shape differ": HEAD + state(a=tensor("s", 6, (2, 3), (1,))) + storages(s=SIX),
    "nine dimensions": HEAD + state(a=tensor("s", 6, (1,) * 9, (1,) * 9)) + storages(s=SIX),
    "a huge storage": HEAD + state(a=tensor("s", 2**31 - 1, (6,), (1,)))
    + pickle.dumps(["s"], protocol=2) + struct.pack("<q", 2**31 - 1),
    "sizes differ": HEAD + state(a=tensor("s", 5, (5,), (1,))) + storages(s=SIX),
    "one storage, two sizes": HEAD
    + state(a=tensor("s", 6, (5,), (1,)), b=tensor("s", 5, (5,), (1,))) + storages(s=SIX),
    "an unknown storage": HEAD + state(a=tensor("s", 6, (6,), (1,))) + storages(t=SIX),
    "keys that are not text": HEAD + state() + pickle.dumps([1], protocol=2),
}  # fmt: skip


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_does_not_hold_together_is_refused(content: bytes) -> None:
    with pytest.raises(FetchError, match=r"^bad\.pth is not a readable \.pth file: .+\.$"):
        read_pth(content, "bad.pth")


def test_the_zip_format_is_named() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(FetchError, match="zip format"):
        read_pth(file.getvalue(), "new.pth")


@given(st.integers(0, len(SMALL) - 1))
def test_every_truncation_is_noticed(length: int) -> None:
    with pytest.raises(FetchError):
        read_pth(SMALL[:length], "short.pth")


@given(st.integers(0, len(SMALL) - 1), st.binary(min_size=1, max_size=4))
def test_damage_gives_tensors_or_an_error(place: int, damage: bytes) -> None:
    content = SMALL[:place] + damage + SMALL[place + len(damage) :]
    try:
        got = read_pth(content, "damaged.pth")
    except FetchError:
        return
    assert all(isinstance(array, np.ndarray) for array in got.values())
