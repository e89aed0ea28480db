"""Run a search: a strategy proposes recipes, each is attempted once; limits and Ctrl-C end it.

A strategy is a generator: it yields a Proposal and is sent the Trial that came of it. What is in
the store is sent at once, so a resumed search runs the same strategy again from its start and
comes to where it was without doing anything twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from quantlab.recipe import Recipe
from quantlab.tune.trial_store import TrialStore
from quantlab.tune.trials import Trial, best


@dataclass(frozen=True)
class Proposal:
    """A recipe to try. ``evaluate=False`` asks only for its cheap score on calibration images.

    ``after`` are the proposals that would follow if nothing new were learnt, and ``later`` says in
    words what would come then and cannot be named yet: what a limit would leave untried.
    """

    recipe: Recipe
    evaluate: bool = True
    note: str = ""
    after: tuple[Proposal, ...] = ()
    later: str = ""


Search = Generator[Proposal, Trial, None]
Attempt = Callable[[int, Proposal, Trial | None], Trial]
HOPELESS = 3
"""Past the budget, no more is tried once so many have failed and none has given a file."""
StopReason = Literal["finished", "budget", "max-trials", "target", "interrupted", "picked"]


@dataclass(frozen=True)
class SearchLimits:
    """When to stop: after ``budget`` seconds, after ``max_trials`` evaluations or failures, or as
    soon as a trial meets the criterion at ``target_speedup`` over fp32."""

    budget: float
    max_trials: int | None = None
    target_speedup: float | None = None


@dataclass
class SearchOutcome:
    """The result of a search: all trials, and why it ended ("picked": nothing was searched);
    ``untried`` and ``later`` are the strategy's remaining proposals (see Proposal)."""

    trials: list[Trial] = field(default_factory=list)
    stop: StopReason = "finished"
    attempted: int = 0
    untried: tuple[Proposal, ...] = ()
    later: str = ""

    @property
    def best(self) -> Trial | None:
        """The best trial, or None."""
        return best(self.trials)


def run_search(
    search: Search,
    attempt: Attempt,
    store: TrialStore,
    limits: SearchLimits,
    *,
    on_trial: Callable[[SearchOutcome], None] = lambda outcome: None,
    clock: Callable[[], float] = time.monotonic,
) -> SearchOutcome:
    """Run a strategy to its end or to a limit; Ctrl-C ends the search, not the outcome.

    ``attempt(number, proposal, known)`` makes the Trial (``known`` is what the store has of it);
    it must not raise for what is the recipe's or the engine's fault. ``on_trial`` hears of the
    outcome so far whenever a new trial is in the store. One evaluation always takes place,
    unless HOPELESS trials have failed when the budget is spent, or ``max_trials``.
    """
    outcome = SearchOutcome(trials=store.trials())
    start = clock()

    def tried(proposal: Proposal) -> Trial:
        known = store.find(proposal.recipe.digest)
        number = known.number if known else len(outcome.trials) + 1
        trial = attempt(number, proposal, known)
        store.put(trial)
        outcome.attempted += 1
        outcome.trials = store.trials()
        on_trial(outcome)
        return trial

    proposal: Proposal | None = None
    try:
        proposal = next(search, None)
        while proposal is not None:
            trial = store.find(proposal.recipe.digest)
            if trial is None or not _settles(trial, proposal):
                reached = _reached(outcome, limits, clock() - start)
                if reached is not None:
                    outcome.stop = reached
                    break
                trial = tried(proposal)
            proposal = _send(search, trial if proposal.evaluate else trial.as_scored)
        if (last := _only_scored(outcome)) is not None:
            tried(Proposal(last.recipe, note=last.note))
    except KeyboardInterrupt:
        outcome.stop = "interrupted"
    if proposal is not None:
        outcome.untried = tuple(_unsettled([proposal, *proposal.after], outcome.trials))
        outcome.later = proposal.later
    return outcome


def _settles(trial: Trial, proposal: Proposal) -> bool:
    """Whether a stored trial answers the proposal."""
    return trial.status != "scored" or not proposal.evaluate


def _unsettled(proposals: Sequence[Proposal], trials: Sequence[Trial]) -> Iterator[Proposal]:
    """The proposals that no stored trial answers."""
    known = {trial.digest: trial for trial in trials}
    for proposal in proposals:
        trial = known.get(proposal.recipe.digest)
        if trial is None or not _settles(trial, proposal):
            yield proposal


def _only_scored(outcome: SearchOutcome) -> Trial | None:
    """The best trial when the search ended before it was evaluated."""
    leader = outcome.best
    return leader if leader is not None and leader.status == "scored" else None


def _send(search: Search, trial: Trial) -> Proposal | None:
    try:
        return search.send(trial)
    except StopIteration:
        return None


def _reached(outcome: SearchOutcome, limits: SearchLimits, seconds: float) -> StopReason | None:
    settled = [t for t in outcome.trials if t.status != "scored"]
    leader = outcome.best
    meets = leader is not None and leader.scores is not None and leader.scores.meets
    if meets and leader is not None and leader.speedup >= (limits.target_speedup or math.inf):
        return "target"
    if limits.max_trials is not None and len(settled) >= limits.max_trials:
        return "max-trials"
    enough = leader is not None or len(outcome.trials) >= HOPELESS
    return "budget" if enough and seconds >= limits.budget else None
