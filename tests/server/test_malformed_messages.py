"""What no client of ours sends, in bulk: the WebSockets answer or close, and the server stays as it was."""

from __future__ import annotations

import base64
import json
import random
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.journal.writing import begin
from tests.server.serving import Serving

MESSAGES = 5_000
"""On each of the two routes."""

AT_ONCE = 50

GROWTH_BYTES = 30_000_000
"""Far less than what is sent: a server that kept its messages would hold hundreds of MB."""

WELL_FORMED: list[dict[str, Any]] = [
    {"type": "session.update", "event_id": "e", "session": {"model": "tiny-shapes", "config": {"steps": 3}}},
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
    },
    {"type": "response.create", "response": {"instructions": "x", "metadata": {"a": "b"}, "config": {"seed": 1}}},
    {"type": "response.cancel", "event_id": "e", "response_id": "resp_1"},
    {"action": "cancel"},
]

NUMBERS = (
    "9" * 400,
    "-" + "9" * 5000,
    "1e999999",
    "-0.0",
    "1" + "0" * 30,
    "NaN",
    "Infinity",
    "0x10",
    "1.7976931348623159e309",
)


def random_bytes(dice: random.Random) -> bytes:
    return dice.randbytes(dice.randrange(200))


def random_text(dice: random.Random) -> str:
    return "".join(
        chr(dice.choice((dice.randrange(32, 0xD800), dice.randrange(128)))) for _ in range(dice.randrange(99))
    )


def deep_json(dice: random.Random) -> str:
    opening = dice.choice(("[", '{"a":', '{"type":', '{"type":"session.update","session":{"config":{"options":'))
    return (opening + "[") * dice.randrange(1, 3000) + dice.choice(("", "1", "]"))


def huge_number(dice: random.Random) -> str:
    field = dice.choice(("event_id", "type", "session", "action", "response"))
    return f'{{"type": "session.update", "{field}": {dice.choice(NUMBERS)}}}'


def cut_short(dice: random.Random) -> str:
    text = json.dumps(dice.choice(WELL_FORMED))
    return text[: dice.randrange(len(text))]


def wrong_type(dice: random.Random) -> str:
    message = json.loads(json.dumps(dice.choice(WELL_FORMED)))
    place, key = dice.choice(list(places(message)))
    place[key] = dice.choice((True, -1.5, [[]], [1, 2], {"\u0000": {}}, "x" * dice.choice((10, 60_000))))
    return json.dumps(message)


def unknown_field(dice: random.Random) -> str:
    message = json.loads(json.dumps(dice.choice(WELL_FORMED[:-1])))
    message[random_text(dice) + "?"] = 1
    return json.dumps(message)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where something stands in it that has but one right type and few right values."""
    for key, inner in list(value.items()) if isinstance(value, dict) else list(enumerate(value)):
        if key not in ("text", "instructions", "event_id", "response_id", "a", "role"):
            yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


KINDS: list[Callable[[random.Random], str | bytes]] = [
    random_bytes,
    random_text,
    deep_json,
    huge_number,
    cut_short,
    wrong_type,
    unknown_field,
]


def resident_bytes(server: Serving) -> int:
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("route", ["realtime", "stream"])
def test_thousands_of_malformed_messages_are_each_answered_and_cost_no_memory(server: Serving, route: str):
    dice = random.Random(20_261_124)
    running = begin(server.journal, server.journal.worker())
    path, greetings = ("/v1/realtime", 1) if route == "realtime" else (f"/v1/jobs/{running.job.job_id}/stream", 2)
    before = server.journal.list_jobs(limit=1)
    sizes = []
    headers = {"Authorization": f"Bearer {server.token}"}
    with connect(f"{server.ws_url}{path}", additional_headers=headers, compression=None) as opened:
        for _ in range(greetings):
            opened.recv(timeout=30)
        for _ in range(MESSAGES // AT_ONCE):
            for message in (dice.choice(KINDS)(dice) for _ in range(AT_ONCE)):
                opened.send(message)
            answers = [json.loads(opened.recv(timeout=30)) for _ in range(AT_ONCE)]
            assert {answer["type"] for answer in answers} == {"error"}, answers
            sizes.append(resident_bytes(server))

    assert sizes[-1] - sizes[len(sizes) // 10] < GROWTH_BYTES
    assert server.journal.list_jobs(limit=1) == before
    assert not server.journal.is_cancel_requested(running.job.job_id)
    assert server.client.get("/healthz").status_code == 200
    assert "Traceback" not in server.log


def handshaken(server: Serving, path: str) -> socket.socket:
    """A WebSocket as bare as the kernel has it, its upgrade answered."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.settimeout(30)
    opened.connect((host, int(port)))
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}:{port}",
        f"Authorization: Bearer {server.token}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
        "Sec-WebSocket-Version: 13",
    )
    opened.sendall("\r\n".join((*lines, "", "")).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += opened.recv(1)
    assert b" 101 " in head
    return opened


def frame(text: bytes, *, first: int = 0x81) -> bytes:
    """A short frame, masked with zeros."""
    assert len(text) < 126
    return bytes((first, 0x80 | len(text))) + bytes(4) + text


BROKEN = [
    frame(b"\xff\xfe"),  # no UTF-8
    frame(b"{}", first=0xF1),  # reserved bits
    frame(b"{}", first=0x83),  # an opcode that nobody has
    frame(b"", first=0x80),  # goes on with what was not begun
    frame(b"{}", first=0x09),  # a ping in parts
    frame(b"\x03", first=0x88),  # closes with half a code
    b"\x81\xff" + b"\xff" * 8,  # 16 exabytes
    b"\x81\xff" + (2**20).to_bytes(8, "big") + bytes(4),  # more than a message may have
]


def test_frames_that_the_protocol_does_not_have_close_the_connection_and_nothing_else(server: Serving):
    dice = random.Random(7)
    for broken in [*BROKEN, *(dice.randbytes(dice.randrange(1, 300)) for _ in range(100))]:
        with handshaken(server, "/v1/realtime") as opened:
            opened.sendall(broken)
            opened.shutdown(socket.SHUT_WR)
            while rest_of(opened):
                pass

    assert server.client.get("/healthz").status_code == 200
    assert "Traceback" not in server.log


def rest_of(opened: socket.socket) -> bytes:
    try:
        return opened.recv(65_536)
    except ConnectionResetError:
        return b""


def test_a_client_that_sends_and_never_reads_is_itself_made_to_wait(server: Serving):
    before = resident_bytes(server)
    bulk = frame(b"?" * 100) * 1000
    most = 100_000_000
    with handshaken(server, "/v1/realtime") as opened:
        opened.setblocking(False)
        sent = 0
        while sent < most and select.select([], [opened], [], 2.0)[1]:
            sent += opened.send(bulk[sent % len(bulk) :])
        grown = resident_bytes(server) - before

    assert grown < GROWTH_BYTES, f"{grown / 1e6:.0f} MB for {sent / 1e6:.0f} MB that were sent"
    assert sent < most
    assert server.client.get("/healthz").status_code == 200
