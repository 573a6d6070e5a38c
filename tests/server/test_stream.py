from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from omnirt_lab.journal import JobWriter
from omnirt_lab.records import JobCancelledData, JobFinishedData, decode_event
from tests.journal.writing import begin, denoise, run
from tests.server.serving import Serving

CANCEL = json.dumps({"action": "cancel"})


@contextmanager
def stream(server: Serving, job_id: str, **options: object) -> Iterator[ClientConnection]:
    options.setdefault("additional_headers", {"Authorization": f"Bearer {server.token}"})
    with connect(f"{server.ws_url}/v1/jobs/{job_id}/stream", **options) as opened:
        yield opened


@pytest.fixture
def running(server: Serving) -> Iterator[JobWriter]:
    """A job under way."""
    with server.journal.worker() as worker:
        writer = begin(server.journal, worker)
        yield writer
        writer.finish(JobFinishedData())


def received(socket: ClientConnection) -> dict[str, object]:
    message: dict[str, object] = json.loads(socket.recv(timeout=30))
    return message


def test_an_ended_jobs_stream_sends_what_its_sse_has_as_data_and_closes_normally(server: Serving):
    run(server.journal, server.journal.worker())
    job_id = server.journal.list_jobs(limit=1)[0].job_id
    sse = server.client.get(f"/v1/jobs/{job_id}/events").text

    with stream(server, job_id) as socket:
        got = list(socket)

    assert got == [line[6:] for line in sse.splitlines() if line.startswith("data: ")]
    assert [decode_event(message) for message in got] == server.journal.events(job_id)
    assert socket.close_code == 1000


def test_a_live_stream_sends_each_event_as_it_comes_and_closes_after_the_terminal_one(
    server: Serving, running: JobWriter
):
    with stream(server, running.job.job_id) as socket:
        assert [received(socket)["event"] for _ in range(2)] == ["job_enqueued", "job_started"]
        denoise(running, steps=2)
        assert received(socket)["event"] == "stage_start"
        running.finish(JobFinishedData())
        rest = list(socket)

    assert json.loads(rest[-1])["event"] == "job_finished"
    assert socket.close_code == 1000
    assert 3 + len(rest) == len(server.journal.events(running.job.job_id))


def test_a_cancel_is_acknowledged_and_the_jobs_worker_hears_it(server: Serving, running: JobWriter):
    with stream(server, running.job.job_id) as socket:
        socket.send(CANCEL)
        messages = [received(socket) for _ in range(3)]
        assert {"type": "cancel_acknowledged", "job_id": running.job.job_id, "state": "running"} in messages

        assert server.journal.is_cancel_requested(running.job.job_id)
        running.finish(JobCancelledData(reason="requested"))
        assert json.loads(list(socket)[-1])["event"] == "job_cancelled"


def test_a_job_that_nobody_has_taken_is_cancelled_at_once(server: Serving):
    job_id = server.client.post("/v1/generate", json={"inputs": {"prompt": "x"}, "async_run": True}).json()["job_id"]

    with stream(server, job_id) as socket:
        received(socket)
        socket.send(CANCEL)
        rest = [json.loads(message) for message in socket]

    assert {"type": "cancel_acknowledged", "job_id": job_id, "state": "cancelled"} in rest
    assert [message["event"] for message in rest if "event" in message] == ["job_cancelled"]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "cancel",
        "{",
        "[]",
        "{}",
        '{"action": "pause"}',
        '{"action": 1}',
        b"\xff\xfe",
        "9" * 5000,
        "[" * 100_000,
        '{"action": "cancel", "why": ' + "[" * 100_000,
        '{"action": "' + "x" * 100_000 + '"}',
        '{"action": "\\ud800"}',
    ],
    ids=lambda message: repr(message[:40]),
)
def test_a_message_that_is_not_understood_is_answered_and_the_stream_goes_on(
    server: Serving, running: JobWriter, message: str | bytes
):
    with stream(server, running.job.job_id) as socket:
        assert [received(socket)["event"] for _ in range(2)] == ["job_enqueued", "job_started"]
        socket.send(message)
        answer = received(socket)
        denoise(running, steps=1)
        assert received(socket)["event"] == "stage_start"

    assert answer["type"] == "error"
    assert answer["error"]["code"] == "invalid_message"
    assert len(answer["error"]["message"]) <= 500
    assert "cancel" in answer["error"]["hint"]
    assert not server.journal.is_cancel_requested(running.job.job_id)


def test_a_message_that_is_too_large_closes_the_stream_and_not_the_server(server: Serving, running: JobWriter):
    with stream(server, running.job.job_id) as socket:
        socket.send("x" * 300_000)
        with pytest.raises(ConnectionClosedError):
            list(socket)

    # Tornado hangs up on what it has not read, which may reach the client before the close frame does (1006)
    assert socket.close_code in (1009, 1006)
    assert server.client.get("/healthz").status_code == 200
    assert not server.journal.is_cancel_requested(running.job.job_id)


def test_a_job_that_is_not_there_is_said_and_the_stream_closes(server: Serving):
    with stream(server, "0" * 32) as socket:
        answer = received(socket)
        with pytest.raises(ConnectionClosedError):
            received(socket)

    assert answer["error"]["code"] == "job_not_found"
    assert answer["error"]["hint"]
    assert socket.close_code == 4404


def test_nobody_opens_a_stream_without_the_key(server: Serving, running: JobWriter):
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(InvalidStatus) as refused, stream(server, running.job.job_id, additional_headers=headers):
            pass
        assert refused.value.response.status_code in (401, 403)
