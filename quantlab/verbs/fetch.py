"""fetch: a published model or dataset by its name."""

from __future__ import annotations

from pathlib import Path

from quantlab._util.reporter import Reporter
from quantlab.runs.run import Run
from quantlab.verbs.inputs import fetch_with_progress
from quantlab.verbs.options.small import FetchOptions as FetchOptions


def fetch_job(spec: FetchOptions, run: Run, reporter: Reporter) -> Path:
    """The path of the fetched file in the cache folder."""
    path = fetch_with_progress(spec.name.removesuffix(".onnx"), reporter, spec.from_dir)
    run.record.results = {"path": str(path)}
    return path
