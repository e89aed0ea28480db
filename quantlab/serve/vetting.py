"""Check an uploaded model in a confined process before it is used."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from quantlab.serve.process import run_task
from quantlab.serve.settings import Settings


def facts_of(file: Path, settings: Settings, tmp: Path) -> dict[str, Any]:
    """What kind of model the file is. ``tmp`` is a folder to work in.

    Raises QuantlabError for what is no model that the service takes.
    """
    bounds = settings.bounds.model_dump(mode="json")
    task = {"task": "check", "file": str(file), "bounds": bounds}
    with tempfile.TemporaryDirectory(dir=tmp) as folder:
        return run_task(
            task,
            Path(folder),
            settings.limits(settings.check_time),
            read=[file],
            required=settings.confine,
            tmp=tmp,
        )
