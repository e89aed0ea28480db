"""Shared by all benchmark modes: checks of settings, the list of sessions, conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from quantlab.bench.defaults import SECONDS as SECONDS
from quantlab.bench.machine import CpuMonitor
from quantlab.bench.measurement import Conditions
from quantlab.bench.task import BenchTask, TimedModel
from quantlab.errors import ModelError, QuantlabError
from quantlab.model.kinds import ONNX_RUNTIME
from quantlab.model.model import Model
from quantlab.runtime.environment import available_cpus, environment, pick_cpus, versions

TIMEOUT = 3600.0


def check_settings(models: Sequence[Model], batch_sizes: Sequence[int], rounds: int | None) -> None:
    """Raises QuantlabError for settings and models that cannot be measured."""
    if not models or not batch_sizes:
        raise QuantlabError("a benchmark needs at least one model and one batch size.")
    if min(batch_sizes) < 1 or (rounds is not None and rounds < 2):
        raise QuantlabError("rounds must be at least 2, and batch sizes at least 1.")
    for model in models:
        fixed = model.check_classifier().input.batch
        wrong = sorted({b for b in batch_sizes if fixed is not None and b != fixed})
        if wrong:
            sizes = ", ".join(map(str, wrong))
            raise ModelError(
                f"{model.path}: its batch size is fixed at {fixed}, it cannot run at {sizes}.",
                f"Leave the batch size at {fixed}, or export the model with a free batch.",
            )


def check_cpus(instances: int, cores: int) -> None:
    """Raises QuantlabError when that many instances of that many cores cannot be pinned."""
    available, wanted = len(available_cpus()), instances * cores
    if instances < 1 or cores < 1 or wanted > available:
        each = (
            f"{cores} threads" if instances == 1 else f"{instances} instances of {cores} cores each"
        )
        raise QuantlabError(
            f"cannot pin {each}: this process may use {available} CPUs.",
            f"Ask for at most {available} in all.",
        )


def timed_model(model: Model, *, is_control: bool = False) -> TimedModel:
    """The model as a benchmark process needs it: file, input name, type and shape."""
    spec = model.input
    what = (str(model.runnable), spec.name, spec.dtype, spec.shape)
    return TimedModel(*what, is_control, model.runtime)


def with_control(models: Sequence[Model]) -> tuple[Model, ...]:
    """The model of each session: A′, the first one once more, comes second."""
    return (models[0], models[0], *models[1:])


def with_machine_state(conditions: Conditions, rounds: int, monitor: CpuMonitor) -> Conditions:
    """Add to the conditions the number of rounds, stolen CPU time and clock rates."""
    return replace(conditions, rounds=rounds, steal=tuple(monitor.steal), mhz=tuple(monitor.mhz))


def task_of(
    models: Sequence[Model],
    instances: int,
    cores: int,
    *,
    seed: int,
    providers: Sequence[str],
) -> BenchTask:
    """The models and A′ with as many threads as ``cores``, and the processors of all instances.

    Raises QuantlabError when the machine has fewer.
    """
    check_cpus(instances, cores)
    owners = enumerate(with_control(models))
    timed = tuple(timed_model(model, is_control=session == 1) for session, model in owners)
    cpus = pick_cpus(instances * cores)
    return BenchTask(timed, cores, cpus, seed, tuple(providers))


def split_cpus(task: BenchTask) -> list[tuple[int, ...]]:
    """The logical processors of each instance."""
    cores = task.threads
    return [task.cpus[i : i + cores] for i in range(0, len(task.cpus), cores)]


def conditions_of(task: BenchTask, batch_size: int) -> Conditions:
    """The conditions known before the benchmark runs."""
    facts = environment()
    runtimes = sorted({model.runtime for model in task.models} - {ONNX_RUNTIME})
    return Conditions(
        threads=task.threads,
        batch_size=batch_size,
        rounds=0,
        runs=0,
        seed=task.seed,
        cpu=facts["cpu"],
        isa=facts["isa"],
        versions={
            **{k: facts[k] for k in (ONNX_RUNTIME, "numpy", "python")},
            **versions(runtimes),
        },
        providers=task.providers,
        isolation="fresh",
    )
