"""Write a run's settings to its folder: the configuration that repeats it, and its mapping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quantlab._util.files import write_whole
from quantlab._util.reporter import Reporter
from quantlab.runs.run import Run
from quantlab.verbs.config import FILE_NAME, Loaded, dump


def keep_settings(
    settings: Mapping[str, Any], loaded: Loaded, run: Run, reporter: Reporter
) -> None:
    """Write ``quantlab.yaml``, and ``mapped.md`` for a Neural Compressor file, which is also said.

    Raises RecipeError for settings that no configuration may hold, OutputError.
    """
    heading = f"What held for the run {run.record.id}.\nRepeat: quantlab {run.record.verb} --config"
    path = run.artifact("config", FILE_NAME)
    write_whole(path, dump(settings, f"{heading} {path}", run.folder))
    if not (table := loaded.table):
        return
    write_whole(run.artifact("mapped", "mapped.md"), f"# What became of the file's keys\n\n{table}")
    reporter.say("A Neural Compressor file. This is what becomes of its keys:")
    for line in table.splitlines():
        reporter.say(line)
