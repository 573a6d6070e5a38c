"""The routes."""

from __future__ import annotations

from typing import Final

from tornado.web import RequestHandler

from omnirt_server.handlers.artifacts import ArtifactHandler
from omnirt_server.handlers.events import EventsHandler
from omnirt_server.handlers.generate import GenerateHandler
from omnirt_server.handlers.health import HealthHandler, ReadyHandler
from omnirt_server.handlers.images import ImageEditsHandler, ImageGenerationsHandler
from omnirt_server.handlers.jobs import JobHandler, JobsHandler
from omnirt_server.handlers.metrics import MetricsHandler
from omnirt_server.handlers.models import ModelHandler, ModelsHandler
from omnirt_server.handlers.openapi import ContractHandler
from omnirt_server.handlers.preview import PreviewHandler
from omnirt_server.handlers.realtime import RealtimeHandler
from omnirt_server.handlers.runs import RunHandler, RunsHandler
from omnirt_server.handlers.stream import StreamHandler
from omnirt_server.handlers.trace import TraceHandler
from omnirt_server.handlers.unknown import UnknownHandler

_JOB: Final = r"/v1/jobs/([^/]+)"

ROUTES: Final[list[tuple[str, type[RequestHandler]]]] = [
    (r"/healthz", HealthHandler),
    (r"/readyz", ReadyHandler),
    (r"/metrics", MetricsHandler),
    (r"/openapi\.json", ContractHandler),
    (r"/v1/models", ModelsHandler),
    (r"/v1/models/(.+)", ModelHandler),
    (r"/v1/generate", GenerateHandler),
    (r"/v1/images/generations", ImageGenerationsHandler),
    (r"/v1/images/edits", ImageEditsHandler),
    (r"/v1/jobs", JobsHandler),
    (_JOB, JobHandler),
    (rf"{_JOB}/events", EventsHandler),
    (rf"{_JOB}/preview", PreviewHandler),
    (rf"{_JOB}/stream", StreamHandler),
    (rf"{_JOB}/trace", TraceHandler),
    (r"/v1/realtime", RealtimeHandler),
    (r"/v1/runs", RunsHandler),
    (r"/v1/runs/([^/]+)", RunHandler),
    (r"/v1/artifacts/([^/]+)", ArtifactHandler),
    (r"/v1/.*", UnknownHandler),
]
"""The first that fits answers; `operations.py` describes each."""
