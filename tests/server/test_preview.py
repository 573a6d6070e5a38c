from __future__ import annotations

import io

from PIL import Image

from omnirt_lab.records import JobCancelledData
from tests.journal.writing import begin
from tests.server.serving import Serving


def jpeg(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "JPEG")
    return file.getvalue()


def test_a_running_jobs_latest_preview_is_served_and_goes_with_the_job(server: Serving):
    with server.journal.worker() as worker:
        writer = begin(server.journal, worker)
        for step, colour in ((3, "red"), (4, "blue")):
            writer.show_preview(jpeg(colour), media_type="image/jpeg", step=step)
        path = f"/v1/jobs/{writer.job.job_id}/preview"

        response = server.client.get(path)
        writer.finish(JobCancelledData(reason="requested"))

    assert response.status_code == 200
    assert response.content == jpeg("blue")
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["x-omnirt-step"] == "4"
    assert response.headers["cache-control"] == "no-store"
    assert "etag" not in response.headers
    assert server.client.get(path).status_code == 404


def test_a_job_without_a_preview_is_404_and_says_what_to_do(server: Serving):
    with server.journal.worker() as worker:
        writer = begin(server.journal, worker)

        response = server.client.get(f"/v1/jobs/{writer.job.job_id}/preview")
        writer.finish(JobCancelledData(reason="requested"))

    assert response.status_code == 404
    error = response.json()["error"]
    assert error["code"] == "preview_not_found"
    assert "running" in error["message"]
    assert error["hint"]
    assert response.headers["cache-control"] == "no-store"


def test_a_preview_of_no_job_is_404(server: Serving):
    response = server.client.get(f"/v1/jobs/{'0' * 32}/preview")

    assert (response.status_code, response.json()["error"]["code"]) == (404, "job_not_found")
