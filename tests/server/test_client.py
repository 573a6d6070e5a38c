"""The project's client against a real server."""

from __future__ import annotations

import asyncio
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from omnirt_lab.client import AsyncClient, AuthenticationError, Client, ServerError, ServerUnreachableError
from omnirt_lab.client.following import Following
from omnirt_lab.errors import (
    ArtifactNotFoundError,
    InvalidRequestError,
    JobNotFoundError,
    PreviewNotFoundError,
    QueueFullError,
    RunNotFoundError,
    UnknownModelError,
)
from omnirt_lab.journal import JobWriter
from omnirt_lab.records import AnyEvent, JobFinishedData
from tests.journal.writing import denoise, run, start, step, wish
from tests.server.serving import Serving, free_port, running_server, server_command, serving

PROMPT = "a red circle\u2028on blue \N{SNOWMAN}"
"""U+2028 ends a line for `str.splitlines`, and stands as it is in JSON."""


@pytest.fixture
def client(server: Serving) -> Iterator[Client]:
    with Client(server.url, token=server.token) as client:
        yield client


def claimed(server: Serving, job_id: str) -> JobWriter:
    writer = server.journal.claim(job_id, server.journal.worker())
    assert writer is not None
    start(writer)
    return writer


def work_off(server: Serving, job_id: str, steps: int = 3) -> None:
    writer = claimed(server, job_id)
    denoise(writer, steps)
    picture = server.journal.artifacts.put_bytes(b"\x89PNG\r\n\x1a\nsome picture", "image/png")
    writer.finish(JobFinishedData(artifacts=(picture,)))


class Cutter:
    """A TCP proxy that cuts each connection after so many bytes of the server's answer; the last one it lets be."""

    def __init__(self, port: int, *, after_bytes: list[int]) -> None:
        self._port = port
        self._after_bytes = after_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cuts = 0

    def serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            limit = self._after_bytes.pop(0) if self._after_bytes else None
            with near, socket.create_connection(("127.0.0.1", self._port)) as far, suppress(ConnectionError):
                self._pass_on(far, near, limit)  # until either side has gone

    def _pass_on(self, far: socket.socket, near: socket.socket, limit: int | None) -> None:
        passed = 0
        while True:
            readable, _, _ = select.select([far, near], [], [])
            if near in readable:
                if not (asked := near.recv(65536)):
                    return
                far.sendall(asked)
            if far in readable:
                if not (chunk := far.recv(4096)):
                    return
                if limit is not None and passed + len(chunk) >= limit:
                    near.sendall(chunk[: limit - passed])
                    self.cuts += 1
                    return
                passed += len(chunk)
                near.sendall(chunk)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def cutting(server: Serving, after_bytes: list[int]) -> Iterator[Cutter]:
    cutter = Cutter(int(server.url.rpartition(":")[2]), after_bytes=after_bytes)
    thread = threading.Thread(target=cutter.serve)
    thread.start()
    try:
        yield cutter
    finally:
        cutter.close()
        thread.join(10)


def test_a_submitted_job_is_followed_to_its_result_and_its_picture(server: Serving, client: Client):
    job = client.submit(PROMPT, steps=3, seed=7)
    worker = threading.Thread(target=work_off, args=(server, job.job_id))
    worker.start()
    events = list(job.events())
    worker.join(10)
    result = job.result()

    assert events == server.journal.events(job.job_id)
    assert result.report.state == "succeeded"
    assert result.report.request.inputs.prompt == PROMPT
    assert client.artifact(result.outputs[0].sha256) == b"\x89PNG\r\n\x1a\nsome picture"
    assert client.report(job.view.run_id) == result.report


def test_generate_waits_for_the_result(server: Serving, client: Client):
    def serve_next() -> None:
        work_off(server, next(iter(cursor)).job_id)

    cursor = server.journal.cursor(after_id=server.journal.last_event_id())
    worker = threading.Thread(target=serve_next)
    worker.start()
    result = client.generate("a red circle", steps=3)
    worker.join(10)

    assert len(result.outputs) == 1
    assert result.report.request.config.steps == 3


@pytest.mark.parametrize("cuts", [[700], [400, 401, 1200], [300, 300, 2500]])
def test_a_stream_that_breaks_off_goes_on_and_each_event_comes_once(server: Serving, client: Client, cuts: list[int]):
    job_id = client.submit(PROMPT).job_id
    work_off(server, job_id, steps=30)

    with cutting(server, list(cuts)) as cutter, Client(cutter.url, token=server.token) as far_client:
        events = list(far_client.events(job_id))

    assert cutter.cuts == len(cuts)
    assert events == server.journal.events(job_id)


def test_a_live_stream_that_breaks_off_goes_on(server: Serving):
    async def follow(url: str) -> list[AnyEvent]:
        got: list[AnyEvent] = []
        async with AsyncClient(url, token=server.token) as client:
            async for event in client.events(writer.job.job_id):
                got.append(event)
                if len(got) == 40:
                    await asyncio.to_thread(writer.finish, JobFinishedData())
                elif event.event == "step" and len(got) < 40:
                    await asyncio.to_thread(step, writer, len(got))
        return got

    job = server.journal.enqueue(wish(PROMPT), is_async=True)
    writer = claimed(server, job.job_id)
    step(writer, 0)
    with cutting(server, [2000, 3000]) as cutter:
        events = asyncio.run(follow(cutter.url))

    assert cutter.cuts == 2
    assert events == server.journal.events(job.job_id)


def test_a_stream_outlives_a_restart_of_the_server(tmp_path: Path):
    port, token = free_port(), "secret"
    command = server_command(port, token, "--OmniRTApp.runners=0")
    place = f"http://127.0.0.1:{port}", token, tmp_path / "state", tmp_path
    with Client(place[0], token=token) as client:
        with serving(command, *place):
            job = client.submit("a red circle")
            events = client.events(job.job_id)
            got = [next(events)]
        with serving(command, *place) as server:
            work_off(server, job.job_id)
            got += events
            assert got == server.journal.events(job.job_id)


def test_a_stream_of_a_server_that_is_gone_ends_with_an_error_and_not_never(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("omnirt_lab.client.following.MAX_PAUSE_S", 0.001)

    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(ServerUnreachableError) as raised:
        next(client.events("0" * 32))

    assert "nothing is lost" in raised.value.hint


def test_the_pauses_between_connections_grow_to_a_bound_and_an_event_resets_them():
    following = Following("0" * 32)
    pauses = [following.pause_s(None) for _ in range(10)]
    with pytest.raises(ServerUnreachableError):
        following.pause_s(None)
    following.connect()
    list(following.take(b": keep-alive\n\n"))

    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]
    assert following.pause_s(None) == 0.1


def test_the_async_client_does_the_same(server: Serving):
    async def use() -> None:
        async with AsyncClient(server.url, token=server.token) as client:
            job = await client.submit("a red circle", steps=3)
            await asyncio.to_thread(work_off, server, job.job_id)
            events = [event async for event in job.events()]
            result = await job.result()
            assert events == server.journal.events(job.job_id)
            assert await client.artifact(result.outputs[0].sha256) == b"\x89PNG\r\n\x1a\nsome picture"
            assert await client.report(job.view.run_id) == result.report
            assert (await client.jobs(limit=1)).jobs[0].job_id == job.job_id
            assert (await client.runs(limit=1))[0].job_id == job.job_id
            assert (await client.health()).status == "ok"
            with pytest.raises(JobNotFoundError):
                await client.job("0" * 32)

    asyncio.run(use())


def test_a_queued_job_can_be_cancelled(client: Client):
    job = client.submit("a red circle")

    job.cancel()

    assert job.view.state == "cancelled"
    assert client.jobs(state="cancelled", limit=1).jobs[0].job_id == job.job_id
    assert job.result().report.state == "cancelled"


def test_history_and_jobs_are_read_as_records(server: Serving, client: Client):
    report = run(server.journal, server.journal.worker(), wish("a very blue square"))

    assert [row.run_id for row in client.runs(prompt="very BLUE")] == [report.run_id]
    assert client.runs(model="no such model") == ()
    first = client.jobs(limit=1)
    assert client.jobs(limit=1, before=first.next_before).jobs != first.jobs


def test_the_callers_trace_and_key_are_sent(client: Client, server: Serving):
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    first, second = (
        client.submit("x", traceparent=f"00-{trace}-{span}-01", idempotency_key="the-one") for _ in range(2)
    )

    assert first.view == second.view
    assert server.journal.get_job(first.job_id).parent_span_id == span
    assert first.view.trace_id == trace


def test_each_failure_is_the_labs_own_error(client: Client):
    unknown = "0" * 32
    with pytest.raises(JobNotFoundError):
        client.job(unknown)
    with pytest.raises(JobNotFoundError):
        client.job("../../healthz")
    with pytest.raises(JobNotFoundError):
        next(client.events(unknown))
    with pytest.raises(PreviewNotFoundError):
        client.preview(client.submit("x").job_id)
    with pytest.raises(RunNotFoundError):
        client.report("0" * 16)
    with pytest.raises(ArtifactNotFoundError):
        client.artifact("0" * 64)
    with pytest.raises(UnknownModelError, match="does not serve"):
        client.submit("x", model="/etc")
    with pytest.raises(InvalidRequestError, match="prompt is empty") as raised:
        client.submit(" ")
    assert raised.value.hint == "Say what the picture shall show."


def test_a_request_that_cannot_be_is_refused_before_it_is_sent():
    with Client("http://127.0.0.1:1") as client:
        with pytest.raises(InvalidRequestError, match="multiple of 8"):
            client.submit("x", width=12)
        with pytest.raises(InvalidRequestError, match="'colour' is no field"):
            client.submit("x", colour="red")


def test_a_wrong_or_missing_token_is_an_error_that_says_how_to_pass_one(server: Serving):
    for token in (None, "wrong"):
        with Client(server.url, token=token) as client:
            for ask in (client.jobs, lambda: client.submit("x"), lambda: next(client.events("0" * 32))):
                with pytest.raises(AuthenticationError) as raised:
                    ask()
                assert "token" in raised.value.hint


def test_another_server_than_a_labs_is_an_error_that_says_so(server: Serving):
    with Client(f"{server.url}/api", token=server.token) as client, pytest.raises(ServerError) as raised:
        client.jobs()

    assert raised.value.status == 404


def test_nobody_listening_is_an_error_that_says_what_to_do():
    with Client(f"http://127.0.0.1:{free_port()}") as client, pytest.raises(ServerUnreachableError) as raised:
        client.health()

    assert "omnirt serve" in raised.value.hint


def test_the_client_works_behind_a_base_url_and_a_full_queue_is_an_error_of_its_own(tmp_path: Path):
    flags = ("--OmniRTApp.runners=0", "--OmniRTApp.max_queued=1")
    with (
        running_server(tmp_path / "state", tmp_path, *flags, base_url="/user/ada/") as server,
        Client(server.url, token=server.token) as client,
    ):
        job = client.submit("x")

        assert client.job(job.job_id) == job.view
        with pytest.raises(QueueFullError):
            client.submit("x")


def test_the_client_loads_neither_torch_nor_the_journal():
    code = (
        "import sys, omnirt_lab.client;"
        "print(*sys.modules.keys() & {'torch', 'numpy', 'sqlite3', 'omnirt_lab.journal', 'omnirt_lab.folds'})"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.split() == []
