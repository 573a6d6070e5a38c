"""A server of the benchmark's own: `omnirt serve` on a free port, in a state directory that goes with it."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from omnirt_lab.journal import Journal

READY_S = 60.0


class Served(NamedTuple):
    """A server that answers."""

    url: str
    token: str
    pid: int
    journal: Journal

    @property
    def port(self) -> int:
        """Of the URL."""
        return int(self.url.rpartition(":")[2])


@contextmanager
def served(*flags: str) -> Iterator[Served]:
    """Start it, wait until it is ready, and stop it by its own process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token, url = secrets.token_hex(8), f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as home:
        state = Path(home) / "state"
        own = {"OMNIRT_STATE_DIR": str(state), "JUPYTER_RUNTIME_DIR": home, "JUPYTER_NO_CONFIG": "1"}
        omnirt = str(Path(sys.executable).with_name("omnirt"))
        command = [omnirt, "serve", "--port", str(port), "--token", token, *flags]
        process = subprocess.Popen(command, env=os.environ | own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_until_ready(process, url)
            with Journal.open(state) as journal:
                yield Served(url, token, process.pid, journal)
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit("the server ended; run `omnirt serve` to see why")
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise SystemExit(f"no server after {READY_S:.0f} s")
