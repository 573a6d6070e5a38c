from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import httpx
import pytest
from openai import OpenAI
from openai.resources.realtime.realtime import RealtimeConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from omnirt_lab.journal import JobWriter
from omnirt_lab.records import JobFinishedData, decode_event
from tests.journal.writing import start, step
from tests.server.serving import Serving, running_server
from tests.server.working import draw, fail, pictures, png, stop, working


@contextmanager
def socket(server: Serving, *, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    options.setdefault("additional_headers", {"Authorization": f"Bearer {server.token}"})
    with connect(f"{server.ws_url}/v1/realtime{query}", **options) as opened:
        yield opened


def received(opened: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(opened.recv(timeout=30))
    return message


def said(opened: ClientConnection, message: object) -> dict[str, Any]:
    """What the server says next, once this was said."""
    opened.send(json.dumps(message))
    return received(opened)


@pytest.fixture
def session(server: Serving) -> Iterator[ClientConnection]:
    """A session whose greeting was read."""
    with socket(server) as opened:
        assert received(opened)["type"] == "session.created"
        yield opened


@pytest.fixture
def connection(server: Serving) -> Iterator[RealtimeConnection]:
    """The official client's."""
    with (
        OpenAI(base_url=f"{server.url}/v1", api_key=server.token) as client,
        client.realtime.connect(model="tiny-shapes") as opened,
    ):
        yield opened


def until_done(opened: ClientConnection) -> list[dict[str, Any]]:
    messages = [received(opened)]
    while messages[-1]["type"] not in ("response.done", "error"):
        messages.append(received(opened))
    return messages


def prompt_of(server: Serving, message: dict[str, Any]) -> str:
    assert message["type"] == "response.created", message
    return server.journal.get_job(message["response"]["job_id"]).request.inputs.prompt


def test_the_official_client_says_a_prompt_and_gets_its_picture(server: Serving, connection: RealtimeConnection):
    with working(server, draw):
        assert connection.recv().type == "session.created"
        connection.session.update(session={"type": "realtime", "config": {"steps": 3, "seed": 7}})  # type: ignore[typeddict-unknown-key]
        content = [{"type": "input_text", "text": "a red circle"}]
        connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        connection.response.create(response={"metadata": {"mine": "1"}})
        events = []
        for event in connection:
            events.append(event)
            if event.type == "response.done":
                break

    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "session.updated",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.omnirt.event",
        "response.done",
    ]
    response = events[-1].response
    assert (response.status, response.metadata) == ("completed", {"mine": "1"})
    job = server.journal.get_job(response.job_id)
    assert (job.request.inputs.prompt, job.request.config.steps, job.request.config.seed) == ("a red circle", 3, 7)
    assert (response.run_id, response.trace_id) == (job.run_id, job.trace_id)
    picture = response.output[0].content[0]
    assert server.client.get(picture.image_url).content == server.journal.artifacts.read(picture.artifact["sha256"])


def test_every_event_of_the_job_is_told_once_and_in_order(server: Serving, session: ClientConnection):
    with working(server, draw):
        session.send(json.dumps({"type": "response.create", "response": {"instructions": "a red circle"}}))
        messages = until_done(session)

    told = [message for message in messages if message["type"] == "response.omnirt.event"]
    job_id = messages[0]["response"]["job_id"]
    assert [decode_event(json.dumps(message["event"])) for message in told] == server.journal.events(job_id)
    assert {(message["response_id"], message["job_id"]) for message in told} == {
        (messages[0]["response"]["id"], job_id)
    }
    ids = [message["event_id"] for message in messages]
    assert len(set(ids)) == len(ids)


def test_previews_are_told_while_the_job_runs_and_only_new_ones(server: Serving, session: ClientConnection):
    def slowly(writer: JobWriter) -> None:
        start(writer)
        for index in range(2):
            writer.show_preview(png("red", (8, 8)), media_type="image/png", step=index)
            assert seen[index].wait(30)
            step(writer, index)
        writer.finish(JobFinishedData(artifacts=pictures(writer)))

    seen = [Event(), Event()]
    with working(server, slowly):
        session.send(json.dumps({"type": "response.create", "response": {"instructions": "a red circle"}}))
        previews = []
        while (message := received(session))["type"] != "response.done":
            if message["type"] == "response.omnirt.preview":
                previews.append(message)
                seen[message["step"]].set()

    assert [preview["step"] for preview in previews] == [0, 1]
    assert base64.b64decode(previews[0]["b64_json"]) == png("red", (8, 8))
    assert previews[0]["media_type"] == "image/png"


def test_the_prompt_is_the_instructions_and_what_the_user_said_since_the_last_response(
    server: Serving, session: ClientConnection
):
    def say(text: str) -> None:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        assert said(session, {"type": "conversation.item.create", "item": item})["type"] == "conversation.item.added"
        assert received(session)["item"]["content"] == item["content"]

    def create(**response: object) -> str:
        session.send(json.dumps({"type": "response.create", "response": response}))
        messages = until_done(session)
        return prompt_of(server, messages[0])

    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a green square"}]}
    with working(server, draw):
        say("a red")
        say("circle")
        assert create() == "a red circle"
        assert create() == "a red circle"
        say("a blue circle")
        assert create(input=[item]) == "a green square"
        assert create(instructions="large:") == "large: a blue circle"
        said(session, {"type": "session.update", "session": {"type": "realtime", "instructions": "small:"}})
        assert create() == "small: a blue circle"
        assert create(instructions="a triangle", input=[]) == "a triangle"


def test_a_session_changes_only_what_is_named_and_null_is_the_default(session: ClientConnection):
    def update(**change: object) -> dict[str, Any]:
        message = said(session, {"type": "session.update", "session": change})
        assert message["type"] == "session.updated", message
        return dict(message["session"])

    first = update(config={"steps": 3, "width": 64})
    second = update(instructions="large", config={"seed": 9})
    third = update(instructions="", config={"steps": None})

    assert (first["config"]["steps"], first["config"]["width"]) == (3, 64)
    assert (second["config"]["steps"], second["config"]["seed"], second["instructions"]) == (3, 9, "large")
    assert (third["config"]["steps"], third["config"]["seed"], third["instructions"]) == (None, 9, "")
    assert first["id"] == third["id"]


def test_a_response_may_have_settings_of_its_own(server: Serving, session: ClientConnection):
    said(session, {"type": "session.update", "session": {"config": {"steps": 3, "seed": 1}}})
    wish = {"instructions": "a red circle", "negative_prompt": "blue", "config": {"seed": 2, "num_images": 2}}
    with working(server, draw):
        session.send(json.dumps({"type": "response.create", "response": wish}))
        done = until_done(session)[-1]["response"]

    request = server.journal.get_job(done["job_id"]).request
    assert (request.config.steps, request.config.seed, request.inputs.negative_prompt) == (3, 2, "blue")
    assert [content["artifact"]["seed"] for content in done["output"][0]["content"]] == [2, 3]


def test_a_failed_response_says_why(server: Serving, session: ClientConnection):
    with working(server, fail("UnknownOptionError", "no option 'x'", "Leave it out.")):
        session.send(json.dumps({"type": "response.create", "response": {"instructions": "a red circle"}}))
        done = until_done(session)[-1]["response"]

    assert (done["status"], done["status_details"]["type"], done["output"]) == ("failed", "failed", [])
    error = done["status_details"]["error"]
    assert (error["code"], error["message"], error["hint"]) == ("unknown_option", "no option 'x'", "Leave it out.")


def test_a_response_whose_worker_dies_is_incomplete(server: Serving, session: ClientConnection):
    session.send(json.dumps({"type": "response.create", "response": {"instructions": "a red circle"}}))
    with working(server, start):  # it leaves the job as it is, and goes
        while received(session).get("event", {}).get("event") != "job_started":
            pass
    done = until_done(session)[-1]["response"]

    assert (done["status"], done["status_details"]["error"]["code"]) == ("incomplete", "job_lost")


@pytest.mark.parametrize("names_it", [True, False])
def test_a_response_is_cancelled_by_its_id_or_as_the_latest(server: Serving, session: ClientConnection, names_it: bool):
    with working(server, stop):
        created = said(session, {"type": "response.create", "response": {"instructions": "a red circle"}})["response"]
        cancel = {"type": "response.cancel"} | ({"response_id": created["id"]} if names_it else {})
        session.send(json.dumps(cancel))
        done = until_done(session)[-1]["response"]

    assert done["id"] == created["id"]
    assert done["status"] == "cancelled"
    assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled", "error": None}


def test_somebody_elses_cancel_is_not_called_the_clients(server: Serving, session: ClientConnection):
    created = said(session, {"type": "response.create", "response": {"instructions": "a red circle"}})["response"]
    server.client.delete(f"/v1/jobs/{created['job_id']}")
    done = until_done(session)[-1]["response"]

    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", None)


def test_several_responses_are_under_way_at_once_and_a_cancel_is_one_responses(
    server: Serving, session: ClientConnection
):
    created = [create_amid_events(session, f"picture {index}") for index in range(3)]
    ids = [message["response"]["id"] for message in created]
    session.send(json.dumps({"type": "response.cancel", "response_id": ids[1]}))
    done = [next_done(session)]
    with working(server, draw):
        done += [next_done(session), next_done(session)]

    first, *others = [(response["id"], response["status"]) for response in done]
    assert first == (ids[1], "cancelled")
    assert sorted(others) == sorted([(ids[0], "completed"), (ids[2], "completed")])  # nobody waits for the other


def next_done(opened: ClientConnection) -> dict[str, Any]:
    while (message := received(opened))["type"] != "response.done":
        pass
    response: dict[str, Any] = message["response"]
    return response


def create_amid_events(opened: ClientConnection, prompt: str) -> dict[str, Any]:
    message = said(opened, {"type": "response.create", "response": {"instructions": prompt}})
    while message["type"] == "response.omnirt.event":
        message = received(opened)
    return message


def test_a_session_may_have_only_so_many_responses_under_way(server: Serving, session: ClientConnection):
    created = [create_amid_events(session, f"picture {index}") for index in range(16)]
    refused = create_amid_events(session, "one more")
    session.send(json.dumps({"type": "response.cancel"}))
    cancelled = next_done(session)
    one_more = create_amid_events(session, "one more")
    ids = [made["response"]["id"] for made in created]
    for job_id in [made["response"]["job_id"] for made in (*created, one_more)]:
        server.client.delete(f"/v1/jobs/{job_id}")
    for _ in range(16):
        next_done(session)

    assert refused["error"]["code"] == "too_many_responses"
    assert cancelled["id"] == ids[-1]
    assert one_more["type"] == "response.created"


def test_a_full_queue_is_an_error_message(tmp_path):
    flags = ("--OmniRTApp.runners=0", "--OmniRTApp.max_queued=1")
    with running_server(tmp_path / "state", tmp_path, *flags) as server, socket(server) as opened:
        received(opened)
        assert create_amid_events(opened, "one")["type"] == "response.created"
        refused = create_amid_events(opened, "two")

    assert (refused["error"]["code"], refused["error"]["type"]) == ("queue_full", "rate_limit_error")


CREATE = {"type": "response.create", "response": {"instructions": "a red circle"}}

REFUSED = [
    ("", "invalid_message"),
    ("{", "invalid_message"),
    ("null", "invalid_message"),
    ("[]", "invalid_message"),
    ("{}", "invalid_message"),
    ('{"type": "response.improve"}', "invalid_message"),
    ('{"type": 1}', "invalid_message"),
    ('{"type": "' + "x" * 200_000 + '"}', "invalid_message"),
    (b'{"type": "response.create"}', "invalid_message"),
    (b"\xff\xfe", "invalid_message"),
    ("[" * 200_000, "invalid_message"),
    ('{"type": "session.update", "session": {"config": {"options": ' + "[" * 100_000, "invalid_message"),
    ('{"type": "session.update", "session": {"config": {"seed": 1e999}}}', "invalid_message"),
    ('{"type": "session.update", "session": {"config": {"seed": ' + "9" * 400 + "}}}", "invalid_request"),
    ('{"type": "session.update", "session": {"config": {"steps": 0}}}', "invalid_request"),
    ('{"type": "session.update", "session": {"config": {"steps": "many"}}}', "invalid_request"),
    ('{"type": "session.update", "session": {"config": {"stepps": 3}}}', "invalid_request"),
    ('{"type": "session.update", "session": {"config": {"width": 65}}}', "invalid_request"),
    ('{"type": "session.update", "session": {"model": "/etc"}}', "model_not_allowed"),
    ('{"type": "session.update", "session": {"tools": []}}', "invalid_message"),
    ('{"type": "session.update", "session": {"output_modalities": ["audio"]}}', "invalid_message"),
    ('{"type": "session.update"}', "invalid_message"),
    ('{"type": "conversation.item.create", "item": {"type": "function_call"}}', "invalid_message"),
    ('{"type": "input_audio_buffer.append", "audio": ""}', "invalid_message"),
    ('{"type": "response.create"}', "invalid_request"),
    ('{"type": "response.create", "response": {"instructions": "  "}}', "invalid_request"),
    ('{"type": "response.create", "response": {"instructions": "\\ud800"}}', "invalid_message"),
    ('{"type": "response.create", "response": {"instructions": "x", "config": {"seed": -1}}}', "invalid_request"),
    ('{"type": "response.create", "response": {"instructions": "' + "x" * 20_001 + '"}}', "invalid_message"),
    ('{"type": "response.cancel"}', "response_cancel_not_active"),
    ('{"type": "response.cancel", "response_id": "resp_1"}', "response_cancel_not_active"),
]


@pytest.mark.parametrize(("message", "code"), REFUSED, ids=lambda value: repr(value[:70]))
def test_what_cannot_be_done_is_an_error_message_and_the_session_goes_on(
    server: Serving, session: ClientConnection, message: str | bytes, code: str
):
    before = server.journal.list_jobs(limit=1)
    session.send(message)
    answer = received(session)
    after = server.journal.list_jobs(limit=1)
    created = said(session, CREATE)
    server.client.delete(f"/v1/jobs/{created['response']['job_id']}")

    assert answer["type"] == "error"
    assert answer["error"]["code"] == code
    assert answer["error"]["hint"]
    assert len(answer["error"]["message"]) <= 500
    assert after == before
    assert created["type"] == "response.created"


@pytest.mark.parametrize("wrong", [{"type": "response.cancel"}, {"type": "unheard of"}, {"type": "session.update"}])
def test_an_error_names_the_message_that_led_to_it(session: ClientConnection, wrong: dict[str, str]):
    assert said(session, wrong | {"event_id": "mine"})["error"]["event_id"] == "mine"
    assert said(session, wrong)["error"]["event_id"] is None


def test_what_the_user_says_is_bounded(session: ClientConnection):
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 15_000}]}
    said(session, {"type": "conversation.item.create", "item": item})
    received(session)

    refused = said(session, {"type": "conversation.item.create", "item": item})

    assert refused["error"]["code"] == "invalid_request"
    assert "20,000" in refused["error"]["message"]


def test_a_model_that_is_not_served_is_said_and_the_connection_closes(server: Serving):
    with socket(server, query="?model=gpt-realtime") as opened:
        answer = received(opened)
        with pytest.raises(ConnectionClosed):
            received(opened)

    assert answer["error"]["code"] == "model_not_allowed"
    assert opened.close_code == 4404


def test_the_key_may_come_as_a_header_in_the_address_or_as_a_subprotocol(server: Serving):
    key = f"openai-insecure-api-key.{server.token}"
    ways: list[dict[str, Any]] = [
        {},
        {"query": f"?token={server.token}", "additional_headers": {}},
        {"subprotocols": ["realtime", key, "openai-beta.realtime-v1"], "additional_headers": {}},
        {"subprotocols": ["realtime", key], "additional_headers": {}, "origin": server.url},
    ]
    for way in ways:
        with socket(server, **way) as opened:
            assert received(opened)["type"] == "session.created"
            assert opened.subprotocol == ("realtime" if "subprotocols" in way else None)


def test_nobody_opens_a_session_without_the_key(server: Serving):
    ways: list[dict[str, Any]] = [
        {"additional_headers": {}},
        {"additional_headers": {"Authorization": "Bearer wrong"}},
        {"additional_headers": {}, "query": "?token=wrong"},
        {"additional_headers": {}, "subprotocols": ["realtime", "openai-insecure-api-key.wrong"]},
    ]
    for way in ways:
        with pytest.raises(InvalidStatus) as refused, socket(server, **way):
            pass
        assert refused.value.response.status_code in (401, 403)


def test_a_foreign_page_cannot_open_a_session_with_the_cookie_of_who_looks_at_it(server: Serving):
    with httpx.Client(base_url=server.url) as browser:
        browser.get(f"/v1/jobs?token={server.token}")
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())

    with socket(server, additional_headers={"Cookie": cookie}, origin=server.url) as opened:
        assert received(opened)["type"] == "session.created"
    with (
        pytest.raises(InvalidStatus) as refused,
        socket(server, additional_headers={"Cookie": cookie}, origin="https://elsewhere.example"),
    ):
        pass
    assert refused.value.response.status_code == 403


def test_the_jobs_of_a_client_that_leaves_are_made_all_the_same(server: Serving):
    logged = len(server.log)
    with socket(server) as opened:
        received(opened)
        job_id = said(opened, CREATE)["response"]["job_id"]

    with working(server, draw):
        server.client.get(f"/v1/jobs/{job_id}/events")

    assert server.journal.get_job(job_id).state == "succeeded"
    assert "Traceback" not in server.log[logged:]


def test_a_session_continues_the_callers_trace(server: Serving):
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"Authorization": f"Bearer {server.token}", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    with socket(server, additional_headers=headers) as opened:
        received(opened)
        created = said(opened, CREATE)["response"]
    server.client.delete(f"/v1/jobs/{created['job_id']}")

    assert created["trace_id"] == trace
