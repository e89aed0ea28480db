"""Metrics of a server for Prometheus: its requests, and the service's jobs, workers and store.

What is counted of requests is this server's own. What is told of jobs is read from the database
that all servers share: each server tells all of it, of jobs that have ended since its own start.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from quantlab import __version__
from quantlab.serve.db import JOBS
from quantlab.serve.queue import OPEN
from quantlab.serve.service import Service
from quantlab.serve.workers import seconds_since_seen

OVERLAP = 60.0
"""Seconds: a job that ended so long before the last look may have been stored after it."""
STORE_SECONDS = 300.0
"""How long the size of the store, whose listing takes its time, is given again."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER = "other"
"""The route of an address that there is not, and a method that HTTP does not have."""
_REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_JOB_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)


class Metrics:
    """The metrics of one application."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        of_request = ("method", "route", "status")
        self._requests = Counter(
            "quantlab_http_requests", "Requests.", of_request, registry=self.registry
        )
        self._seconds = Histogram(
            "quantlab_http_request_seconds", "From a request to the end of its answer.",
            ("method", "route"), buckets=_REQUEST_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._ended = Counter(
            "quantlab_jobs_ended", "Jobs that have ended.", ("verb", "outcome"),
            registry=self.registry,
        )  # fmt: skip
        self._failed = Counter(
            "quantlab_jobs_failed", "Jobs that have failed, by what ended them.",
            ("verb", "reason"), registry=self.registry,
        )  # fmt: skip
        self._took = Histogram(
            "quantlab_job_seconds", "From a job's first start to its end.", ("verb", "outcome"),
            buckets=_JOB_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._waited = Histogram(
            "quantlab_job_wait_seconds", "From a job's submission to its first start.", ("verb",),
            buckets=_JOB_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._lock = threading.Lock()
        self._seen = dict[int, float]()
        self._store: tuple[float, int] | None = None
        with service.database.reading() as connection:
            self._since = self._looked = service.database.now(connection)

    def count(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a request; ``route`` is the template of its path, ``status`` 0 where the client
        went away."""
        method = method if method in METHODS else OTHER
        self._requests.labels(method, route or OTHER, str(status or "gone")).inc()
        self._seconds.labels(method, route or OTHER).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format. Raises UnavailableError, OutputError."""
        with self._lock:
            with self.service.database.reading() as connection:
                self._count_ended(connection)
                gauges = list(self._gauges(connection))
            gauges += self._of_parts()
            now = CollectorRegistry()
            now.register(_Told(gauges))
            return generate_latest(self.registry) + generate_latest(now)

    def _count_ended(self, connection: Connection) -> None:
        """Count the jobs that have ended since the last look."""
        now = self.service.database.now(connection)
        begin = max(self._since, self._looked - OVERLAP)
        columns = ("number", "verb", "state", "reason", "created", "started", "finished")
        query = select(*(JOBS.c[name] for name in columns)).where(JOBS.c.finished >= begin)
        for job in connection.execute(query):
            if job.number in self._seen:
                continue
            self._seen[job.number] = job.finished
            self._ended.labels(job.verb, job.state).inc()
            if job.state == "failed":
                self._failed.labels(job.verb, job.reason or OTHER).inc()
            if job.started is not None:
                self._took.labels(job.verb, job.state).observe(job.finished - job.started)
                self._waited.labels(job.verb).observe(job.started - job.created)
        self._looked = now
        late = now - 2 * OVERLAP
        self._seen = {number: end for number, end in self._seen.items() if end > late}

    def _gauges(self, connection: Connection) -> Iterator[Metric]:
        """What the queue is like now."""
        depth = GaugeMetricFamily("quantlab_jobs", "Jobs that have not ended.", labels=["state"])
        counts = select(JOBS.c.state, func.count().label("n")).where(JOBS.c.state.in_(OPEN))
        found = {row.state: row.n for row in connection.execute(counts.group_by(JOBS.c.state))}
        for state in OPEN:
            depth.add_metric([state], found.get(state, 0))
        yield depth
        oldest = select(func.min(JOBS.c.created)).where(JOBS.c.state == "queued")
        created = connection.scalar(oldest)
        age = 0.0 if created is None else self.service.database.now(connection) - created
        yield GaugeMetricFamily(
            "quantlab_oldest_waiting_job_seconds",
            "Age of the oldest job that waits.",
            max(0.0, age),
        )

    def _of_parts(self) -> Iterator[Metric]:
        """What workers and store are like, and the version."""
        seen = GaugeMetricFamily(
            "quantlab_worker_heartbeat_seconds", "Since a worker's last sign of life.",
            labels=["worker"],
        )  # fmt: skip
        for worker, seconds in seconds_since_seen(self.service.database).items():
            seen.add_metric([worker], seconds)
        yield seen
        yield GaugeMetricFamily("quantlab_store_bytes", "Of all objects.", self._store_bytes())
        build = GaugeMetricFamily("quantlab_build_info", "The version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build

    def _store_bytes(self) -> int:
        now = time.monotonic()
        if self._store is None or now - self._store[0] > STORE_SECONDS:
            self._store = now, sum(each.bytes for each in self.service.objects.listing().values())
        return self._store[1]


class _Told:
    """A collector of metrics that are known already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics
