"""An uploaded model as files, one ``.onnx`` or a zip of one and its external data, and its bounds.

The service's own processes use this; what opens a model is in ``checks``, for the confined child.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field

from quantlab.errors import ModelError

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
REMEDY = "Export it again, or upload another file."
_ZIP = b"PK\x03\x04"


class Bounds(BaseModel):
    """Limits on an uploaded model: size, nodes, dimensions, operator domains.

    ``domains`` are of operators; ``""`` and ``ai.onnx`` are ONNX's own, com.microsoft has the
    quantized operators of ONNX Runtime. ``loops``: whether Loop, Scan and SequenceMap are let
    through; no image classifier known to us has one, and they compute for as long as they like. If
    is always: both branches are looked at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(512 * 10**6, gt=0, description="all files together, unpacked")
    max_files: int = Field(64, gt=0, description="the model and its external data")
    max_elements: int = Field(10**9, gt=0, description="of one tensor, stored or between operators")
    max_dimensions: int = Field(8, gt=0, description="of one tensor")
    max_nodes: int = Field(100_000, gt=0, description="with those of all subgraphs")
    max_depth: int = Field(8, gt=0, description="subgraphs in subgraphs")
    max_opset: int = Field(64, gt=0, description="of any domain")
    domains: tuple[str, ...] = DOMAINS
    loops: bool = False


def is_packed(file: Path) -> bool:
    """Whether an upload is a zip file."""
    with file.open("rb") as opened:
        return opened.read(len(_ZIP)) == _ZIP


def unpack(file: Path, folder: Path, bounds: Bounds) -> Path:
    """Unpacks a zip of one model and its external data; the model's path.

    Links, absolute names, names that lead out, encrypted members and more than the bounds allow
    are refused before anything is written. Raises ModelError.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = _members(archive, bounds)
            left = bounds.max_bytes
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                left -= _copy(archive, member, target, left, bounds)
    except ModelError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ModelError("the upload is a damaged zip file.", REMEDY) from error
    except (NotImplementedError, RuntimeError, OSError) as error:
        # lzma and bz2 have errors of their own; a file and a folder of one name clash
        raise ModelError(f"the zip file cannot be unpacked: {error}.", REMEDY) from error
    models = [m.filename for m in members if m.filename.lower().endswith(".onnx")]
    if len(models) != 1:
        raise ModelError(
            f"the zip file holds {len(models)} .onnx files, not one.",
            "Zip one model with its external data.",
        )
    return folder / models[0]


def _members(archive: zipfile.ZipFile, bounds: Bounds) -> list[zipfile.ZipInfo]:
    members = [m for m in archive.infolist() if not m.filename.endswith("/")]
    if len(members) > bounds.max_files:
        raise ModelError(f"the zip file holds more than {bounds.max_files} files.", REMEDY)
    if sum(member.file_size for member in members) > bounds.max_bytes:
        raise too_large(bounds)
    if len({member.filename for member in members}) != len(members):
        raise ModelError("the zip file holds two files of one name.", REMEDY)
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) or member.flag_bits & 1:
            raise ModelError("the zip file holds a link or an encrypted file.", REMEDY)
        if not plain_name(member.filename):
            raise ModelError("the zip file holds a name that leads out of its folder.", REMEDY)
    return members


def plain_name(name: str) -> bool:
    """Whether a name stays in the folder it is put in, on every system."""
    parts = PurePosixPath(name).parts
    bad = any(ord(letter) < 32 or letter in '\\:*?"<>|' for letter in name)
    return bool(parts) and not bad and not name.startswith("/") and ".." not in parts


def _copy(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, left: int, bounds: Bounds
) -> int:
    """Unpacks a member of at most ``left`` bytes, whatever it promised; how many it had."""
    size = 0
    with archive.open(member) as source, target.open("xb") as copy:
        while chunk := source.read(1 << 20):
            size += len(chunk)
            if size > left:
                raise too_large(bounds)
            copy.write(chunk)
    return size


def too_large(bounds: Bounds) -> ModelError:
    """The error of a model beyond ``max_bytes``."""
    return ModelError(f"the model has more than {bounds.max_bytes / 1e6:,.0f} MB.", REMEDY)
