"""`omnirt serve`, started as a person starts it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.server.serving import free_port, server_environment, stop, wait_until_ready

OMNIRT = str(Path(sys.executable).with_name("omnirt"))


@contextmanager
def served(home: Path, *flags: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The greeting of a server that answers, and its process, which a Ctrl-C ends."""
    port = free_port()
    log = home / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [OMNIRT, "serve", "--port", str(port), "--runners", "0", *flags],
            env=server_environment(home / "state", home),
            cwd=home,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}/readyz", log)
        yield log.read_text(), process
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        stop(process)


def found(pattern: str, greeting: str) -> str:
    match = re.search(pattern, greeting)
    assert match is not None, greeting
    return match[1]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server that was told nothing but its port."""
    with served(tmp_path_factory.mktemp("plain")) as running:
        yield running


def test_the_greeting_names_address_and_token_and_its_curl_lines_work(plain: tuple[str, subprocess.Popen[bytes]]):
    greeting, _ = plain
    command, asked = found(r"metrics (curl .*)", greeting), found(r"try     (curl .*)", greeting)
    metrics = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    queued = asked.replace('"inputs"', '"async_run": true, "inputs"')
    answer = subprocess.run(queued, shell=True, capture_output=True, text=True, check=True)

    assert "# TYPE" in metrics.stdout
    assert '"state":"queued"' in answer.stdout


def test_only_the_labs_own_routes_are_there_and_the_root_leads_to_the_page(plain: tuple[str, subprocess.Popen[bytes]]):
    greeting, _ = plain
    token = found(r"token   (\w+)", greeting)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=found(r"(http://\S+/)", greeting), headers=headers) as client:
        kept_out = {path: client.get(path).status_code for path in ("api/kernels", "api/contents", "api/terminals")}
        jobs = client.get("v1/jobs")
        root = client.get("")

    assert kept_out == dict.fromkeys(kept_out, 404)
    assert root.headers["location"].startswith("/omnirt")
    assert jobs.json().keys() == {"jobs", "next_before"}


def test_the_server_maps_no_torch(plain: tuple[str, subprocess.Popen[bytes]]):
    _, process = plain
    maps = Path(f"/proc/{process.pid}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")

    assert "libtorch" not in maps.read_text()


def test_metrics_need_the_token_where_others_reach_the_port_and_ctrl_c_stops_the_server(tmp_path: Path):
    with served(tmp_path, "--host", "0.0.0.0", "--token", "secret") as (greeting, process):
        url = found(r"(http://\S+/)", greeting)
        without = httpx.get(f"{url}metrics").status_code
        with_token = httpx.get(f"{url}metrics", headers={"Authorization": "Bearer secret"}).status_code

    assert (without, with_token) == (403, 200)
    assert "127.0.0.1" in url
    assert process.returncode == 0


def test_a_configuration_file_wins_over_defaults_and_a_flag_over_both(tmp_path: Path):
    config = tmp_path / "config"
    config.mkdir()
    (config / "jupyter_omnirt_config.py").write_text("c.OmniRTApp.max_queued = 0\nc.ServerApp.base_url = '/lab/'\n")
    environment = server_environment(tmp_path / "state", tmp_path)
    del environment["JUPYTER_NO_CONFIG"]
    code = (
        "import argparse, sys; from omnirt_server import serve; from omnirt_server.hosted import make_server\n"
        "parser = argparse.ArgumentParser(); serve.add_arguments(parser)\n"
        "server = make_server(serve.arguments_to_argv(parser.parse_args(sys.argv[1:])), defaults={'port': 8000})\n"
        "app = server.extension_manager.extension_apps['omnirt_server'].pop()\n"
        "print(server.port, server.base_url, app.max_queued, app.batch_window_ms, app.allowed_models)"
    )
    port = free_port()

    result = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "--port",
            str(port),
            "--max-queued",
            "7",
            "--batch-window-ms",
            "25",
            "--model",
            "mine",
        ],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.split(maxsplit=4) == [str(port), "/lab/", "7", "25.0", "['tiny-shapes', 'mine']\n"]


def test_a_busy_port_is_an_error_at_once(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        result = subprocess.run(
            [OMNIRT, "serve", "--port", str(port)],
            env=server_environment(tmp_path / "state", tmp_path),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert result.returncode == 1
    assert f"port {port} is not available" in result.stderr


def test_an_unusable_state_directory_is_an_error_that_says_what_to_do(tmp_path: Path):
    (tmp_path / "state").write_text("a file where the directory should be")

    result = subprocess.run(
        [OMNIRT, "serve", "--port", str(free_port())],
        env=server_environment(tmp_path / "state", tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert result.returncode == 1
    assert "OMNIRT_STATE_DIR" in result.stderr
    assert "Traceback" not in result.stderr
