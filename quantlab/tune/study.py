"""The tune as an Optuna study: a file in the run folder, or any storage that machines share.

The ledger on disk is the truth of one run; the study holds every finished trial as well, for
Optuna's own tools and for other machines. A study that lags behind (the process was killed between
the two) is brought up to date when the run is resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from quantlab.errors import OutputError, QuantlabError
from quantlab.tune.trials import Trial

TRIAL_KEY = "quantlab_trial"
RUN_KEY = "quantlab_run"
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
            self.study = optuna.create_study(
                storage=url,
                study_name=f"quantlab-{identity[:16]}",
                directions=["minimize", "minimize", "minimize"],
                load_if_exists=True,
            )
        except (*_FAILURES, ImportError, ValueError) as error:
            raise QuantlabError(
                f"cannot open the study storage {url}: {_reason(error)}",
                "Give an Optuna storage URL such as sqlite:///study.db or postgresql://…",
            ) from error
        self.run = folder.name

    def put(self, trial: Trial) -> None:
        """Add a finished trial, unless it is there. Raises OutputError."""
        self.sync([trial])

    def sync(self, trials: Sequence[Trial]) -> None:
        """Add those that are finished and not there. Raises OutputError."""
        try:
            known = {trial.digest for trial in self.trials()}
            for trial in trials:
                if trial.status != "scored" and trial.digest not in known:
                    self.study.add_trial(_frozen(trial, self.run))
        except _FAILURES as error:
            raise OutputError(
                f"cannot write the Optuna study: {_reason(error)}.",
                "Free some space, or mend what holds the study.",
            ) from error

    def trials(self) -> list[Trial]:
        """All finished trials, of every machine."""
        return [
            Trial.model_validate_json(t.user_attrs[TRIAL_KEY])
            for t in self.study.get_trials(deepcopy=False)
            if TRIAL_KEY in t.user_attrs
        ]

    def others(self) -> list[Trial]:
        """The finished trials of other runs."""
        return [
            Trial.model_validate_json(t.user_attrs[TRIAL_KEY])
            for t in self.study.get_trials(deepcopy=False)
            if t.user_attrs.get(RUN_KEY, self.run) != self.run
        ]


def _reason(error: BaseException) -> str:
    """The first line of what the database said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _frozen(trial: Trial, run: str) -> optuna.trial.FrozenTrial:
    attributes = {TRIAL_KEY: trial.model_dump_json(), RUN_KEY: run}
    if trial.status != "done" or trial.scores is None:
        state = optuna.trial.TrialState.PRUNED
        if trial.status == "failed":
            state = optuna.trial.TrialState.FAIL
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
