"""profile: time of models by operator, side by side."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from pydantic import TypeAdapter

from quantlab._util.reporter import Reporter
from quantlab._util.scratch import temporary_folder
from quantlab.bench.child import random_batch
from quantlab.bench.setup import timed_model
from quantlab.inspect.kernels import list_kernels
from quantlab.inspect.openvino_profile import (
    RuntimeNode,
    Turn,
    counters,
    openvino_profile,
    runtime_nodes,
)
from quantlab.inspect.profile import Profile, answers, profile_of, read_events, total
from quantlab.model.kinds import ONNX_RUNTIME, OPENVINO, RuntimeName
from quantlab.model.model import Model
from quantlab.report.plots import save_profiles
from quantlab.runtime.openvino import OpenVinoSession
from quantlab.runtime.openvino import plain_errors as openvino_errors
from quantlab.runtime.session import create_session, plain_errors
from quantlab.verbs import inputs
from quantlab.verbs.options.bench import ProfileOptions as ProfileOptions
from quantlab.verbs.publish import Artifact, Returned, text_file

TURNS, RUNS, WARM = 8, 5, 3
"""Each model runs RUNS times in a turn; the first turn and the first run of each are warm-up. In
OpenVINO, which compiles it for each turn, so are WARM runs before them."""
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
        subjects = [_IN[m.runtime](m, spec, folder / str(i)) for i, m in enumerate(models)]
        for turn in range(TURNS + 1):
            for subject in subjects if turn % 2 else reversed(subjects):
                subject.take_turn()
            advance(turn + 1, "")
            if turn and time.perf_counter() - start > SECONDS:
                break
        return tuple(subject.profile() for subject in subjects)


class _Profiled(ABC):
    """A model in a session that profiles itself, with its files in ``folder``."""

    def __init__(self, model: Model, spec: ProfileOptions, folder: Path) -> None:
        folder.mkdir()
        self.model, self.spec, self.folder = model, spec, folder
        self.size = spec.batch_sizes[0]
        self.batch = random_batch(timed_model(model), self.size, spec.seed)

    @abstractmethod
    def take_turn(self) -> None:
        """Some runs. Raises ModelError when the model does not run."""

    @abstractmethod
    def profile(self) -> Profile:
        """Of all turns taken."""


class _InOnnxRuntime(_Profiled):
    def __init__(self, model: Model, spec: ProfileOptions, folder: Path) -> None:
        super().__init__(model, spec, folder)
        self._graph = folder / "executed.onnx"
        self._session = create_session(
            model.runnable,
            threads=spec.threads,
            optimized_path=self._graph,
            profile=folder / "profile",
        )
        self._feed, self._turns = {model.input.name: self.batch}, 0

    def take_turn(self) -> None:
        with plain_errors(f"ONNX Runtime cannot run {self.model.path}"):
            for _ in range(RUNS):
                self._session.run(None, self._feed)
        self._turns += 1

    def profile(self) -> Profile:
        events = read_events(Path(self._session.end_profiling()))
        graph = onnx.load(self._graph, load_external_data=False).graph
        kernels = list_kernels(graph, quantized=self.model.is_quantized)
        return profile_of(
            events,
            model=self.model.name,
            batch_size=self.size,
            threads=self.spec.threads,
            counted=[i for i in range(RUNS, RUNS * self._turns) if i % RUNS],
            reasons={kernel.name: kernel.reason for kernel in kernels},
        )


class _InOpenVino(_Profiled):
    def __init__(self, model: Model, spec: ProfileOptions, folder: Path) -> None:
        super().__init__(model, spec, folder)
        self._session = OpenVinoSession(
            model.runnable, threads=spec.threads, settings={"PERF_COUNT": True}
        )
        self._taken: list[Turn] = []
        self._nodes: Mapping[str, RuntimeNode] = {}

    def take_turn(self) -> None:
        compiled = self._session.compile(self.batch.shape)
        request = compiled.create_infer_request()
        before = [self._run_ms(request) for _ in range(WARM)]
        warm = counters(request)
        after = [self._run_ms(request) for _ in range(RUNS)]
        self._taken.append(Turn((*before, *after), WARM, warm, counters(request)))
        self._nodes = runtime_nodes(compiled)

    def _run_ms(self, request: Any) -> float:
        start = time.perf_counter()
        with openvino_errors(f"OpenVINO cannot run {self.model.path}"):
            request.infer([self.batch], share_inputs=True, share_outputs=True)
        return (time.perf_counter() - start) * 1000

    def profile(self) -> Profile:
        return openvino_profile(
            self._nodes,
            self._taken[1:],
            model=self.model.name,
            quantized=self.model.is_quantized,
            batch_size=self.size,
            threads=self.spec.threads,
        )


_IN: Mapping[RuntimeName, type[_Profiled]] = {
    ONNX_RUNTIME: _InOnnxRuntime,
    OPENVINO: _InOpenVino,
}


def _facts(profile: Profile) -> dict[str, Any]:
    """The record's view: all but the single nodes."""
    kinds = {kind: profile.of_kind(kind) for kind in ("int8", "fp32", "quantize", "move")}
    return {
        **profile.model_dump(mode="json", exclude={"nodes"}),
        "operators_ms": profile.by_operator(),
        "kernels": {kind: {"nodes": len(x), "ms": total(x)} for kind, x in kinds.items()},
    }
