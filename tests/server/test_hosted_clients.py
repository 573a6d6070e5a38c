"""The clients that people have, each against `omnirt serve` as it comes: with a runner, and the built-in model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from websockets.sync.client import connect

from omnirt_lab.client import Client
from omnirt_lab.records import decode_event
from tests.server.serving import Serving, hosted_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PROMPT = "a red circle on a blue background"

COLLECT = """id => new Promise((resolve, reject) => {
  const source = new EventSource(`v1/jobs/${id}/events`);
  const seqs = [];
  const take = message => {
    seqs.push(JSON.parse(message.data).seq);
    if (message.type === "job_finished") { source.close(); resolve(seqs); }
  };
  for (const word of WORDS) source.addEventListener(word, take);
  source.onerror = () => source.readyState === EventSource.CLOSED && reject(new Error("refused"));
})"""
WORDS = ["job_enqueued", "job_started", "stage_start", "stage_end", "step", "memory", "cache_hit", "cache_miss",
         "warning", "job_finished"]  # fmt: skip


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    home = tmp_path_factory.mktemp("hosted")
    with hosted_server(home / "state", home) as serving:
        yield serving


@pytest.fixture(scope="module")
def client(hosted: Serving) -> Iterator[Client]:
    with Client(hosted.url, token=hosted.token) as opened:
        yield opened


def test_the_projects_own_client_gets_a_picture_and_every_event(hosted: Serving, client: Client):
    job = client.submit(PROMPT, steps=3, seed=7)

    events = list(job.events())

    assert events == hosted.journal.events(job.job_id)
    (picture,) = job.result().outputs
    assert client.artifact(picture.sha256).startswith(b"\x89PNG")


def test_a_websocket_client_gets_every_event_of_a_live_job(hosted: Serving, client: Client):
    job = client.submit(PROMPT, steps=3, seed=8)
    address = f"{hosted.ws_url}/v1/jobs/{job.job_id}/stream"

    with connect(address, additional_headers={"Authorization": f"Bearer {hosted.token}"}) as socket:
        got = [decode_event(message) for message in socket]

    assert got == hosted.journal.events(job.job_id)


def test_a_browsers_event_source_gets_every_event_of_a_live_job(hosted: Serving, client: Client, browser: Browser):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{hosted.url}/?token={hosted.token}")
    job = client.submit(PROMPT, steps=3, seed=9)

    seqs = page.evaluate(COLLECT.replace("WORDS", json.dumps(WORDS)), job.job_id)

    context.close()
    assert seqs == [event.seq for event in hosted.journal.events(job.job_id)]


def test_the_root_shows_the_page(hosted: Serving, browser: Browser):
    context = browser.new_context()
    page = context.new_page()

    page.goto(f"{hosted.url}/?token={hosted.token}")

    page.get_by_role("heading", name="Runs").wait_for()
    context.close()
