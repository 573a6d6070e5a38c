"""From a kernel's emit to the SSE clients of the job: one client, then 200 of which one never reads.

The clients share one process of their own, with one core for all of them on a small machine; what they wait for each
other stands in the figures too. Both processes read CLOCK_MONOTONIC, which the machine has once.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time

import httpx
from recorded_run import request
from report import emit_report
from serving import Served, served

from omnirt_lab.records import JobFinishedData, StageEndData

EVENTS = 200
PAUSE_S = 0.05
CLIENTS = 200
MAX_ONE_P50_MS = 2.0
MAX_MANY_P99_MS = 100.0

TERMINAL = "job_finished"


async def read_stream(port: int, path: str, token: str) -> list[tuple[int, int]]:
    """(seq, monotonic ns when it was there) of each event, up to the terminal one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(head.encode())
    got: list[tuple[int, int]] = []
    async for line in reader:
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            got.append((event["seq"], time.monotonic_ns()))
            if event["event"] == TERMINAL:
                break
    writer.close()
    return got


async def stall(port: int, path: str, token: str) -> asyncio.StreamWriter:
    """A client that asks and never reads."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(head.encode())
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads
    return writer


async def read_all(port: int, path: str, token: str, clients: int) -> list[list[tuple[int, int]]]:
    """What each client got."""
    stalled = [await stall(port, path, token)] if clients > 1 else []
    results = await asyncio.gather(*(read_stream(port, path, token) for _ in range(clients - len(stalled))))
    for writer in stalled:
        writer.transport.abort()
    return list(results)


def measure(server: Served, clients: int) -> dict[str, object]:
    """Latencies over all events of all clients."""
    journal = server.journal
    with journal.worker() as worker:
        job = journal.enqueue(request(0))
        writer = journal.claim(job.job_id, worker)
        assert writer is not None
        path = f"/v1/jobs/{job.job_id}/events"
        command = [sys.executable, __file__, str(server.port), path, server.token, str(clients)]
        readers = subprocess.Popen(command, stdout=subprocess.PIPE)
        time.sleep(2 + clients / 100)
        sent_ns: dict[int, int] = {}
        for _ in range(EVENTS):
            sent_ns[len(writer.events) + 1] = time.monotonic_ns()
            writer.emit(StageEndData(), stage="denoise")
            time.sleep(PAUSE_S)
        writer.finish(JobFinishedData())
        output, _ = readers.communicate(timeout=120)
    received: list[list[list[int]]] = json.loads(output)
    expected = list(range(1, len(journal.events(job.job_id)) + 1))
    late_ms = [(at - sent_ns[seq]) / 1e6 for client in received for seq, at in client if seq in sent_ns]
    cuts = statistics.quantiles(late_ms, n=100)
    return {
        "what": f"{clients} clients" if clients > 1 else "one client",
        "p50_ms": cuts[49],
        "p99_ms": cuts[98],
        "complete_and_in_order": sum([seq for seq, _ in client] == expected for client in received),
        "readers": len(received),
    }


def main() -> None:
    with served("--runners", "0") as server:
        httpx.get(f"{server.url}/healthz")
        one, many = measure(server, 1), measure(server, CLIENTS)
    verdicts = {
        f"one client: <= {MAX_ONE_P50_MS} ms at the median": float(str(one["p50_ms"])) <= MAX_ONE_P50_MS,
        f"{CLIENTS} clients: <= {MAX_MANY_P99_MS} ms for 99 %": float(str(many["p99_ms"])) <= MAX_MANY_P99_MS,
        "every reader got every event once and in order": all(
            row["complete_and_in_order"] == row["readers"] for row in (one, many)
        ),
    }
    emit_report("event_fanout", [one, many], verdicts)


if __name__ == "__main__":
    if len(sys.argv) == 5:
        port, path, token, clients = sys.argv[1:]
        print(json.dumps(asyncio.run(read_all(int(port), path, token, int(clients)))))
    else:
        main()
