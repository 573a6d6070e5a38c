"""Requests per second on the job routes, against jupyter_server's own `/api/status` in the same server and minute.

A few connections ask without a pause, the routes taking turns, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from recorded_run import record
from report import emit_report
from serving import Served, served

RUNS = 1_000
CONNECTIONS = 4
ROUNDS = 7
ASKED = 200
MIN_RATIO = 0.2
REFERENCE = "/api/status"


async def ask(server: Served, path: str, times: int) -> None:
    """Requests on one connection, one after the other; httpx would cost more than the server."""
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.token}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for _ in range(times):
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"{path} answered {answer[:80]!r}")
        length = next(line for line in answer.lower().splitlines() if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
    writer.close()


async def requests_per_s(server: Served, path: str) -> float:
    """`ASKED` requests over all connections."""
    start = time.perf_counter()
    await asyncio.gather(*(ask(server, path, ASKED // CONNECTIONS) for _ in range(CONNECTIONS)))
    return ASKED / (time.perf_counter() - start)


async def measure(server: Served) -> list[dict[str, object]]:
    """One row a route; the first is the one that the others are compared with."""
    job = server.journal.list_jobs(limit=1)[0]
    routes = {
        "jupyter_server's own": REFERENCE,
        "liveness": "/healthz",
        "one job with its result": f"/v1/jobs/{job.job_id}",
        "50 jobs": "/v1/jobs",
        "50 runs": "/v1/runs",
    }
    rates: dict[str, list[float]] = {name: [] for name in routes}
    for _ in range(ROUNDS):
        for name, path in routes.items():
            rates[name].append(await requests_per_s(server, path))
    reference = rates["jupyter_server's own"]
    return [
        {
            "what": name,
            "route": path.replace(job.job_id, "{id}"),
            "requests_per_s": statistics.median(rates[name]),
            "ratio": statistics.median(own / other for own, other in zip(rates[name], reference, strict=True)),
        }
        for name, path in routes.items()
    ]


def main() -> None:
    with served("--runners", "0") as server:
        with server.journal.worker() as worker:
            for index in range(RUNS):
                record(server.journal, worker, index)
        rows = asyncio.run(measure(server))
    ratios = {str(row["route"]): float(str(row["ratio"])) for row in rows}
    verdicts = {
        f"{route} answers >= {MIN_RATIO} times as often as {REFERENCE} ({ratio:.2f})": ratio >= MIN_RATIO
        for route, ratio in ratios.items()
        if route.startswith("/v1/")
    }
    emit_report("route_throughput", rows, verdicts)


if __name__ == "__main__":
    main()
