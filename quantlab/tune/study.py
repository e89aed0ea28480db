"""Store trials in an Optuna study: a file in the run folder, or a storage that machines share.

The TrialStore on disk is the truth of one run; the study holds every finished trial as well, for
Optuna's own tools and for other machines. A study that lags behind (the process was killed between
the two) is brought up to date when the run is resumed.

A recipe under way is a running trial: other machines turn to others first, and to it when nothing
else is left, so that one that was killed holds up nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import OptunaError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from quantlab.errors import OutputError, QuantlabError
from quantlab.tune.trials import Trial

TRIAL_KEY = "quantlab_trial"
RUN_KEY = "quantlab_run"
CLAIM_KEY = "quantlab_recipe"
_PAUSES = (0.2, 0.5, 1.0)
"""Seconds between tries to open a study."""
_FAILURES = (OptunaError, SQLAlchemyError)


class SharedStudy:
    """Trials in an Optuna storage: decline (KL without labels), relative latency and bytes.

    ``identity`` tells apart tunes of other models or images.

    Raises QuantlabError when the storage cannot be opened.
    """

    def __init__(self, storage: str | None, folder: Path, identity: str) -> None:
        optuna.logging.set_verbosity(logging.ERROR)
        url = storage or f"sqlite:///{folder / 'study.db'}"
        try:
            self.study = _opened(url, f"quantlab-{identity[:16]}")
        except (*_FAILURES, ImportError, ValueError) as error:
            raise QuantlabError(
                f"cannot open the study storage {url}: {_reason(error)}",
                "Give an Optuna storage URL such as sqlite:///study.db or postgresql://…",
            ) from error
        self.run = folder.name
        self._claims: dict[str, optuna.Trial] = {}

    def claim(self, digest: str) -> None:
        """Tell other machines that this recipe is being tried. Raises OutputError."""
        if digest in self._claims:
            return
        with _writing():
            claim = self.study.ask()
            claim.set_user_attr(RUN_KEY, self.run)
            claim.set_user_attr(CLAIM_KEY, digest)
            self._claims[digest] = claim

    def busy(self) -> set[str]:
        """The digests of recipes that are under way in other runs, or were when these ended."""
        return {
            t.user_attrs[CLAIM_KEY]
            for t in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
            if CLAIM_KEY in t.user_attrs and t.user_attrs.get(RUN_KEY) != self.run
        }

    def put(self, trial: Trial) -> None:
        """Add a finished trial, unless it is there. Raises OutputError."""
        self.sync([trial])

    def sync(self, trials: Sequence[Trial]) -> None:
        """Add those that are finished and not there. Raises OutputError."""
        with _writing():
            known = {trial.digest for trial in self.trials()}
            for trial in trials:
                if trial.status != "scored" and trial.digest not in known:
                    self._add(trial)

    def _add(self, trial: Trial) -> None:
        """By its claim, if there is one."""
        frozen, claim = _frozen(trial, self.run), self._claims.pop(trial.digest, None)
        if claim is None:
            self.study.add_trial(frozen)
            return
        for key, value in frozen.user_attrs.items():
            claim.set_user_attr(key, value)
        done = frozen.state is TrialState.COMPLETE
        self.study.tell(claim, frozen.values if done else None, None if done else frozen.state)

    def trials(self) -> list[Trial]:
        """All finished trials, of every machine."""
        return [trial for _, trial in self._finished()]

    def others(self) -> list[Trial]:
        """The finished trials of other runs."""
        return [trial for run, trial in self._finished() if run != self.run]

    def _finished(self) -> Iterator[tuple[str, Trial]]:
        """Each with its run."""
        for t in self.study.get_trials(deepcopy=False):
            if t.state.is_finished() and TRIAL_KEY in t.user_attrs:
                trial = Trial.model_validate_json(t.user_attrs[TRIAL_KEY])
                yield t.user_attrs.get(RUN_KEY, self.run), trial


def _opened(url: str, name: str) -> optuna.Study:
    """Open or create the study of that name. When two machines create it at once, one fails and
    then opens the other's."""
    for pause in (*_PAUSES, None):
        try:
            return optuna.create_study(
                storage=url,
                study_name=name,
                directions=["minimize", "minimize", "minimize"],
                load_if_exists=True,
            )
        except _FAILURES:
            if pause is None:
                raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise OutputError(
            f"cannot write the Optuna study: {_reason(error)}.",
            "Free some space, or mend what holds the study.",
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of what the database said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _frozen(trial: Trial, run: str) -> optuna.trial.FrozenTrial:
    attributes = {TRIAL_KEY: trial.model_dump_json(), RUN_KEY: run}
    if not trial.judged or trial.scores is None:
        state = TrialState.PRUNED
        if trial.status == "failed":
            state = TrialState.FAIL
        return optuna.trial.create_trial(state=state, user_attrs=attributes)
    decline = trial.scores.decline
    return optuna.trial.create_trial(
        values=[
            trial.divergence if decline is None else decline,
            1 / trial.speedup,
            float(trial.size_bytes or 0),
        ],
        user_attrs=attributes,
    )
