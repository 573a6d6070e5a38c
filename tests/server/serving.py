"""Real Jupyter servers with the extension, each a process of its own on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from omnirt_lab.journal import Journal

READY_S = 60


@dataclass
class Serving:
    """A server that answers."""

    url: str
    """With the base URL, without a slash at its end."""

    token: str
    process: subprocess.Popen[bytes]
    log_path: Path
    state_dir: Path
    journal: Journal
    """The journal that the server follows, open in this process too."""

    client: httpx.Client
    """Sends the token."""

    @property
    def ws_url(self) -> str:
        return self.url.replace("http://", "ws://", 1)

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_command(port: int, token: str, *flags: str, base_url: str = "/") -> list[str]:
    """A stock Jupyter server's command line; the extension is switched on as its data file does."""
    return [
        sys.executable,
        "-m",
        "jupyter_server",
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.base_url={base_url}",
        "--ServerApp.jpserver_extensions=omnirt_server=True",
        "--ServerApp.reraise_server_extension_failures=True",
        f"--IdentityProvider.token={token}",
        *flags,
    ]


def server_environment(state_dir: Path, home: Path) -> dict[str, str]:
    """Nothing of the machine's own Jupyter configuration gets in."""
    return {
        **os.environ,
        "OMNIRT_STATE_DIR": str(state_dir),
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_NO_CONFIG": "1",
    }


@contextmanager
def running_server(state_dir: Path, home: Path, *flags: str, base_url: str = "/") -> Iterator[Serving]:
    """Start a server, wait until it is ready, and stop it by its own process id."""
    port, token = free_port(), secrets.token_hex(16)
    with serving(
        server_command(port, token, *flags, base_url=base_url),
        f"http://127.0.0.1:{port}{base_url.rstrip('/')}",
        token,
        state_dir,
        home,
    ) as running:
        yield running


@contextmanager
def hosted_server(state_dir: Path, home: Path, *flags: str) -> Iterator[Serving]:
    """`omnirt serve` on a free port."""
    port, token = free_port(), secrets.token_hex(16)
    command = [str(Path(sys.executable).with_name("omnirt")), "serve", "--port", str(port), "--token", token, *flags]
    with serving(command, f"http://127.0.0.1:{port}", token, state_dir, home) as running:
        yield running


@contextmanager
def serving(
    command: list[str],
    url: str,
    token: str,
    state_dir: Path,
    home: Path,
    *,
    ready: str = "/readyz",
    patience_s: float = 20,
) -> Iterator[Serving]:
    """The server that `command` starts, once it answers at the path `ready`; killed if it does not end in time."""
    log_path = home / f"server-{secrets.token_hex(4)}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, env=server_environment(state_dir, home), cwd=home, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until_ready(process, f"{url}{ready}", log_path)
        headers = {"Authorization": f"Bearer {token}"}
        with (
            Journal.open(state_dir) as journal,
            httpx.Client(base_url=url, headers=headers, timeout=60, verify=False) as client,
        ):
            yield Serving(url, token, process, log_path, state_dir, journal, client)
    finally:
        stop(process, patience_s)


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log_path: Path) -> None:
    deadline = time.monotonic() + READY_S
    with httpx.Client(timeout=5, verify=False) as client:  # reading the certificates takes 30 ms, and there are none
        while time.monotonic() < deadline:
            assert process.poll() is None, f"the server ended:\n{log_path.read_text(errors='replace')}"
            with suppress(httpx.TransportError):
                if client.get(url).status_code == 200:
                    return
            time.sleep(0.05)
    raise AssertionError(f"no server after {READY_S} s:\n{log_path.read_text(errors='replace')}")


def stop(process: subprocess.Popen[bytes], patience_s: float = 20) -> None:
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
