"""The live view's half in the browser, as a module; and what it needs of ipykernel."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ipykernel.comm.comm import BaseComm

from omnirt_lab.widgets.live_widget import hear_while_busy

MODULE = Path(__file__).parents[2] / "omnirt_lab/widgets/live.js"


def test_its_pure_functions_do_what_they_say(tmp_path: Path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    shutil.copy(MODULE, tmp_path / MODULE.name)
    shutil.copy(Path(__file__).with_name("live.test.js"), tmp_path / "live.test.js")
    (tmp_path / "package.json").write_text('{"type": "module"}')

    done = subprocess.run(
        [node, "--test", "live.test.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout


def test_it_is_small_and_takes_nothing_from_elsewhere():
    source = MODULE.read_text(encoding="utf-8")

    assert len(source.encode()) < 20_000
    assert "import" not in source
    assert "innerHTML" not in source
    assert source.count("http") == source.count("http://www.w3.org/2000/svg") == 1


def test_ipykernel_would_send_its_messages_to_the_busy_thread_and_does_no_more():
    comm = BaseComm(target_name="jupyter.widget", comm_id="0")
    comm._reply_subshell_id = None  # what it notes when the thread that runs a cell uses the comm
    assert comm._reply_subshell_for({"method": "custom"}, "a subshell") is None

    hear_while_busy(comm)

    assert comm._reply_subshell_for({"method": "custom"}, "a subshell") == "a subshell"


def test_a_comm_that_has_no_such_route_is_left_alone():
    comm = object()

    hear_while_busy(comm)

    assert not hasattr(comm, "_reply_subshell_for")
