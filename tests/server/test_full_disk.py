from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest

from tests.server.serving import running_server

LIMIT_BYTES = 1_500_000


@pytest.mark.skipif(sys.platform != "linux", reason="a process's file-size limit is changed from outside, as on Linux")
def test_a_full_disk_refuses_new_jobs_keeps_old_ones_and_serves_on_once_there_is_room(tmp_path: Path):
    body = {"inputs": {"prompt": "x" * 20_000}, "async_run": True}
    with running_server(tmp_path / "state", tmp_path, "--OmniRTApp.runners=0", "--OmniRTApp.max_queued=1000") as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (LIMIT_BYTES, resource.RLIM_INFINITY))
        made = []
        for _ in range(200):
            response = server.client.post("/v1/generate", json=body)
            if response.status_code != 202:
                break
            made.append(response.json()["job_id"])

        assert response.status_code == 507
        assert response.json()["error"]["code"] == "state_dir_unusable"
        assert response.json()["error"]["hint"]
        listed = server.client.get("/v1/jobs?limit=500").json()["jobs"]
        assert [job["job_id"] for job in listed] == made[::-1]

        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert server.client.post("/v1/generate", json=body).status_code == 202
