"""Sends spans to an OpenTelemetry collector over HTTP, and says what became of them.

OpenTelemetry's exporters compress, retry within their timeout and wait as long as a `Retry-After` asks; but they answer
no more than success or failure, and take a partial success for a whole one. So their transport is listened to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has no stubs
from opentelemetry.exporter.http.transport._base import BaseHTTPResult, BaseHTTPTransport
from opentelemetry.exporter.otlp.common.http import Compression
from opentelemetry.exporter.otlp.json.http._internal import _build_transport
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter as JsonExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as ProtobufExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_COMPRESSION,
    OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE,
    OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE,
    OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY,
    OTEL_EXPORTER_OTLP_TRACES_COMPRESSION,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter

from omnirt_lab.export.target import PROTOBUF, Target

_OK: Final = range(200, 300)
MAX_REASON_CHARS: Final = 300
"""A collector's words end in a log line."""


class Delivery(NamedTuple):
    """What became of the spans that were sent."""

    delivered: int

    undelivered: int

    reason: str | None = None
    """Why some were not taken, or what the collector remarked."""


class Collector:
    """One collector; headers, timeout, certificates and compression (by default gzip) as `OTEL_EXPORTER_OTLP_*` say."""

    def __init__(self, target: Target) -> None:
        self._transport = _Listener(
            _build_transport(
                None,
                None,
                None,
                OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE,
                OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY,
                OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE,
            )
        )
        kind = ProtobufExporter if target.protocol == PROTOBUF else JsonExporter
        self._exporter: SpanExporter = kind(target.url, compression=_compression(), _transport=self._transport)

    def send(self, spans: Sequence[ReadableSpan]) -> Delivery:
        """Send them in one request, retried within the timeout; not for a thread that others wait for."""
        self._exporter.export(spans)
        answer = self._transport.take()
        if answer is None:
            return Delivery(0, len(spans), "they could not be encoded, or the export is shutting down")
        if answer.status_code not in _OK:
            return Delivery(0, len(spans), _why(answer))
        rejected, remark = _partial_success(answer)
        rejected = min(max(rejected, 0), len(spans))
        return Delivery(len(spans) - rejected, rejected, remark[:MAX_REASON_CHARS] or None)

    def stop(self) -> None:
        """Give up waiting for the next retry; a request that is under way goes on until its timeout."""
        self._exporter.shutdown()


class _Listener(BaseHTTPTransport):
    """Passes requests on, and keeps the last answer."""

    def __init__(self, transport: BaseHTTPTransport) -> None:
        self._transport = transport
        self._last: BaseHTTPResult | None = None

    def take(self) -> BaseHTTPResult | None:
        """The last answer since the last call; None if nothing was sent."""
        answer, self._last = self._last, None
        return answer

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        data: bytes | None = None,
    ) -> BaseHTTPResult:
        self._last = self._transport.request(method, url, headers=headers, timeout=timeout, data=data)
        return self._last

    def close(self) -> None:
        self._transport.close()

    def is_connection_error(self, exception: Exception | None) -> bool:
        return self._transport.is_connection_error(exception)


def _compression() -> Compression | None:
    """None where the environment chooses."""
    is_chosen = OTEL_EXPORTER_OTLP_TRACES_COMPRESSION in os.environ or OTEL_EXPORTER_OTLP_COMPRESSION in os.environ
    return None if is_chosen else Compression.GZIP


def _why(answer: BaseHTTPResult) -> str:
    if answer.status_code is None:
        return f"no answer: {answer.error}"[:MAX_REASON_CHARS]
    return f"the collector answered {answer.status_code} {answer.reason or ''}".rstrip()


def _partial_success(answer: BaseHTTPResult) -> tuple[int, str]:
    """Spans that were rejected, and the collector's message; an answer that cannot be read rejects nothing."""
    content = answer.content()
    try:
        if "json" not in answer.headers().get("content-type", ""):
            response = ExportTraceServiceResponse.FromString(content)
            return response.partial_success.rejected_spans, response.partial_success.error_message
        partial = _member(json.loads(content or b"{}"), "partialSuccess", {})
        return int(_member(partial, "rejectedSpans", 0)), str(_member(partial, "errorMessage", ""))
    except (ValueError, TypeError, DecodeError):
        return 0, "the collector's answer could not be read"


def _member(value: Any, name: str, default: object) -> Any:
    return value.get(name, default) if isinstance(value, dict) else default
