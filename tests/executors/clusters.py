"""Ray clusters of several nodes on this machine, in a process of their own: the test's process is no part of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

END_S = 60

_SCRIPT = """
import sys

from ray.cluster_utils import Cluster

small = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_log_monitor": False, "no_monitor": True}
cluster = Cluster(
    initialize_head=True, head_node_args={**small, "include_dashboard": False, "temp_dir": sys.argv[1]}
)
second = cluster.add_node(**small)
print(cluster.address, second.node_id, flush=True)
for _ in sys.stdin:
    cluster.remove_node(second, allow_graceful=False)
    print("removed", flush=True)
    break
sys.stdin.read()
cluster.shutdown()
"""


@dataclass
class TwoNodes:
    """A cluster of two nodes, each with room for one actor; it goes on with one when the second is removed."""

    address: str
    second: str
    """How the second one's name ends in a report: the beginning of its id."""

    process: subprocess.Popen[str]

    def remove_second(self) -> None:
        """End its processes with no word to the others."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("remove\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "removed\n"

    def processes(self) -> list[psutil.Process]:
        """All of it."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """A cluster; none of its processes is left afterwards."""
    directory = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the path of a socket ends at 107 bytes
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, directory],
        env={**os.environ, "RAY_worker_niceness": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    started: list[psutil.Process] = []
    try:
        said = process.stdout.readline().split()
        assert len(said) == 2, "the cluster does not start"
        cluster = TwoNodes(address=said[0], second=said[1][:8], process=process)
        yield cluster
        started = cluster.processes()
    finally:
        process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        shutil.rmtree(directory, ignore_errors=True)
    assert psutil.wait_procs(started, timeout=END_S)[1] == []


def directories_of(pid: int) -> list[Path]:
    """Those that a process has made for clusters of its own."""
    return list(Path("/tmp").glob(f"omnirt-ray-{pid}-*"))
