"""Every route, as somebody asks who may not."""

from __future__ import annotations

import http.client
import re
import secrets
import socket
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from tornado.websocket import WebSocketHandler
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from omnirt_lab.records import MAX_PROMPT_CHARS, Artifact
from omnirt_server.handlers import ROUTES
from omnirt_server.handlers.base import methods_of
from tests.journal.writing import run, wish
from tests.server.serving import Serving, running_server

PROMPT = "a secret prompt that only its owner may read"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
OPEN = {"/healthz", "/readyz"}
GENERATE = {"inputs": {"prompt": "x"}, "async_run": True}
FOREIGN = "https://evil.example"


def filled(pattern: str, ids: Mapping[str, str]) -> str:
    """A path that the route takes, with the id of what stands before it."""
    path = re.sub(r"/(\w+)/\((?:\[\^/\]|\.)\+\)", lambda part: f"/{part[1]}/{ids[part[1]]}", pattern)
    return path.replace(r"\.", ".").replace(".*", "nothing")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    home = tmp_path_factory.mktemp("security")
    with running_server(home / "state", home, "--OmniRTApp.runners=0") as serving:
        yield serving


@pytest.fixture(scope="module")
def picture(server: Serving) -> Artifact:
    return server.journal.artifacts.put_bytes(b"\x89PNG\r\n\x1a\na private picture", "image/png")


@pytest.fixture(scope="module")
def paths(server: Serving, picture: Artifact) -> list[str]:
    """Each route's path with ids that are there, and one path that is none."""
    report = run(server.journal, server.journal.worker(), wish(PROMPT), artifacts=(picture,))
    job_id = server.journal.list_jobs(limit=1)[0].job_id
    ids = {"jobs": job_id, "runs": report.run_id, "artifacts": picture.sha256, "models": "tiny-shapes"}

    return [filled(pattern, ids) for pattern, _ in ROUTES]


HTTP = [index for index, (_, kind) in enumerate(ROUTES) if not issubclass(kind, WebSocketHandler)]
SOCKETS = [index for index, (_, kind) in enumerate(ROUTES) if issubclass(kind, WebSocketHandler)]

each_http_route = pytest.mark.parametrize("index", HTTP, ids=lambda index: ROUTES[index][0])
each_socket = pytest.mark.parametrize("index", SOCKETS, ids=lambda index: ROUTES[index][0])


def ask(server: Serving, method: str, path: str, **options: object) -> httpx.Response:
    """A request of a client that has no token, no cookie and no origin of its own."""
    body = {"json": GENERATE} if method == "POST" else {}
    return httpx.request(method, f"{server.url}{path}", **(body | options), timeout=30, verify=False)  # type: ignore[arg-type]


def require_nothing_given_away(server: Serving, response: httpx.Response) -> None:
    for secret in (PROMPT, server.token, "a private picture", str(server.state_dir), "Traceback", 'openapi":'):
        assert secret not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'self'" in response.headers["content-security-policy"]


def session_cookies(server: Serving) -> dict[str, str]:
    """What a browser has after somebody opened the page with the token."""
    response = httpx.get(f"{server.url}/api/status?token={server.token}", verify=False)
    assert response.status_code == 200
    return dict(response.cookies)


@each_http_route
@pytest.mark.parametrize("token", [None, "wrong"])
def test_no_route_answers_without_the_right_token(server: Serving, paths: list[str], index: int, token: str | None):
    path, kind = paths[index], ROUTES[index][1]
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    before = server.journal.list_jobs(limit=1)

    for method, query in product(METHODS, ({}, {} if token is None else {"token": token})):
        response = ask(server, method, path, headers=headers, params=query)

        if path in OPEN and method == "GET":
            assert response.status_code == 200
        elif method in methods_of(kind):
            assert response.status_code in (401, 403)
        else:
            assert response.status_code in (401, 403, 405)
        require_nothing_given_away(server, response)
        if method != "HEAD" and path not in OPEN:
            assert response.json().keys() == {"error"}
    assert server.journal.list_jobs(limit=1) == before


@each_http_route
@pytest.mark.parametrize("way", ["header", "query"])
def test_each_route_answers_with_the_right_token(server: Serving, paths: list[str], index: int, way: str):
    path, kind = paths[index], ROUTES[index][1]
    given = (
        {"headers": {"Authorization": f"Bearer {server.token}"}}
        if way == "header"
        else {"params": {"token": server.token}}
    )

    for method in set(methods_of(kind)) & set(METHODS):
        response = ask(server, method, path, **given)

        is_absent = path.endswith(("/nothing", "/preview"))
        expected = (400,) if "/images/" in path else (404,) if is_absent else (200, 202)
        assert response.status_code in expected, response.text
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in response.headers["content-security-policy"]
        assert server.token not in response.text


@each_http_route
def test_a_page_of_another_site_gets_nothing_with_its_visitors_cookie(server: Serving, paths: list[str], index: int):
    path, kind = paths[index], ROUTES[index][1]
    cookies = session_cookies(server)
    before = server.journal.list_jobs(limit=1)

    for method in set(methods_of(kind)) & set(METHODS):
        response = ask(server, method, path, cookies=cookies, headers={"Origin": FOREIGN})

        assert response.status_code in (403, 404)
        require_nothing_given_away(server, response)
        assert "access-control-allow-origin" not in response.headers
    assert server.journal.list_jobs(limit=1) == before


@each_http_route
def test_a_cookie_alone_changes_nothing(server: Serving, paths: list[str], index: int):
    path, kind = paths[index], ROUTES[index][1]
    before = server.journal.list_jobs(limit=1)

    for method in set(methods_of(kind)) & {"POST", "PUT", "PATCH", "DELETE"}:
        assert ask(server, method, path, cookies=session_cookies(server)).status_code == 403
    assert server.journal.list_jobs(limit=1) == before


@each_http_route
def test_no_route_answers_under_a_foreign_name(server: Serving, paths: list[str], index: int):
    path, kind = paths[index], ROUTES[index][1]

    for method in set(methods_of(kind)) & set(METHODS):
        headers = {"Host": "evil.example", "Authorization": f"Bearer {server.token}"}
        response = ask(server, method, path, headers=headers)

        assert response.status_code == 403
        require_nothing_given_away(server, response)


@each_socket
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Sec-WebSocket-Protocol": "realtime, openai-insecure-api-key.wrong"},
        {"Authorization": "Bearer TOKEN", "Host": "evil.example"},
        {"Cookie": "COOKIE", "Origin": FOREIGN},
    ],
)
def test_no_websocket_opens_for_a_stranger(server: Serving, paths: list[str], index: int, headers: dict[str, str]):
    cookie = "; ".join(f"{name}={value}" for name, value in session_cookies(server).items())
    own = {name: value.replace("TOKEN", server.token).replace("COOKIE", cookie) for name, value in headers.items()}
    host = own.pop("Host", None)
    url = f"{server.ws_url}{paths[index]}"
    if host is not None:
        url = url.replace("127.0.0.1", host)
    with (
        socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection,
        pytest.raises(InvalidStatus) as raised,
        connect(url, sock=connection, additional_headers=own),
    ):
        pass

    assert raised.value.response.status_code in (401, 403)
    assert PROMPT.encode() not in (raised.value.response.body or b"")


@each_socket
@pytest.mark.parametrize("way", ["header", "query", "subprotocol"])
def test_each_websocket_opens_with_the_right_token(server: Serving, paths: list[str], index: int, way: str):
    url = f"{server.ws_url}{paths[index]}"
    if way == "query":
        opened = connect(f"{url}?token={server.token}")
    elif way == "header":
        opened = connect(url, additional_headers={"Authorization": f"Bearer {server.token}"})
    else:
        opened = connect(url, additional_headers={"Sec-WebSocket-Protocol": f"openai-insecure-api-key.{server.token}"})

    with opened:
        assert "event" in str(opened.recv(timeout=20))


def test_who_is_not_authorized_gets_403_on_every_route(tmp_path: Path):
    (tmp_path / "denying.py").write_text(
        "from jupyter_server.auth import Authorizer\n"
        "class Denying(Authorizer):\n"
        "    def is_authorized(self, handler, user, action, resource):\n"
        "        return resource != 'omnirt'\n"
    )
    flags = ("--OmniRTApp.runners=0", "--ServerApp.authorizer_class=denying.Denying")
    with running_server(tmp_path / "state", tmp_path, *flags) as server:
        headers = {"Authorization": f"Bearer {server.token}"}
        for pattern, kind in ROUTES:
            path = filled(pattern, defaultdict(lambda: "unknown"))
            if issubclass(kind, WebSocketHandler):
                with pytest.raises(InvalidStatus) as raised, connect(server.ws_url + path, additional_headers=headers):
                    pass
                assert raised.value.response.status_code == 403, path
                continue
            for method in set(methods_of(kind)) & set(METHODS):
                is_open = path in OPEN or path == "/metrics"  # Prometheus is no user
                assert (ask(server, method, path, headers=headers).status_code == 403) is not is_open, path


def test_an_unknown_route_is_404_in_the_apis_shape(server: Serving):
    for method, path in product(
        METHODS, ("/v1/", "/v1/nothing", "/v1/jobs/1/2/3", "/v1/generate/", "/v1/..%2fhealthz")
    ):
        response = server.client.request(method, path)

        assert response.status_code == 404
        if method != "HEAD":
            assert response.json()["error"]["code"] == "not_found"


def raw(server: Serving, path: str) -> tuple[int, bytes]:
    """Ask for a path exactly as it stands here."""
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=30)
    try:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        connection.putheader("Authorization", f"Bearer {server.token}")
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_no_artifacts_name_leads_out_of_the_store(server: Serving, picture: Artifact):
    (server.state_dir / "secret").write_text("what is outside of the store")
    (server.state_dir / "artifacts" / "secret").write_text("what no run made")
    digits = picture.sha256
    names = [
        "../secret", "..%2fsecret", "%2e%2e/secret", "%2e%2e%2fsecret", "..%252fsecret", "....//secret", "..\\secret",
        "..%5csecret", "secret", quote(str(server.state_dir / "secret"), safe=""), str(server.state_dir / "secret"),
        f"{digits[:2]}%2f{digits}", f"{digits}%00", f"{digits}%0a", digits.upper(), digits[:-1], f"{digits}0",
        f"%20{digits}", f"{digits}.png", "%ff", "..", ".", "%00", "a" * 5_000, f"{digits}/../../secret",
    ]  # fmt: skip

    for name in names:
        status, content = raw(server, f"/v1/artifacts/{name}")

        assert status in (400, 404), name
        assert b"outside of the store" not in content
        assert b"no run made" not in content
        assert b"private picture" not in content
    assert raw(server, f"/v1/artifacts/{digits}") == (200, b"\x89PNG\r\n\x1a\na private picture")


def test_a_body_that_is_too_large_is_413_also_where_its_length_is_not_told(server: Serving):
    large = b" " * (16 * 2**20 + 1)
    whole = server.client.post("/v1/generate", content=large)
    in_chunks = server.client.post("/v1/generate", content=iter([large[: 2**20]] * 17))

    assert (whole.status_code, in_chunks.status_code) == (413, 413)
    assert whole.json()["error"]["code"] == "too_large"
    assert in_chunks.json()["error"]["hint"]


def test_a_length_that_is_not_the_bodys_does_no_harm(server: Serving):
    for length in ("3", "-1", "many", "1, 2"):
        headers = {"Content-Length": length, "Authorization": f"Bearer {server.token}"}
        request = httpx.Request("POST", f"{server.url}/v1/generate", headers=headers)
        connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=30)
        connection.putrequest("POST", "/v1/generate")
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.endheaders(b'{"inputs": {"prompt": "x"}}')
        status = connection.getresponse().status
        connection.close()

        assert status == 400
    assert server.client.get("/healthz").status_code == 200


def test_a_prompt_that_is_too_long_is_refused(server: Serving):
    too_long = "x" * (MAX_PROMPT_CHARS + 1)
    for inputs in ({"prompt": too_long}, {"prompt": "x", "negative_prompt": too_long}):
        response = server.client.post("/v1/generate", json={"inputs": inputs, "async_run": True})

        assert response.status_code == 400
        assert "20,000" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"inputs": {"prompt": "\\ud800"}, "async_run": true}',
        b'{"inputs": {"prompt": "x"}, "config": {"seed": 1e400}}',
        b'{"inputs": {"prompt": "x"}, "config": {"seed": NaN}}',
        b'{"inputs": {"prompt": "x"}, "config": {"steps": 99999999999999999999999999}}',
        b'{"inputs": {"prompt": "x"}, "model": "../../etc/passwd"}',
        b'{"inputs": {"prompt": "x"}, "model": "http://evil"}',
        b'{"inputs": {"prompt": "x"}, "adapters": [{"source": "http://evil/lora"}]}',
    ],
)  # fmt: skip
def test_what_is_no_request_is_a_4xx_without_a_traceback(server: Serving, body: bytes):
    response = server.client.post("/v1/generate", content=body)

    assert 400 <= response.status_code < 500
    require_nothing_given_away(server, response)
    assert "Traceback" not in server.log


def test_text_of_a_request_comes_back_as_json_alone_and_no_browser_takes_it_for_a_page(server: Serving):
    script = "<script>alert(1)</script>"
    job = server.client.post("/v1/generate", json={"inputs": {"prompt": script}, "async_run": True})
    unknown = server.client.get(f"/v1/jobs/{quote(script, safe='')}")

    for response in (job, unknown):
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in response.headers["content-security-policy"]


def test_a_token_in_the_query_does_not_get_into_the_log(server: Serving):
    token = secrets.token_hex(16)
    httpx.get(f"{server.url}/v1/jobs?token={token}")
    httpx.get(f"{server.url}/v1/jobs/unknown?token={server.token}")
    with pytest.raises(InvalidStatus), connect(f"{server.ws_url}/v1/realtime?token={token}"):
        pass

    asked = [line for line in server.log.splitlines() if "/v1/" in line]
    assert asked
    assert not [line for line in asked if token in line or server.token in line]
