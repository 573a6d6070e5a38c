"""`/openapi.json` against what is served: each way round, and by schemathesis."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from tornado.websocket import WebSocketHandler

from omnirt_lab.records import GenerateRequest
from omnirt_server.contract import contract
from omnirt_server.handlers import ROUTES
from omnirt_server.handlers.base import methods_of
from omnirt_server.handlers.unknown import UnknownHandler
from omnirt_server.limits import Limits
from tests.journal.writing import REPOSITORY, run
from tests.server.serving import Serving, running_server
from tests.server.working import draw, working

EXAMPLES = 8
"""For each route; deterministic, so the same ones each time."""

CONFIGURATION = """
[[operations]]
include-path-regex = "^/v1/images/"

# a size that is no multiple of 8, and bytes that are no picture, fit the schema
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "429"]

[[operations]]
include-path-regex = "^/v1/artifacts/"

# a range behind the file's end
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "416"]
"""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return contract(Limits(), base_url="/", is_metrics_open=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    home = tmp_path_factory.mktemp("contract")
    flags = ("runners=0", "max_queued=5", "allow_compile=True")
    with running_server(home / "state", home, *(f"--OmniRTApp.{flag}" for flag in flags)) as serving:
        yield serving


def pattern_of(path: str) -> str:
    pattern = re.sub(r"\{\w+\}", "([^/]+)", path.replace(".", r"\."))
    return pattern.replace("/v1/models/([^/]+)", "/v1/models/(.+)")  # hub ids have a slash


def test_every_route_and_method_is_in_the_contract_and_nothing_else(document: dict[str, Any]):
    http = [(pattern, kind) for pattern, kind in ROUTES if not issubclass(kind, WebSocketHandler)]
    served = {
        (pattern, method)
        for pattern, kind in http
        if kind is not UnknownHandler
        for method in methods_of(kind)
        if method != "OPTIONS"  # Jupyter answers a preflight on every route
    }
    described = {
        (pattern_of(path), method.upper()) for path, methods in document["paths"].items() for method in methods
    }

    assert served == described


def test_every_websocket_is_in_the_contract(document: dict[str, Any]):
    served = {pattern for pattern, kind in ROUTES if issubclass(kind, WebSocketHandler)}

    assert served == {pattern_of(path) for path in document["x-websockets"]}


def test_what_is_served_is_the_document_of_this_servers_limits(server: Serving):
    own = contract(Limits(queued_jobs=5, allow_compile=True), base_url="/", is_metrics_open=False)

    assert server.client.get("/openapi.json").content == msgspec.json.encode(own)


def test_every_schema_is_valid_and_every_reference_leads_somewhere(document: dict[str, Any]):
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    text = msgspec.json.encode(document).decode()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    answers = [answer for operation in operations for answer in operation["responses"].values()]
    linked = {name for answer in answers for name in answer.get("links", ())}

    assert set(re.findall(r'"#/components/schemas/(\w+)"', text)) <= document["components"]["schemas"].keys()
    assert {"getJob", "cancelJob"} <= linked <= {operation["operationId"] for operation in operations}


@pytest.mark.parametrize(
    "config",
    [
        {"steps": 0}, {"steps": 10_001}, {"guidance_scale": -1}, {"seed": -1}, {"seed": 2**63}, {"width": 7},
        {"width": 12}, {"height": 8_200}, {"num_images": 0}, {"num_images": 65},
    ],
)  # fmt: skip
def test_the_schema_refuses_what_the_records_refuse(document: dict[str, Any], config: dict[str, Any]):
    validator = jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/GenerateRequest", "components": document["components"]}
    )

    assert not validator.is_valid({"config": config})
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"config": config}, GenerateRequest)


def test_a_report_and_its_events_are_as_the_contract_says(document: dict[str, Any], server: Serving):
    report = run(server.journal, server.journal.worker())
    served = server.client.get(f"/v1/runs/{report.run_id}").json()
    job_id = server.client.get("/v1/jobs?limit=1").json()["jobs"][0]["job_id"]

    def validate(value: object, schema: dict[str, Any]) -> None:
        jsonschema.Draft202012Validator(schema | {"components": document["components"]}).validate(value)

    validate(served, {"$ref": "#/components/schemas/RunReport"})
    for event in server.journal.events(job_id):
        validate(msgspec.json.decode(msgspec.json.encode(event)), document["x-event"])


def test_the_limits_stand_in_the_contract(server: Serving):
    limits = server.client.get("/openapi.json").json()["x-limits"]

    assert limits["queued_jobs"] == 5
    assert limits["body_bytes"] == 16 * 2**20
    assert limits["prompt_chars"] == 20_000
    assert limits["allowed_models"] == ["tiny-shapes"]


def test_compiling_is_for_requests_where_the_operator_allows_it_and_the_contract_says_so(
    document: dict[str, Any], server: Serving
):
    body = {"inputs": {"prompt": "a red circle"}, "config": {"compile": True}, "async_run": True}

    accepted = server.client.post("/v1/generate", json=body)

    assert accepted.status_code == 202, accepted.text
    server.client.delete(f"/v1/jobs/{accepted.json()['job_id']}")
    assert server.client.get("/openapi.json").json()["x-limits"]["allow_compile"] is True
    assert document["x-limits"]["allow_compile"] is False
    schema = document["paths"]["/v1/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = jsonschema.Draft202012Validator(schema | {"components": document["components"]})
    assert not validator.is_valid(body)
    assert validator.is_valid(body | {"config": {"compile": False}})


def test_schemathesis_finds_no_5xx_and_no_answer_outside_the_contract(server: Serving, tmp_path: Path):
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json",
        "--header", f"Authorization: Bearer {server.token}", "--generation-deterministic",
        "--exclude-checks", "use_after_free",  # DELETE cancels a job, which stays to be read
        "--max-examples", str(EXAMPLES), "--request-timeout", "20",
    ]  # fmt: skip
    hooks = {"SCHEMATHESIS_HOOKS": "tests.server.contract_hooks", "PYTHONPATH": str(REPOSITORY)}

    with working(server, draw):
        result = subprocess.run(
            command, cwd=tmp_path, env=os.environ | hooks, capture_output=True, text=True, check=False, timeout=120
        )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in server.log
