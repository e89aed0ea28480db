"""Settings of a server: database, store, folders and limits."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from quantlab._util import units
from quantlab._util.yamlfile import read_yaml, validate
from quantlab.serve.packed import DOMAINS, Bounds
from quantlab.serve.sandbox import SandboxLimits
from quantlab.verbs.options.option import Seconds

VARIABLE = "QUANTLAB_SERVER_HOME"
"""Names the server's folder where ``--home`` is not given."""
HOME = Path("quantlab-server")

Bytes = Annotated[int, BeforeValidator(units.size_bytes)]


class Settings(BaseModel):
    """A server's settings. ``db`` and ``store`` are beside each other in ``home`` unless they are
    elsewhere: a database's URL, and a folder or fsspec URL that all machines of a service share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(HOME, description="the embedded database, store and working folders")
    db: str | None = Field(None, description="such as postgresql://USER:PASSWORD@HOST/DATABASE")
    store: str | None = Field(None, description="a folder, or a URL such as s3://BUCKET/PREFIX")
    machine: str = Field(
        default_factory=platform.node,
        min_length=1,
        description="workers of one name take turns with jobs that time models",
    )

    max_model: Bytes = Field(512 * 10**6, gt=0, description="an uploaded model, unpacked")
    max_chunk: Bytes = Field(16 * 10**6, gt=0, description="one request's body")
    max_queued: int = Field(200, ge=1, description="jobs of one token that have not ended")
    requests_a_minute: int = Field(1200, ge=1, description="of one token, or of one address")
    domains: tuple[str, ...] = Field(DOMAINS, description="of operators in models")
    metrics: Literal["token", "open"] = Field(
        "token", description="whether `/metrics` needs a token of scope `read`"
    )

    job_memory: Bytes = Field(8 * 10**9, gt=0, description="resident, all processes of a job")
    job_cpu: Seconds = Field(8 * 3600.0, gt=0, description="CPU time, all processes of a job")
    job_time: Seconds = Field(2 * 3600.0, gt=0, description="from a job's start to its end")
    job_file: Bytes = Field(8 * 10**9, gt=0, description="written by a job, all files")
    check_time: Seconds = Field(120.0, gt=0, description="to look at an uploaded model")
    confine: bool = Field(True, description="refuse to run where children cannot be confined")

    keep_runs: Seconds | None = Field(
        None, gt=0, description="jobs that are done, with their runs; all of them without it"
    )
    keep_errors: Seconds | None = Field(
        None, gt=0, description="jobs that have failed or were cancelled"
    )
    keep_models: Seconds | None = Field(
        None, gt=0, description="models that are not the newest of their name"
    )

    lease: Seconds = Field(
        30.0,
        gt=0,
        description="a worker that does not renew its lease for so long loses its job",
    )
    losses: int = Field(5, ge=0, description="workers that one job may lose before it fails")

    url: str = Field("", description="of the pages, for the links in alerts")
    alert_hosts: tuple[str, ...] = Field(
        (), description="of webhooks, `HOST` or `HOST:PORT`, and the domains of e-mail addresses"
    )
    alert_private: bool = Field(
        False, description="alerts may go to private addresses, and without TLS"
    )
    alert_smtp: str = Field("", description="such as smtp://USER:PASSWORD@HOST:587, or smtps://")
    alert_from: str = Field("", description="the e-mail address that alerts come from")

    @property
    def db_url(self) -> str:
        """The database's URL."""
        return self.db or f"sqlite:///{self.home / 'server.db'}"

    @property
    def store_url(self) -> str:
        """The store's folder or URL."""
        return self.store or str(self.home / "store")

    @property
    def work(self) -> Path:
        """Where jobs run on this machine."""
        return self.home / "work"

    @property
    def cache(self) -> Path:
        """Decoded images and known answers, shared by this machine's jobs."""
        return self.home / "cache"

    def limits(self, seconds: float) -> SandboxLimits:
        """Those of a child process that may take so long."""
        return SandboxLimits(self.job_memory, int(self.job_cpu), seconds, self.job_file)

    @property
    def bounds(self) -> Bounds:
        """What an uploaded model may be."""
        return Bounds(max_bytes=self.max_model, domains=self.domains)


def load_settings(path: Path | None, **given: object) -> Settings:
    """The settings of a YAML file, if any; what is given (and not None) wins.

    Raises RecipeError.
    """
    stored = read_yaml(path) if path is not None else {}
    values = {**stored, **{key: value for key, value in given.items() if value is not None}}
    if "home" not in values and VARIABLE in os.environ:
        values["home"] = os.environ[VARIABLE]
    return validate(Settings, values, str(path or "the settings"))
