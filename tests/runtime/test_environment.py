from __future__ import annotations

import os

import pytest
from threadpoolctl import threadpool_info

from quantlab.runtime import environment as env

CPUINFO = """processor\t: 0
model name\t: Some  CPU @ 2.0GHz
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx2 avx512bw {extra}

processor\t: 1
model name\t: Some  CPU @ 2.0GHz
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx2

processor\t: 2
physical id\t: 0
core id\t\t: 1

"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\n\nHardware\t: Some SoC\n"


def test_every_fact_is_there() -> None:
    facts = env.environment()
    machine = {"cpu", "isa", "physical_cores", "logical_cores", "memory", "os", "machine"}
    software = {"python", "quantlab", "numpy", "onnx", "onnxruntime", "openvino", "pillow"}
    assert set(facts) == machine | software
    assert all(facts.values())
    assert int(facts["physical_cores"]) <= int(facts["logical_cores"])


def test_a_caller_cannot_change_the_facts() -> None:
    env.environment()["cpu"] = "mine"
    assert env.environment()["cpu"] != "mine"


@pytest.mark.parametrize(
    ("extra", "isa"),
    [
        ("avx512_vnni amx_int8", "amx-int8"),
        ("avx512_vnni", "avx512-vnni"),
        ("avx_vnni", "avx-vnni"),
        ("", "avx512"),
    ],
)
def test_int8_instructions_from_the_flags(extra: str, isa: str) -> None:
    cpus = env.parse_cpuinfo(CPUINFO.format(extra=extra))
    assert env.isa(cpus) == isa


def test_arm() -> None:
    cpus = env.parse_cpuinfo(ARM)
    assert env.isa(cpus) == "neon-dotprod"
    assert env.cpu_model(cpus) == "Some SoC"


def test_a_system_that_says_nothing() -> None:
    assert env.isa([]) in ("unknown", "neon-dotprod")
    assert env.cpu_model([])


def test_cpu_model_and_cores() -> None:
    cpus = env.parse_cpuinfo(CPUINFO)
    assert env.cpu_model(cpus) == "Some CPU @ 2.0GHz"
    assert env.one_cpu_per_core([0, 1, 2], cpus) == (0, 2)
    assert env.one_cpu_per_core([1], cpus) == (1,)
    assert env.one_cpu_per_core([5, 6], []) == (5, 6)


def test_picked_cpus_are_available_and_distinct() -> None:
    everything = env.pick_cpus(10_000)
    assert sorted(everything) == list(env.available_cpus())
    assert env.pick_cpus(1) == everything[:1]


def test_threads_stay_within_what_is_available() -> None:
    assert 1 <= env.default_threads() <= len(env.available_cpus())


def test_a_package_that_is_missing() -> None:
    assert env.versions(["no-such-package-here"]) == {"no-such-package-here": "not installed"}


def test_peak_memory_is_of_this_process() -> None:
    peak = env.peak_rss_bytes()
    assert 2**20 < peak < 2**40
    block = bytearray(os.urandom(1)) * (peak + 2**24)
    assert env.peak_rss_bytes() > len(block)


def test_one_thread_is_for_the_block_and_no_fact_of_the_machine() -> None:
    before = env.default_threads()
    with env.one_thread():
        assert env.default_threads() == 1
        assert env.environment()["physical_cores"] == str(before)
        pools = [pool["num_threads"] for pool in threadpool_info()]
        assert set(pools) <= {1}
    assert env.default_threads() == before
