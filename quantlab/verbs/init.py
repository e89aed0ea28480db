"""init: write a commented ``quantlab.yaml``."""

from __future__ import annotations

from pathlib import Path

from quantlab._util.files import write_whole
from quantlab.errors import OutputError
from quantlab.runs.run import Run
from quantlab.verbs.config import Config, template
from quantlab.verbs.options.small import InitOptions as InitOptions


def init_job(spec: InitOptions, run: Run) -> Path:
    """Write the file. Raises OutputError when it is there already, unless forced."""
    if spec.path.exists() and not spec.force:
        raise OutputError(
            f"{spec.path} exists already and was not changed.", "--force replaces it."
        )
    write_whole(spec.path, template())
    keys = [key.alias or name for name, key in Config.model_fields.items()]
    run.record.results = {"path": str(spec.path), "keys": keys}
    return spec.path
