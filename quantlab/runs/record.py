"""RunRecord: the options, conditions and results of one run of one verb.

``run.json`` in a run folder is one RunRecord. Version 1 stays readable for ever: a field may be
added with a default, none may change its meaning; anything else is a new ``schema_version``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quantlab.errors import RecordError

RunStatus = Literal["started", "success", "error", "interrupted"]
MAX_BYTES = 64 * 1024**2


class RunRecord(BaseModel):
    """One run. Times are ISO 8601 in UTC; ``artifacts`` maps a name to a file in the run folder."""

    model_config = ConfigDict(extra="ignore")

    schema_version: Literal[1] = 1
    id: str
    verb: str
    status: RunStatus = "started"
    started: str
    finished: str | None = None
    command: str = Field(description="the exact command that repeats the run")
    spec: dict[str, Any] = Field(default_factory=dict, description="every option's effective value")
    origins: dict[str, str] = Field(
        default_factory=dict, description="what has set each option: its flag, a file, ..."
    )
    environment: dict[str, str] = Field(default_factory=dict)
    source: str | None = Field(None, description="the run whose trials this one picked from")
    results: dict[str, Any] = Field(default_factory=dict)
    artifacts: dict[str, str] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    error: str | None = None


def load_record(path: Path) -> RunRecord:
    """Read ``run.json`` (or a run folder). Raises RecordError with the reason in plain words.

    Examples:
        >>> from quantlab import load_record, quantize
        >>> from quantlab.testing import example_images, example_model
        >>> model = quantize(
        ...     example_model(), example_images(), pipeline="torchvision", run_dir="my-runs"
        ... )
        >>> from pathlib import Path
        >>> [load_record(folder).status for folder in Path("my-runs").iterdir()]
        ['success']
    """
    path = path / "run.json" if path.is_dir() else path
    if not path.is_file():
        raise RecordError(f"{path}: no such run.", "A run folder holds a run.json.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecordError(f"{path} is larger than {MAX_BYTES >> 20} MiB: not a run record.")
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data.get("schema_version")
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise RecordError(f"{path} is not a run record: {error}.") from error
    if version != 1:
        raise RecordError(
            f"{path} has schema version {version}; this quantlab reads version 1.",
            "A newer quantlab wrote it: pip install --upgrade quantlab",
        )
    try:
        return RunRecord.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path} is damaged: {where}: {first['msg']}.") from error
