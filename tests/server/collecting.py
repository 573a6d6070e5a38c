"""A collector: a real HTTP server that takes OTLP, JSON or protobuf, and answers what it is told to."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Received(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""

    content: bytes
    """As it was before the compression."""

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The spans in it, with the keys of OTLP/JSON; ids of protobuf are turned to hex."""
        if self.headers["content-type"] == "application/json":
            document = json.loads(self.content)
        else:
            document = MessageToDict(ExportTraceServiceRequest.FromString(self.content))
        groups = [scope for resource in document["resourceSpans"] for scope in resource["scopeSpans"]]
        return [span for group in groups for span in group["spans"]]


class Collector(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[Received] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.rejects = 0
        self.is_open = threading.Event()
        """Requests wait for it before they are answered."""
        self.is_open.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [span for each in self.received for span in each.spans]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        self.server.received.append(Received(self.path, headers, content))
        self.server.is_open.wait(30)
        self._answer(headers["content-type"])

    def _answer(self, media_type: str) -> None:
        if media_type == "application/json":
            partial = {"rejectedSpans": str(self.server.rejects), "errorMessage": "too many"}
            body = json.dumps({"partialSuccess": partial} if self.server.rejects else {}).encode()
        else:
            response = ExportTraceServiceResponse()
            response.partial_success.rejected_spans = self.server.rejects
            body = response.SerializeToString()
        self.send_response(self.server.status)
        for name, value in {"Content-Type": media_type, **self.server.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector
    finally:
        collector.is_open.set()
        collector.shutdown()
        collector.server_close()
        thread.join()
