"""``quantlab.yaml`` in the working folder: defaults for a project's options."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from quantlab.yamlfile import read_yaml, validate

FILE_NAME = "quantlab.yaml"


class Config(BaseModel):
    """What ``quantlab.yaml`` may say. Paths are relative to the file's folder; flags win."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path | None = None
    eval_data: Path | None = None
    pipeline: str | None = None


def load_config(folder: Path) -> Config:
    """The folder's ``quantlab.yaml``, or an empty Config. Raises RecipeError."""
    path = folder / FILE_NAME
    if not path.is_file():
        return Config()
    config = validate(Config, read_yaml(path), str(path))
    return config.model_copy(
        update={
            key: folder / value
            for key in ("data", "eval_data")
            if (value := getattr(config, key)) is not None
        }
    )
