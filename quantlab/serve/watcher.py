"""Watcher: submit the jobs of monitors when they are due, look at their results, send alerts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event as Flag
from threading import Thread

from quantlab.errors import QuantlabError
from quantlab.serve.alerts import (
    SIGNATURE,
    Result,
    Shift,
    body_of,
    events_of,
    mail_of,
    shifts_of,
    short_words,
    signature,
    standing,
)
from quantlab.serve.db import UnavailableError
from quantlab.serve.monitors import Monitor, Seen, next_time, why_due
from quantlab.serve.outgoing import NotSentError, Outgoing
from quantlab.serve.queue import Job, NotFoundError
from quantlab.serve.requests import AnyRequest, model_names
from quantlab.serve.runs import Runs
from quantlab.serve.service import Service, stored_request
from quantlab.serve.watching import Delivery, Watching

PAUSE = 2.0
"""Seconds between two looks."""
SENDERS = 4
"""Messages at a time: one receiver that does not answer keeps no other waiting for long."""
log = logging.getLogger("quantlab.serve")


class Watcher:
    """Looks after the monitors of a service; several may, at once. ``url`` is that of the pages,
    for links."""

    def __init__(
        self,
        service: Service,
        runs: Runs,
        url: str,
        *,
        outgoing: Outgoing | None = None,
        watching: Watching | None = None,
    ) -> None:
        self.service, self.runs, self.url = service, runs, url.rstrip("/")
        self.outgoing = outgoing or Outgoing.of(service.settings)
        self.watching = watching or Watching(service.database)
        self.stop = Flag()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Look after them in threads within the block."""
        loops = (self.look, self.deliver)
        threads = [Thread(target=self._repeat, args=(loop,), name="watcher") for loop in loops]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def _repeat(self, step: Callable[[], None]) -> None:
        while not self.stop.is_set():
            try:
                step()
            except UnavailableError as error:
                log.warning("%s", error)
            except Exception:
                log.exception("the monitors were not looked after")
            self.stop.wait(PAUSE)

    def look(self) -> None:
        """Look at each monitor once. Raises UnavailableError."""
        monitors = self.watching.monitors()
        requests = {each.name: _request(each) for each in monitors if each.job is None}
        names = {name for each in requests.values() if each for name in model_names(each)}
        seen = self.watching.seen(names) if requests else Seen()
        for monitor in monitors:
            try:
                if monitor.job is None:
                    self._begin(monitor, requests[monitor.name], seen)
                else:
                    self._end(monitor, monitor.job)
            except UnavailableError:
                raise
            except Exception:
                log.exception("the monitor %s was not looked after", monitor.name)

    def _begin(self, monitor: Monitor, request: AnyRequest | None, seen: Seen) -> None:
        """Submit its job where one is due."""
        names = model_names(request) if request is not None else []
        models = {name: seen.models[name] for name in names if name in seen.models}
        seen, now = seen.model_copy(update={"models": models}), self.watching.now()
        if why_due(monitor, now, seen) is None:
            return
        values = {
            "asked": False,
            "next": next_time(monitor.schedule, now),
            "seen": seen.model_dump(mode="json"),
        }
        try:
            asked = request or stored_request(monitor.request, f"the monitor {monitor.name}")
            job, _ = self.service.submit(asked, monitor.token, monitor.key)
        except UnavailableError:
            raise
        except QuantlabError as error:
            self._settle(monitor, Result(time=now, problem=short_words(str(error))), values)
        else:
            self.watching.advance(monitor, {**values, "job": job.id})

    def _end(self, monitor: Monitor, job_id: str) -> None:
        """Look at its job where that has ended."""
        try:
            job = self.service.queue.get(job_id)
        except NotFoundError as error:
            result = Result(time=self.watching.now(), problem=short_words(str(error)))
        else:
            if not job.ended:
                return
            result = self._result(job)
        values: dict[str, object] = {"job": None}
        if not monitor.seen.machines:  # no worker had begun yet
            machines = self.watching.seen([]).machines
            known = monitor.seen.model_copy(update={"machines": machines})
            values["seen"] = known.model_dump(mode="json")
        self._settle(monitor, result, values)

    def _result(self, job: Job) -> Result:
        problem = "" if job.state == "done" else short_words(job.error or "its job was cancelled.")
        return Result(
            time=job.finished or self.watching.now(),
            job=job.id,
            run=job.run,
            verdict=job.verdict,
            problem=problem,
            shifts={} if problem or job.run is None else self._shifts(job.run),
        )

    def _shifts(self, run: str) -> dict[str, tuple[Shift, ...]]:
        """The changes of level in what a run has measured."""
        try:
            figures = self.runs.get(run).entry.figures
            series = [each for m in {f.model for f in figures} for each in self.runs.series(m)]
        except NotFoundError as error:
            log.warning("%s", error)
            return {}
        return shifts_of(series, run)

    def _settle(self, monitor: Monitor, result: Result, values: Mapping[str, object]) -> None:
        kept = standing(monitor.last, result).model_dump(mode="json")
        events = list(events_of(monitor.last, result))
        self.watching.advance(monitor, {**values, "last": kept}, events, self._links(result))

    def _links(self, result: Result) -> dict[str, str]:
        """Addresses of what a result left, and of the monitors."""
        found = {"monitors": f"{self.url}/monitors"}
        if result.job is not None:
            found = {"job": f"{self.url}/jobs/{result.job}", **found}
        if result.run is not None:
            found = {"report": f"{self.url}/runs/{result.run}", **found}
        return found

    def deliver(self) -> None:
        """Send what is due. Raises UnavailableError."""
        taken = self.watching.take()
        if taken:
            with ThreadPoolExecutor(min(SENDERS, len(taken))) as senders:
                list(senders.map(self._attempt, taken))

    def _attempt(self, delivery: Delivery) -> None:
        """One attempt at a delivery, and a line in its log. When the server is to end, another one
        makes it."""
        if self.stop.is_set():
            return
        try:
            outcome, taken = self._send(delivery), True
        except (NotSentError, NotFoundError) as error:
            outcome, taken = error.problem, False
        self.watching.sent(delivery, outcome, taken=taken)

    def _send(self, delivery: Delivery) -> str:
        """Raises NotSentError, NotFoundError."""
        receiver = self.watching.receiver(delivery.receiver)
        now = self.watching.now()
        if receiver.form == "mail":
            message = mail_of(delivery.alert, self.outgoing.sender, receiver.address, now)
            return self.outgoing.mail(message)
        body = body_of(delivery.alert, receiver.form, now)
        headers = {SIGNATURE: signature(receiver.secret, body)}
        return self.outgoing.post(receiver.address, body, headers)


def _request(monitor: Monitor) -> AnyRequest | None:
    """What it asks for, None for a request of another version."""
    try:
        return stored_request(monitor.request, monitor.name)
    except QuantlabError:
        return None
