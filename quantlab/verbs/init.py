"""init: write a commented ``quantlab.yaml``."""

from __future__ import annotations

from pathlib import Path

from quantlab._util.files import write_whole
from quantlab.errors import OutputError
from quantlab.verbs.config import Config, template
from quantlab.verbs.options.small import InitOptions as InitOptions
from quantlab.verbs.publish import Returned


def write_template(spec: InitOptions) -> Returned[Path]:
    """Write the file. Raises OutputError when it is there already, unless forced."""
    if spec.path.exists() and not spec.force:
        raise OutputError(
            f"{spec.path} exists already and was not changed.", "--force replaces it."
        )
    write_whole(spec.path, template())
    keys = [key.alias or name for name, key in Config.model_fields.items()]
    return Returned(spec.path, {"path": str(spec.path), "keys": keys})
