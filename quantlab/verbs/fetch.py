"""fetch: a published model or dataset by its name."""

from __future__ import annotations

from pathlib import Path

from quantlab._util.reporter import Reporter
from quantlab.verbs.inputs import fetch_with_progress
from quantlab.verbs.options.small import FetchOptions as FetchOptions
from quantlab.verbs.publish import Returned


def fetch_named(spec: FetchOptions, reporter: Reporter) -> Returned[Path]:
    """The path of the fetched file in the cache folder."""
    path = fetch_with_progress(spec.name.removesuffix(".onnx"), reporter, spec.from_dir)
    return Returned(path, {"path": str(path)})
