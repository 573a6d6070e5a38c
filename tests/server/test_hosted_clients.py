"""The clients that people have, each against `omnirt serve` as it comes: with a runner, and the built-in model."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING

import msgspec
import pytest
from openai import NotFoundError, OpenAI
from PIL import Image
from websockets.sync.client import connect

from omnirt_lab.client import Client
from omnirt_lab.errors import UnsupportedTaskError
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
    if (ENDS.includes(message.type)) { source.close(); resolve(seqs); }
  };
  for (const word of [...WORDS, ...ENDS]) source.addEventListener(word, take);
  source.onerror = () => source.readyState === EventSource.CLOSED && reject(new Error("refused"));
})"""
WORDS = ["job_enqueued", "job_started", "stage_start", "stage_end", "step", "memory", "cache_hit", "cache_miss",
         "warning"]  # fmt: skip
ENDS = ["job_finished", "job_failed", "job_cancelled", "job_lost"]


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    home = tmp_path_factory.mktemp("hosted")
    with hosted_server(home / "state", home) as serving:
        yield serving


@pytest.fixture(scope="module")
def client(hosted: Serving) -> Iterator[Client]:
    with Client(hosted.url, token=hosted.token) as opened:
        yield opened


@pytest.fixture(scope="module")
def openai(hosted: Serving) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{hosted.url}/v1", api_key=hosted.token, timeout=120, max_retries=0) as client:
        yield client


def test_the_projects_own_client_gets_a_picture_and_every_event(hosted: Serving, client: Client):
    job = client.submit(PROMPT, steps=3, seed=7)

    events = list(job.events())

    assert events == hosted.journal.events(job.job_id)
    (picture,) = job.result().outputs
    assert client.artifact(picture.sha256).startswith(b"\x89PNG")


def test_a_picture_is_made_by_the_servers_own_runner(hosted: Serving, client: Client):
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

    result = client.generate("a red circle", steps=2, seed=7, traceparent=f"00-{trace}-{span}-01")

    picture = client.artifact(result.outputs[0].sha256)
    job = client.jobs(limit=1).jobs[0]
    with pytest.raises(UnsupportedTaskError):
        client.generate("a red circle", task="text2audio")
    assert [model.id for model in client.models()] == ["tiny-shapes"]
    own, otlp = client.trace(job.job_id), client.trace(job.job_id, format="otlp")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(result.report.steps) == 2
    assert (result.report.trace_id, result.report.state) == (trace, "succeeded")
    for spans in (own, otlp):
        assert trace in msgspec.json.encode(spans).decode()


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

    collect = COLLECT.replace("WORDS", json.dumps(WORDS)).replace("ENDS", json.dumps(ENDS))
    seqs = page.evaluate(collect, job.job_id)

    context.close()
    assert hosted.journal.get_job(job.job_id).state == "succeeded"
    assert seqs == [event.seq for event in hosted.journal.events(job.job_id)]


def test_the_root_shows_the_page(hosted: Serving, browser: Browser):
    context = browser.new_context()
    page = context.new_page()

    page.goto(f"{hosted.url}/?token={hosted.token}")

    page.get_by_role("heading", name="Runs").wait_for()
    context.close()


def opened(text: str | None) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(text or "")))


def is_red(pixel: tuple[int, int, int]) -> bool:
    red, green, blue = pixel
    return red > 2 * max(green, blue)


def is_green(pixel: tuple[int, int, int]) -> bool:
    red, green, blue = pixel
    return green > red and green > blue


def is_blue(pixel: tuple[int, int, int]) -> bool:
    red, green, blue = pixel
    return blue > red and blue > green


def test_the_models_are_listed_and_one_is_found_by_its_name(openai: OpenAI):
    assert [model.id for model in openai.models.list()] == ["tiny-shapes"]
    assert openai.models.retrieve("tiny-shapes").owned_by == "omnirt-lab"


def test_pictures_show_what_the_prompt_says_and_their_addresses_work(hosted: Serving, openai: OpenAI):
    answer = openai.images.generate(prompt=PROMPT, extra_body={"seed": 7, "steps": 20})

    (picture,) = answer.data or ()
    image = Image.open(BytesIO(hosted.client.get(picture.url or "").content))
    assert image.size == (64, 64)
    assert any(is_red(image.getpixel((x, y))) for x in range(64) for y in range(64))
    assert is_blue(image.getpixel((1, 1)))


def test_several_pictures_differ_and_the_same_seed_makes_the_same_ones(openai: OpenAI):
    def drawn(n: int, seed: int) -> list[bytes]:
        extra = {"seed": seed, "steps": 4}
        answer = openai.images.generate(prompt=PROMPT, n=n, response_format="b64_json", extra_body=extra)
        return [opened(picture.b64_json).tobytes() for picture in answer.data or ()]

    two = drawn(2, 7)

    assert len(set(two)) == 2
    assert drawn(2, 7) == two


def test_an_edit_keeps_what_the_mask_does_not_give_away(openai: OpenAI):
    picture = Image.new("RGB", (64, 64), "green")
    mask = Image.new("RGBA", (64, 64), "black")
    mask.paste((0, 0, 0, 0), (0, 0, 32, 64))

    def png(image: Image.Image) -> bytes:
        file = BytesIO()
        image.save(file, format="PNG")
        return file.getvalue()

    answer = openai.images.edit(
        image=png(picture),
        mask=png(mask),
        prompt=PROMPT,
        response_format="b64_json",
        extra_body={"seed": 1, "steps": 8, "strength": 1.0},
    )

    (edited,) = [opened(picture.b64_json) for picture in answer.data or ()]
    assert is_green(edited.getpixel((60, 32)))
    assert not is_green(edited.getpixel((4, 32)))


def test_an_error_of_the_pipeline_is_an_error_of_the_client(openai: OpenAI):
    with pytest.raises(NotFoundError) as refused:
        openai.images.generate(prompt=PROMPT, model="gpt-image-1")

    assert refused.value.code == "model_not_allowed"


def test_a_realtime_session_makes_one_picture_after_the_other(hosted: Serving, openai: OpenAI):
    with openai.realtime.connect(model="tiny-shapes") as connection:
        connection.session.update(session={"type": "realtime", "config": {"steps": 3}})  # type: ignore[typeddict-unknown-key]
        done, steps = [], 0
        for seed in (1, 2):
            wish = {"instructions": PROMPT, "config": {"seed": seed}}
            connection.response.create(response=wish)  # type: ignore[arg-type]
            for event in connection:
                assert event.type != "error", event
                if event.type == "response.omnirt.event":
                    steps += event.event["event"] == "step"
                if event.type == "response.done":
                    done.append(event.response)
                    break

    assert [response.status for response in done] == ["completed", "completed"]
    assert steps == 6
    urls = [response.output[0].content[0].image_url for response in done]
    first, second = (hosted.client.get(url).content for url in urls)
    assert first.startswith(b"\x89PNG")
    assert first != second


def test_a_realtime_response_shows_previews_and_its_cancel_leaves_the_session_as_it_was(openai: OpenAI):
    with openai.realtime.connect() as connection:
        connection.response.create(response={"instructions": PROMPT, "config": {"steps": 900}})  # type: ignore[typeddict-unknown-key]
        told = []
        for event in connection:
            if event.type == "response.omnirt.preview" and not told:
                told.append(opened(event.b64_json).size)
                connection.response.cancel()
            if event.type == "response.done":
                told.append(event.response.status)
                break
        connection.response.create(response={"instructions": PROMPT, "config": {"steps": 2}})  # type: ignore[typeddict-unknown-key]
        again = next(event for event in connection if event.type == "response.done")

    assert told == [(64, 64), "cancelled"]
    assert again.response.status == "completed"
