"""Whatever a peer's process does, one clear error (or the model) comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from waiting import HANGS, deadline_from, gone, pids_in, until

from quantlab.errors import MissingExtraError, OutputError, QuantizeError
from quantlab.quantize.peers.child import FULL
from quantlab.quantize.peers.process import Peer, PeerOutcome, run_peer

PEER = Peer("odd", "Odd", "odd-package", "odd_module", "QUANTLAB_ODD_PYTHON")
START = "import json, os, pathlib, sys, time\nfolder = pathlib.Path(sys.argv[1])\n"
DONE = "(folder / 'answer.json').write_text(json.dumps({'seconds': 1.5, 'peak_rss_bytes': 7}))\n"


def graph(op: str) -> onnx.ModelProto:
    node = helper.make_node(op, ["x", "s"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", [], []))


def answering(text: str) -> str:
    return f"(folder / 'answer.json').write_text({text!r})\n"


def run(tmp_path: Path, script: str, timeout: float = HANGS) -> PeerOutcome:
    child = tmp_path / "child.py"
    child.write_text(START + script)
    images = [np.zeros((2, 3), np.float32), np.ones((1, 3), np.float32)]
    options = {"a": 1}
    return run_peer(
        PEER, graph("Add"), images, options, python=sys.executable, timeout=timeout, child=child
    )


def test_the_model_comes_back(tmp_path: Path) -> None:
    onnx.save(graph("QLinearAdd"), tmp_path / "made.onnx")
    made = str(tmp_path / "made.onnx")
    copy = f"(folder / 'quantized.onnx').write_bytes(pathlib.Path({made!r}).read_bytes())\n"
    check = (
        "import numpy as np\n"
        "with open('images.npy', 'rb') as f: assert [len(np.load(f)), len(np.load(f))] == [2, 1]\n"
        "assert json.load(open('task.json'))['options'] == {'a': 1}\n"
        "open('nc_workspace', 'w').write('litter')\n"
    )
    outcome = run(tmp_path, check + copy + DONE)
    assert outcome.proto.graph.node[0].op_type == "QLinearAdd"
    assert (outcome.seconds, outcome.peak_rss_bytes) == (1.5, 7)
    assert not Path("nc_workspace").exists()


SAID = "print('2026-01-01 10:00:00 [WARNING] sampling_size\\n', flush=True)\n"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("os.kill(os.getpid(), 11)", "Odd crashed (SIGSEGV)."),
        ("os.kill(os.getpid(), 9)", "Odd crashed (SIGKILL)."),
        (SAID + "os._exit(3)", "Odd ended early with exit code 3: [WARNING] sampling_size"),
        (SAID + "os._exit(0)", "Odd ended early with exit code 0: [WARNING] sampling_size"),
        (SAID + answering('{"exit": "0"}'), "Odd called exit(0): [WARNING] sampling_size"),
        (answering('{"unmet": ""}'), "Odd found no model that meets the criterion."),
        (
            answering('{"unmet": "Unexpected exception KeyError(1) happened during tuning."}'),
            "Odd failed: KeyError(1)",
        ),
        (answering('{"problem": "ValueError: a\\nb"}'), "Odd failed: ValueError: a b"),
        (
            answering('{"missing": "pkg_resources", "problem": "No module pkg_resources"}'),
            "Odd cannot be imported: No module pkg_resources",
        ),
        (
            "import shutil; shutil.copy('model.onnx', 'quantized.onnx')\n" + DONE,
            "Odd has left every node in fp32.",
        ),
    ],
)
def test_each_way_to_fail_is_a_line_with_a_remedy(
    tmp_path: Path, script: str, problem: str
) -> None:
    with pytest.raises(QuantizeError) as caught:
        run(tmp_path, script)
    assert caught.value.problem == problem
    assert caught.value.remedy
    assert "\n" not in caught.value.remedy


def test_a_hang_is_ended_with_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    monkeypatch.setattr(subprocess, "Popen", deadline_from(lambda: len(pids_in(pids)) == 2))
    script = (
        "import subprocess\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{other.pid}}')\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(QuantizeError, match="Odd did not finish in 1 s and was stopped"):
        run(tmp_path, script, timeout=1)
    until(lambda: all(map(gone, pids_in(pids))))


def test_an_orphan_ends_itself() -> None:
    """The peers' own child does not outlive a caller that was killed."""
    from quantlab.quantize.peers import child

    code = f"import sys; sys.path.insert(0, {str(Path(child.__file__).parent)!r})\n"
    code += "import child; child._end_with_parent(-1)"
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", code) == 1


def test_an_orphan_ends_what_it_has_started(tmp_path: Path) -> None:
    from quantlab.quantize.peers import child

    pid = tmp_path / "pid"
    code = "import pathlib, subprocess, sys\n"
    code += f"sys.path.insert(0, {str(Path(child.__file__).parent)!r})\n"
    code += "other = subprocess.Popen(['sleep', '600'])\n"
    code += f"pathlib.Path({str(pid)!r}).write_text(str(other.pid))\n"
    code += "import child; child._end_with_parent(-1)"
    done = subprocess.run([sys.executable, "-c", code], start_new_session=True, check=False)
    assert done.returncode == -signal.SIGKILL
    until(lambda: all(map(gone, pids_in(pid))))


def test_no_room_is_not_the_peers_fault(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no room for the temporary files of Odd"):
        run(tmp_path, f"os._exit({FULL})")


def test_numpy_does_not_say_that_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object) -> None:
        raise OSError("12288 requested and 4064 written")

    monkeypatch.setattr(np, "save", short)
    with pytest.raises(OutputError, match="the disk is full"):
        run(tmp_path, "")


def test_a_peer_that_is_not_installed_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'quantlab\[odd\]'"):
        run_peer(PEER, graph("Add"), [], {})
    with pytest.raises(MissingExtraError, match="odd-package"):
        run(tmp_path, answering('{"missing": "odd_module", "problem": ""}'))


def test_the_variable_names_another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTLAB_ODD_PYTHON", "no/such/python")
    with pytest.raises(QuantizeError, match="cannot start no/such/python") as caught:
        run_peer(PEER, graph("Add"), [], {})
    assert "QUANTLAB_ODD_PYTHON" in caught.value.remedy
