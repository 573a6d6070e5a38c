"""What 10,000 stored jobs cost the server: its memory, and how long any route keeps the others waiting.

A second client asks `/healthz` without a pause while each route is asked again and again: what it waits at most is
the longest that the loop was held up, its own way there and back included.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
from recorded_run import record
from report import emit_report
from serving import Served, served

RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
ASKED = 20
MAX_BLOCKED_MS = 50.0
MAX_GROWTH_MIB = 32.0


def resident_mib(server: Served) -> float:
    """The server process's resident set."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def longest_wait_ms(client: httpx.AsyncClient, work: Callable[[], Awaitable[None]]) -> float:
    """The longest that `/healthz` took while `work` went on."""
    worst, task = 0.0, asyncio.ensure_future(work())
    while not task.done():
        start = time.perf_counter()
        await client.get("/healthz")
        worst = max(worst, (time.perf_counter() - start) * 1e3)
    await task
    return worst


async def ask_all(server: Served) -> list[dict[str, object]]:
    """One row a route."""
    job = server.journal.list_jobs(limit=1)[0]
    routes = {
        "jobs": "/v1/jobs?limit=500",
        "runs": "/v1/runs?limit=500",
        "search in prompts": "/v1/runs?prompt=number+77&limit=500",
        "one job": f"/v1/jobs/{job.job_id}",
        "events of an ended job": f"/v1/jobs/{job.job_id}/events",
        "trace": f"/v1/jobs/{job.job_id}/trace",
        "chrome trace": f"/v1/jobs/{job.job_id}/trace?format=chrome",
        "report": f"/v1/runs/{job.run_id}",
        "metrics": "/metrics",
        "contract": "/openapi.json",
    }
    headers = {"Authorization": f"Bearer {server.token}"}
    rows: list[dict[str, object]] = []
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
        await client.get("/healthz")  # connects
        idle = await longest_wait_ms(client, lambda: asyncio.sleep(2))
        rows.append({"what": "nothing else", "answer_ms": 0.0, "longest_wait_ms": idle})
        for name, path in routes.items():
            took: list[float] = []

            async def work(path: str = path, took: list[float] = took) -> None:
                for _ in range(ASKED):
                    start = time.perf_counter()
                    (await client.get(path)).raise_for_status()
                    took.append((time.perf_counter() - start) * 1e3)

            worst = await longest_wait_ms(client, work)
            rows.append({"what": name, "answer_ms": sorted(took)[len(took) // 2], "longest_wait_ms": worst})
    return rows


def main() -> None:
    with served("--runners", "0") as server:
        httpx.get(f"{server.url}/healthz")
        before = resident_mib(server)
        with server.journal.worker() as worker:
            for index in range(RUNS):
                record(server.journal, worker, index)
        time.sleep(2)
        grown = resident_mib(server) - before
        gc.disable()  # a pause of the client's would read as one of the server's
        rows = asyncio.run(ask_all(server))
    worst = max(float(str(row["longest_wait_ms"])) for row in rows)
    emit_report(
        "server_load",
        rows,
        {
            f"{RUNS:,} jobs stored while it ran: the server grew by <= {MAX_GROWTH_MIB} MiB ({grown:.1f})": grown
            <= MAX_GROWTH_MIB,
            f"no route holds the loop up for > {MAX_BLOCKED_MS} ms ({worst:.1f})": worst <= MAX_BLOCKED_MS,
        },
    )


if __name__ == "__main__":
    main()
