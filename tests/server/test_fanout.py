"""Many clients on one job: a place in the journal each, so that nobody waits for anybody."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from omnirt_lab.journal import JobWriter
from omnirt_lab.records import JobFinishedData, StageEndData, WarningData
from tests.journal.writing import wish
from tests.server.serving import Serving

READERS = 200
MESSAGES, MESSAGE_CHARS = 300, 7000


def claimed(server: Serving) -> JobWriter:
    job = server.journal.enqueue(wish())
    writer = server.journal.claim(job.job_id, server.journal.worker())
    assert writer is not None
    return writer


async def opened(server: Serving, job_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (f"GET /v1/jobs/{job_id}/events HTTP/1.1", f"Host: {host}:{port}", f"Authorization: Bearer {server.token}")
    writer.write("\r\n".join((*head, "", "")).encode())
    return reader, writer


async def seqs(server: Serving, job_id: str) -> list[int]:
    """`seq` of every event that a client gets, up to the terminal one."""
    reader, writer = await opened(server, job_id)
    got = []
    async for line in reader:
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            got.append(event["seq"])
            if event["event"] == "job_finished":
                break
    writer.close()
    return got


def test_every_one_of_200_clients_gets_every_event_once_and_in_order_though_one_never_reads(server: Serving):
    writer = claimed(server)

    async def watch() -> list[list[int]]:
        _, stalled = await opened(server, writer.job.job_id)
        stalled.transport.pause_reading()  # type: ignore[attr-defined]
        readers = [asyncio.create_task(seqs(server, writer.job.job_id)) for _ in range(READERS)]
        await asyncio.to_thread(work, writer)
        got = await asyncio.gather(*readers)
        stalled.transport.abort()
        return got

    got = asyncio.run(watch())

    assert got == [list(range(1, len(server.journal.events(writer.job.job_id)) + 1))] * READERS


def work(writer: JobWriter) -> None:
    """More than the server keeps in memory of a job, and more than a socket's buffers hold."""
    for index in range(MESSAGES):
        writer.emit(WarningData(code="long", message=f"{index} " + "x" * MESSAGE_CHARS))
        writer.emit(StageEndData(), stage="denoise")
    writer.finish(JobFinishedData())


def resident_bytes(server: Serving) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096


def test_clients_that_stall_or_vanish_cost_no_memory_for_what_they_did_not_read(server: Serving):
    writer = claimed(server)

    async def watch() -> int:
        stalled = [await opened(server, writer.job.job_id) for _ in range(50)]
        for _, transport in stalled:
            transport.transport.pause_reading()  # type: ignore[attr-defined]
        server.client.get("/healthz")
        before = resident_bytes(server)
        await asyncio.to_thread(work, writer)
        await seqs(server, writer.job.job_id)
        for _, transport in stalled:
            transport.transport.abort()
        return resident_bytes(server) - before

    grown = asyncio.run(watch())

    events_bytes = MESSAGES * MESSAGE_CHARS
    assert grown < 50 * events_bytes / 2, f"{grown / 1e6:.0f} MB for 50 stalled clients of {events_bytes / 1e6:.0f} MB"
    assert server.client.get("/v1/jobs").status_code == 200
