from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from omnirt_lab.errors import InvalidRequestError, NotAvailableError
from omnirt_lab.export import otlp
from omnirt_lab.export.target import JSON, PROTOBUF, Target, find_target
from omnirt_lab.folds import attributes, trace
from omnirt_lab.records import AnyEvent
from omnirt_lab.records.trace import Trace
from tests.sample_events import ALL, lost, normal, submitted


def traced(events: list[AnyEvent]) -> Trace:
    return trace.fold(events, job_id="job-1")


def spans_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    (resource,) = document["resourceSpans"]
    (scope,) = resource["scopeSpans"]
    spans: list[dict[str, Any]] = scope["spans"]
    return spans


def attributes_of(described: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in described["attributes"]}


def to_protobuf(document: dict[str, Any]) -> ExportTraceServiceRequest:
    """OTLP/JSON by protobuf's own reader, which wants ids in base64 where OTLP has hex."""
    for span in spans_of(document):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    request: ExportTraceServiceRequest = json_format.ParseDict(document, ExportTraceServiceRequest())
    return request


@pytest.mark.parametrize("name", ALL)
def test_the_json_says_what_the_protobuf_says(name: str):
    made = traced(ALL[name]())

    assert to_protobuf(json.loads(otlp.encode(made))) == encode_spans(otlp.to_spans(made))


def test_the_json_is_as_the_specification_writes_it():
    made = traced(submitted())
    root, *others = spans_of(json.loads(otlp.encode(made)))

    assert (root["name"], root["kind"]) == ("generate_content tiny-shapes", 1)
    assert re.fullmatch("[0-9a-f]{32}", root["traceId"])
    assert "parentSpanId" not in root
    assert root["startTimeUnixNano"] == str(made.unix_ns(0))
    assert root["endTimeUnixNano"] == str(made.unix_ns(submitted()[-1].t_ns))
    ids = {root["spanId"], *(span["spanId"] for span in others)}
    assert {span["parentSpanId"] for span in others} <= ids
    assert {span["traceId"] for span in others} == {made.trace_id} == {root["traceId"]}


def test_the_root_has_the_attributes_of_the_conventions_and_the_resource_a_name():
    document = json.loads(otlp.encode(traced(normal())))
    said = attributes_of(spans_of(document)[0])

    assert attributes_of(document["resourceSpans"][0]["resource"])["service.name"] == "omnirt-lab"
    assert said[attributes.OPERATION_NAME] == "generate_content"
    assert said[attributes.OUTPUT_TYPE] == "image"
    assert said[attributes.PROVIDER_NAME] == "diffusers"
    assert said[attributes.REQUEST_MODEL] == "tiny-shapes"
    assert said[attributes.RUN_ID] == "run-1"
    assert all(re.fullmatch(r"(gen_ai|omnirt|error)\..+", name) for name in said)


def test_a_span_whose_end_was_not_seen_ends_with_the_run_and_says_so():
    made = traced(lost())
    (denoise,) = [span for span in spans_of(json.loads(otlp.encode(made))) if span["name"] == "denoise"]

    assert denoise["endTimeUnixNano"] == str(made.unix_ns(made.last_t_ns))
    assert attributes_of(denoise)[attributes.IS_OPEN] is True


def test_failed_spans_have_the_status_error():
    spans = spans_of(json.loads(otlp.encode(traced(ALL["failed"]()))))

    assert [span["name"] for span in spans if span["status"].get("code") == 2] == [spans[0]["name"], "denoise"]


def test_the_service_has_the_name_that_the_environment_gives_it():
    code = (
        "from omnirt_lab.export import otlp\n"
        "from omnirt_lab.folds import trace\n"
        "from tests.sample_events import normal\n"
        "print(otlp.encode(trace.fold(normal(), job_id='job-1')).decode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"OTEL_SERVICE_NAME": "pictures", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=lab"},
        capture_output=True,
        text=True,
        check=True,
    )

    said = attributes_of(json.loads(done.stdout)["resourceSpans"][0]["resource"])

    assert said["service.name"] == "pictures"
    assert said["deployment.environment.name"] == "lab"


@pytest.mark.parametrize(
    ("endpoint", "environment", "target"),
    [
        ("", {}, None),
        ("http://c:4318", {}, Target("http://c:4318/v1/traces", JSON)),
        ("http://c:4318/", {}, Target("http://c:4318/v1/traces", JSON)),
        ("https://c/v1/traces", {}, Target("https://c/v1/traces", JSON)),
        ("http://c", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://other"}, Target("http://c/v1/traces", JSON)),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c/otlp/"}, Target("http://c/otlp/v1/traces", JSON)),
        ("", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/spans"}, Target("http://c/spans", JSON)),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, None),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, None),
        ("http://c", {"OTEL_EXPORTER_OTLP_PROTOCOL": PROTOBUF}, Target("http://c/v1/traces", PROTOBUF)),
        (
            "http://c",
            {"OTEL_EXPORTER_OTLP_PROTOCOL": PROTOBUF, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": JSON},
            Target("http://c/v1/traces", JSON),
        ),
    ],
)
def test_traces_go_where_the_configuration_or_the_standard_variables_say(
    endpoint: str, environment: dict[str, str], target: Target | None
):
    assert find_target(endpoint, environment) == target


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://c", "http://", "http://c:port", "http://[c"])
def test_what_is_no_address_is_an_error(endpoint: str):
    with pytest.raises(InvalidRequestError, match="address"):
        find_target(endpoint, {})


def test_grpc_is_an_error_that_says_what_to_set():
    with pytest.raises(NotAvailableError) as caught:
        find_target("http://c:4317", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})

    assert "http/protobuf" in caught.value.hint


def test_a_targets_name_holds_no_password():
    assert Target("https://me:secret@c:4318/v1/traces?key=secret", JSON).name == "https://c:4318/v1/traces"
