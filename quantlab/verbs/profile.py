"""profile: time of models by operator, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from pydantic import TypeAdapter

from quantlab._util.reporter import Reporter
from quantlab._util.scratch import temporary_folder
from quantlab.bench.child import random_batch
from quantlab.bench.setup import timed_model
from quantlab.inspect.kernels import list_kernels
from quantlab.inspect.profile import Profile, answers, profile_of, read_events, total
from quantlab.model.model import Model
from quantlab.report.plots import save_profiles
from quantlab.runtime.session import create_session, plain_errors
from quantlab.verbs import inputs
from quantlab.verbs.options.bench import ProfileOptions as ProfileOptions
from quantlab.verbs.publish import Artifact, Returned, text_file

TURNS, RUNS = 8, 5
"""Each model runs RUNS times in a turn; the first turn and the first run of each are warm-up."""
SECONDS = 20.0
"""No turn is begun after so long, once each model had one that counts."""


def profile_named_models(
    spec: ProfileOptions, reporter: Reporter, beside: Mapping[str, Any] = {}
) -> Returned[tuple[Profile, ...]]:
    """Every model's Profile: a file with a plot; in the record ``beside`` other facts."""
    models = [inputs.find_model(text, spec, reporter) for text in spec.models]
    profiles = profiled(models, spec, reporter)
    inputs.check_all_unchanged(models)
    text = TypeAdapter(tuple[Profile, ...]).dump_json(profiles, indent=1).decode()
    facts = {
        "answers": answers(profiles),
        "models": [_facts(profile) for profile in profiles],
    }
    plot = Artifact("profile plot", "profile.png", partial(save_profiles, profiles))
    files = (text_file("profile", "profile.json", text + "\n"), plot)
    return Returned(profiles, {**beside, "profile": facts}, files)


def profiled(models: list[Model], spec: ProfileOptions, reporter: Reporter) -> tuple[Profile, ...]:
    """The models run in turns in this process, each in a session that profiles itself."""
    start = time.perf_counter()
    with temporary_folder() as folder, reporter.progress("Profiling", TURNS + 1) as advance:
        subjects = [_Profiled(model, spec, folder / str(i)) for i, model in enumerate(models)]
        for turn in range(TURNS + 1):
            for subject in subjects if turn % 2 else reversed(subjects):
                subject.take_turn()
            advance(turn + 1, "")
            if turn and time.perf_counter() - start > SECONDS:
                break
        return tuple(subject.profile() for subject in subjects)


@dataclass
class _Profiled:
    """A model's profiling session with its files in ``folder``."""

    model: Model
    spec: ProfileOptions
    folder: Path
    turns: int = 0
    session: ort.InferenceSession = field(init=False)
    run: Callable[[], object] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.session = create_session(
            self.model.runnable,
            threads=self.spec.threads,
            optimized_path=self._graph,
            profile=self.folder / "profile",
        )
        subject, size = timed_model(self.model), self.spec.batch_sizes[0]
        feed = {subject.input_name: random_batch(subject, size, self.spec.seed)}
        self.run = lambda: self.session.run(None, feed)

    @property
    def _graph(self) -> Path:
        return self.folder / "executed.onnx"

    def take_turn(self) -> None:
        """Raises ModelError when the model does not run."""
        with plain_errors(f"ONNX Runtime cannot run {self.model.path}"):
            for _ in range(RUNS):
                self.run()
        self.turns += 1

    def profile(self) -> Profile:
        """Of all turns taken."""
        events = read_events(Path(self.session.end_profiling()))
        graph = onnx.load(self._graph, load_external_data=False).graph
        kernels = list_kernels(graph, quantized=self.model.is_quantized)
        return profile_of(
            events,
            model=self.model.name,
            batch_size=self.spec.batch_sizes[0],
            threads=self.spec.threads,
            counted=[i for i in range(RUNS, RUNS * self.turns) if i % RUNS],
            reasons={kernel.name: kernel.reason for kernel in kernels},
        )


def _facts(profile: Profile) -> dict[str, Any]:
    """The record's view: all but the single nodes."""
    kinds = {kind: profile.of_kind(kind) for kind in ("int8", "fp32", "quantize", "move")}
    return {
        **profile.model_dump(mode="json", exclude={"nodes"}),
        "operators_ms": profile.by_operator(),
        "kernels": {kind: {"nodes": len(x), "ms": total(x)} for kind, x in kinds.items()},
    }
