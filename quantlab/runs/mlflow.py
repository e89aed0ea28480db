"""Log a run with MLflow: options as parameters, figures as metrics, files as artifacts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.errors import MissingExtraError, QuantlabError
from quantlab.runs.difference import batch_of, flat
from quantlab.runs.entry import Entry, entry_of
from quantlab.runs.folders import RECORD, artifact, timing_of
from quantlab.runs.record import RunRecord, load_record

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN = "quantlab.run"
"""The tag with the run's id; it is set last, so that a run that was cut short is logged again."""
EXPERIMENT = "quantlab"
LONGEST, LONGEST_KEY, AT_ONCE = 5000, 250, 100
"""Characters of a tag's value and of a name, and items in a call: what every MLflow takes."""
_ENDED = {"success": "FINISHED", "error": "FAILED", "interrupted": "KILLED", "started": "RUNNING"}


@dataclass(frozen=True)
class Logged:
    """The run's place in MLflow; ``new``: it had not been there before."""

    run_id: str
    experiment: str
    new: bool


def log_run(folder: Path, *, to: str | None = None, experiment: str = EXPERIMENT) -> Logged:
    """Log the run of a folder. A run that MLflow has already is left as it is.

    ``to`` is a tracking URI or a folder, None what MLflow takes by itself (MLFLOW_TRACKING_URI).
    Raises RecordError, MissingExtraError, and QuantlabError for what MLflow refuses.
    """
    record = load_record(folder)
    entry = entry_of(record, folder.name, timing_of(folder, record))
    try:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise MissingExtraError("mlflow-skinny", "mlflow", "runs export mlflow") from error
    try:
        client = MlflowClient(tracking_uri=None if to is None else _uri(to))
        known = _experiment(client, experiment)
        run_id = _logged(client, known, record.id)
        new = run_id is None
        return Logged(run_id or _log(client, known, folder, record, entry), experiment, new)
    except (MlflowException, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise QuantlabError(
            f"MLflow did not take {folder.name}: {reason}",
            "Another place may be named: --to with a tracking URI or a folder.",
        ) from error


def _uri(to: str) -> str:
    """The URI of a place. Who names a folder wants MLflow's files in it, which MLflow does not
    take for granted any more."""
    if "://" in to or to.startswith(("file:", "sqlite:", "databricks")):
        uri = to
    else:
        uri = Path(to).absolute().as_uri()
    if uri.startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return uri


def _experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment, which is made where it is not there."""
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _logged(client: MlflowClient, experiment: str, run: str) -> str | None:
    """MLflow's id of a run that it has already."""
    found = client.search_runs([experiment], f"tags.`{RUN}` = '{_key(run)}'", max_results=1)
    return found[0].info.run_id if found else None


def _log(
    client: MlflowClient, experiment: str, folder: Path, record: RunRecord, entry: Entry
) -> str:
    from mlflow.entities import Metric, Param, RunTag

    start, end = _milliseconds(record.started), _milliseconds(record.finished)
    run = client.create_run(experiment, start_time=start, run_name=_key(record.id))
    metrics = [Metric(k, v, end or 0, 0) for k, v in metrics_of(entry).items()]
    params = [Param(_key(k), v) for k, v in flat(record.spec).items()]
    tags = [RunTag(_key(k), v[:LONGEST]) for k, v in tags_of(record, entry).items()]
    for i in range(0, max(len(metrics), len(params), len(tags)), AT_ONCE):
        part = slice(i, i + AT_ONCE)
        client.log_batch(run.info.run_id, metrics[part], params[part], tags[part])
    for path in files_of(folder, record):
        client.log_artifact(run.info.run_id, str(path))
    client.set_terminated(run.info.run_id, _ENDED[record.status], end)
    client.set_tag(run.info.run_id, RUN, _key(record.id))
    return str(run.info.run_id)


def metrics_of(entry: Entry) -> dict[str, float]:
    """Figures by name: those of what the run is about as they are, others behind their model's
    name; interval ends as ``low`` and ``high``, times with their batch size."""
    found = dict[str, float]()
    for figure in entry.figures:
        owner = [] if figure.model == entry.model else [figure.model]
        name = _key(".".join([*owner, figure.metric, *batch_of(figure).split()]))
        ends = figure.interval
        spread = {} if ends is None else {f"{name}.low": ends.low, f"{name}.high": ends.high}
        found = {name: figure.value, **spread} | found
    return found


def tags_of(record: RunRecord, entry: Entry) -> dict[str, str]:
    """What a run was and where, by name."""
    facts = {"verb": record.verb, "command": record.command, "verdict": entry.verdict}
    facts |= {"model": entry.model, "error": record.error or ""}
    places = {f"environment.{name}": value for name, value in record.environment.items()}
    return {f"quantlab.{k}": v for k, v in (facts | places).items() if v}


def files_of(folder: Path, record: RunRecord) -> list[Path]:
    """The record, and its artifacts that are there."""
    files = [artifact(folder, record, name) for name in record.artifacts]
    return [folder / RECORD, *dict.fromkeys(path for path in files if path is not None)]


def _key(text: str) -> str:
    """The text in the characters that MLflow allows in names."""
    return re.sub(r"[^\w. /:-]", "_", text, flags=re.ASCII)[:LONGEST_KEY]


def _milliseconds(time: str | None) -> int | None:
    """Since 1970, None for what is no ISO 8601 time."""
    try:
        return None if time is None else round(1000 * datetime.fromisoformat(time).timestamp())
    except (ValueError, OverflowError):
        return None
