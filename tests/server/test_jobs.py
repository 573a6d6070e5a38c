from __future__ import annotations

import io
import json
import threading

import httpx
import msgspec
import pytest
from PIL import Image

from omnirt_lab.records import TERMINAL_EVENTS, JobCancelledData, decode_event
from omnirt_lab.records.api import JobPage, JobView
from tests.journal.writing import begin, run
from tests.server.serving import Serving


def queue(server: Serving, **changes: object) -> JobView:
    body = {"inputs": {"prompt": "a red circle"}, "async_run": True, **changes}
    response = server.client.post("/v1/generate", json=body)
    assert response.status_code == 202, response.text
    return msgspec.json.decode(response.content, type=JobView)


def test_an_async_request_is_a_queued_job(server: Serving):
    job = queue(server, config={"steps": 3, "seed": 7})

    shown = msgspec.json.decode(server.client.get(f"/v1/jobs/{job.job_id}").content, type=JobView)

    assert shown == job
    assert (job.state, job.model, job.prompt) == ("queued", "tiny-shapes", "a red circle")


def test_a_queued_job_is_cancelled_at_once(server: Serving):
    job = queue(server)

    response = server.client.delete(f"/v1/jobs/{job.job_id}")

    assert response.status_code == 200
    assert response.json()["state"] == "cancelled"


def test_a_request_with_the_same_idempotency_key_is_the_same_job(server: Serving):
    body = {"inputs": {"prompt": "a red circle"}, "async_run": True}
    first, second = (
        server.client.post("/v1/generate", json=body, headers={"Idempotency-Key": "once"}).json() for _ in range(2)
    )

    assert first["job_id"] == second["job_id"]


def test_a_picture_that_is_not_stored_is_404_and_nothing_is_queued(server: Serving):
    inputs = {"prompt": "a red circle", "image": "0" * 64}
    before = server.client.get("/v1/jobs").json()

    response = server.client.post("/v1/generate", json={"task": "image2image", "inputs": inputs, "async_run": True})

    assert (response.status_code, response.json()["error"]["code"]) == (404, "artifact_not_found")
    assert server.client.get("/v1/jobs").json() == before


def test_the_callers_trace_is_continued(server: Serving):
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    response = server.client.post(
        "/v1/generate",
        json={"inputs": {"prompt": "x"}, "async_run": True},
        headers={"traceparent": f"00-{trace}-{span}-01"},
    )

    job = server.journal.get_job(response.json()["job_id"])

    assert (job.trace_id, job.parent_span_id) == (trace, span)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"inputs": {"prompt": ""}}, 400, "invalid_request"),
        ({"inputs": {"prompt": "x"}, "config": {"steps": 0}}, 400, "invalid_request"),
        ({"inputs": {"prompt": "x"}, "colour": "red"}, 400, "invalid_request"),
        ({"inputs": {"prompt": "x"}, "model": "/etc"}, 404, "model_not_allowed"),
        ({"inputs": {"prompt": "x"}, "adapters": [{"source": "/etc/passwd"}]}, 400, "invalid_request"),
        ({"inputs": {"prompt": "x"}, "config": {"compile": True}}, 400, "invalid_request"),
        ({"inputs": {"prompt": "x"}, "config": {"compile": "eager"}}, 400, "invalid_request"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_shape_and_nothing_is_queued(
    server: Serving, body: object, status: int, code: str
):
    before = server.journal.list_jobs(limit=1)

    response = server.client.post("/v1/generate", json=body)

    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == code
    assert error["hint"]
    assert server.journal.list_jobs(limit=1) == before


def test_an_unknown_job_is_404_and_says_what_to_do(server: Serving):
    for path in ("", "/events"):
        response = server.client.get(f"/v1/jobs/{'0' * 32}{path}")

        assert response.status_code == 404
        assert response.json()["error"]["code"] == "job_not_found"


def test_jobs_are_listed_page_by_page(server: Serving):
    made = [queue(server).job_id for _ in range(3)]

    first = msgspec.json.decode(server.client.get("/v1/jobs?limit=2&state=queued").content, type=JobPage)
    second = server.client.get(f"/v1/jobs?limit=2&state=queued&before={first.next_before}").json()

    assert [job.job_id for job in first.jobs] == made[:0:-1]
    assert second["jobs"][0]["job_id"] == made[0]


def sse_events(lines: list[str]) -> list[tuple[int, str]]:
    ids = [int(line[4:]) for line in lines if line.startswith("id: ")]
    return list(zip(ids, [line[6:] for line in lines if line.startswith("data: ")], strict=True))


def test_an_ended_jobs_stream_replays_all_events_and_closes(server: Serving):
    report = run(server.journal, server.journal.worker())
    job_id = next(job.job_id for job in server.journal.list_jobs(limit=1))

    response = server.client.get(f"/v1/jobs/{job_id}/events")

    assert response.headers["content-type"] == "text/event-stream"
    events = [decode_event(data) for _, data in sse_events(response.text.splitlines())]
    assert events == server.journal.events(job_id)
    assert isinstance(events[-1], TERMINAL_EVENTS)
    assert report.state == "succeeded"


def test_a_stream_resumes_behind_the_last_event_that_the_client_got(server: Serving):
    run(server.journal, server.journal.worker())
    job_id = server.journal.list_jobs(limit=1)[0].job_id
    whole = sse_events(server.client.get(f"/v1/jobs/{job_id}/events").text.splitlines())

    rest = server.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": str(whole[2][0])})
    nothing = server.client.get(f"/v1/jobs/{job_id}/events?last_event_id={whole[-1][0]}")

    assert sse_events(rest.text.splitlines()) == whole[3:]
    assert nothing.text == ""


def test_a_live_stream_shows_each_event_once_and_ends_with_the_job(server: Serving):
    job = queue(server)
    got: list[str] = []

    def read() -> None:
        url = f"{server.url}/v1/jobs/{job.job_id}/events"
        with httpx.stream("GET", url, headers=dict(server.client.headers), timeout=30) as response:
            got.extend(response.iter_lines())

    reader = threading.Thread(target=read)
    reader.start()
    run_claimed(server, job.job_id)
    reader.join(30)

    events = [json.loads(data) for _, data in sse_events(got)]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event"] == "job_finished"
    assert len(events) == len(server.journal.events(job.job_id))


def run_claimed(server: Serving, job_id: str) -> None:
    from omnirt_lab.records import JobFinishedData, StageEndData, StageStartData

    writer = server.journal.claim(job_id, server.journal.worker())
    assert writer is not None
    for _ in range(20):
        writer.emit(StageStartData(), stage="denoise")
        writer.emit(StageEndData(), stage="denoise")
    writer.finish(JobFinishedData())


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
