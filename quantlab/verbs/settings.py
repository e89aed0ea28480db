"""Files of a run's settings: the configuration that repeats it, and what became of its keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from quantlab._util.reporter import Reporter
from quantlab.runs.record import RunRecord
from quantlab.verbs.config import FILE_NAME, Loaded, dump
from quantlab.verbs.publish import Artifact, text_file


def settings_files(
    record: RunRecord, folder: Path, loaded: Loaded, reporter: Reporter
) -> Iterator[Artifact]:
    """``quantlab.yaml``, and ``mapped.md`` for a Neural Compressor file, which is also said.

    Raises RecipeError for settings that no configuration may hold.
    """
    heading = f"What held for the run {record.id}.\nRepeat: quantlab {record.verb} --config"
    text = dump(record.spec, f"{heading} {folder / FILE_NAME}", folder)
    yield text_file("config", FILE_NAME, text)
    if not (table := loaded.table):
        return
    yield text_file("mapped", "mapped.md", f"# What became of the file's keys\n\n{table}")
    reporter.say("A Neural Compressor file. This is what becomes of its keys:")
    for line in table.splitlines():
        reporter.say(line)
