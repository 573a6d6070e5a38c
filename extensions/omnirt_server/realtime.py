"""One realtime session: what its client says becomes jobs, and what becomes of the jobs is told to its client."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from omnirt_lab.errors import InvalidRequestError, LabError, QueueFullError
from omnirt_lab.journal import Journal
from omnirt_lab.records import (
    Artifact,
    Config,
    GenerateRequest,
    Inputs,
    JobState,
    Json,
    Record,
    RunReport,
)
from omnirt_lab.records import realtime as rt
from omnirt_server.failures import InvalidMessageError, body_of, error_of
from omnirt_server.feed import Frame
from omnirt_server.services import Services
from omnirt_server.submission import Caller, queue_for, submit

PREVIEW_S: Final = 0.1
"""Least time between two previews of a response."""

_STATUS: Final[dict[JobState, rt.ResponseStatus]] = {
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "lost": "incomplete",
}

_decoder: Final[msgspec.json.Decoder[rt.ClientMessage]] = msgspec.json.Decoder(rt.ClientMessage)


class NothingToCancelError(InvalidRequestError):
    """No response is under way, or none with this id; the code is OpenAI's."""

    code = "response_cancel_not_active"


class TooManyResponsesError(QueueFullError):
    """The session has as many responses under way as one may have."""

    code = "too_many_responses"


class Connection(Protocol):
    """The client's end of a session."""

    async def send(self, value: object) -> None:
        """Send a record, and wait until the client takes it."""

    def start(self, sending: Coroutine[Any, Any, None]) -> None:
        """Do this beside the client's messages; cancel it when the connection ends."""

    def artifact_url(self, artifact: Artifact) -> str:
        """Where the client finds the file."""


@dataclass
class _UnderWay:
    """A response whose job has not ended."""

    response: rt.Response
    is_cancelled: bool = False


class RealtimeSession:
    """Lives as long as its connection; its jobs live on."""

    def __init__(self, connection: Connection, services: Services, *, model: str, caller: Caller) -> None:
        self._connection = connection
        self._services = services
        self._caller = caller
        self._session = rt.Session(id=_new_id("sess"), model=model)
        self._said = ""
        self._is_drawn = False
        self._under_way: dict[str, _UnderWay] = {}

    async def begin(self) -> None:
        """Greet the client.

        Raises
        ------
        ModelNotAllowedError
            If the server does not serve the session's model.
        """
        await self._require_model(self._session.model)
        await self._connection.send(rt.SessionCreated(event_id=_new_id("event"), session=self._session))

    async def handle(self, message: str | bytes) -> None:
        """Do what the client's message asks for; what cannot be done is answered with an `error` message."""
        event_id = None
        try:
            wish = _decoded(message)
            event_id = wish.event_id
            await self._do(wish)
        except InvalidMessageError as error:
            await self._connection.send(error_message(error, _event_id_of(message)))
        except LabError as error:
            await self._connection.send(error_message(error, event_id))

    async def _do(self, wish: rt.ClientMessage) -> None:
        match wish:
            case rt.SessionUpdate():
                await self._update(wish.session)
            case rt.ItemCreate():
                await self._add(wish.item)
            case rt.ResponseCreate():
                await self._create(wish.response)
            case rt.ResponseCancel():
                await self._cancel(wish.response_id)

    async def _update(self, change: rt.SessionChange) -> None:
        session = self._session
        if change.model is not None:
            await self._require_model(change.model)
        self._session = msgspec.structs.replace(
            session,
            model=session.model if change.model is None else change.model,
            instructions=session.instructions if change.instructions is None else change.instructions,
            config=_changed(session.config, change.config),
        )
        await self._connection.send(rt.SessionUpdated(event_id=_new_id("event"), session=self._session))

    async def _require_model(self, model: str) -> None:
        await asyncio.to_thread(queue_for, self._services.journal, self._services.limits, model)

    async def _add(self, item: rt.UserItem) -> None:
        said = "" if self._is_drawn else self._said
        said = f"{said} {item.text}".strip()
        _inputs(said)
        self._said, self._is_drawn = said, False
        kept = msgspec.structs.replace(item, id=item.id or _new_id("item"))
        await self._connection.send(rt.ItemAdded(event_id=_new_id("event"), item=kept))
        await self._connection.send(rt.ItemDone(event_id=_new_id("event"), item=kept))

    async def _create(self, wish: rt.ResponseWish) -> None:
        services = self._services
        if len(self._under_way) >= services.limits.realtime_responses:
            raise TooManyResponsesError(
                f"{len(self._under_way)} responses of this session are under way, as many as one may have",
                hint="Wait for a response.done, or cancel one.",
            )
        job = await asyncio.to_thread(
            submit, services.journal, services.limits, self._request(wish), caller=self._caller
        )
        self._is_drawn = self._is_drawn or wish.input is None
        response = rt.Response(
            id=f"resp_{job.job_id}",
            status="in_progress",
            metadata=wish.metadata,
            job_id=job.job_id,
            run_id=job.run_id,
            trace_id=job.trace_id,
        )
        self._under_way[response.id] = _UnderWay(response)
        await self._connection.send(rt.ResponseCreated(event_id=_new_id("event"), response=response))
        self._connection.start(self._follow(response))

    def _request(self, wish: rt.ResponseWish) -> GenerateRequest:
        instructions = self._session.instructions if wish.instructions is None else wish.instructions
        said = self._said if wish.input is None else " ".join(item.text for item in wish.input)
        return GenerateRequest(
            model=self._session.model,
            inputs=_inputs(f"{instructions} {said}".strip(), wish.negative_prompt),
            config=_changed(self._session.config, wish.config),
        )

    async def _cancel(self, response_id: str | None) -> None:
        chosen = next(reversed(self._under_way), None) if response_id is None else response_id
        if chosen is None or chosen not in self._under_way:
            raise NothingToCancelError(
                "this session has no such response under way", hint="A response ends with its response.done."
            )
        under_way = self._under_way[chosen]
        under_way.is_cancelled = True
        await asyncio.to_thread(self._services.journal.request_cancel, under_way.response.job_id)

    async def _follow(self, response: rt.Response) -> None:
        """Tell the client what happens in the response's job, to the end."""
        try:
            await self._tell_events(response)
            report = await asyncio.to_thread(self._services.journal.get_report, response.run_id)
            done = self._ended(response, report)
        except LabError as error:
            done = _broken(response, error)
        del self._under_way[response.id]
        await self._connection.send(rt.ResponseDone(event_id=_new_id("event"), response=done))

    async def _tell_events(self, response: rt.Response) -> None:
        previews = _Previews(self._services.journal, response)
        async for frames in self._services.feed.follow(response.job_id, idle_s=PREVIEW_S):
            for frame in frames:
                previews.hear(frame)
                await self._connection.send(
                    rt.ResponseEvent(
                        event_id=_new_id("event"),
                        response_id=response.id,
                        job_id=response.job_id,
                        event=msgspec.Raw(frame.json),
                    )
                )
            preview = await previews.find_new()
            if preview is not None:
                await self._connection.send(preview)

    def _ended(self, response: rt.Response, report: RunReport) -> rt.Response:
        status = _STATUS[report.state]
        is_cancelled = self._under_way[response.id].is_cancelled and status == "cancelled"
        return msgspec.structs.replace(
            response,
            status=status,
            status_details=rt.StatusDetails(
                type=status,
                reason="client_cancelled" if is_cancelled else None,
                error=None if status in ("completed", "cancelled") else body_of(error_of(report)).error,
            ),
            output=self._output(report.artifacts),
        )

    def _output(self, artifacts: tuple[Artifact, ...]) -> tuple[rt.AssistantItem, ...]:
        pictures = tuple(
            rt.OutputImage(image_url=self._connection.artifact_url(artifact), artifact=artifact)
            for artifact in artifacts
        )
        return (rt.AssistantItem(id=_new_id("item"), content=pictures),) if pictures else ()


class _Previews:
    """The previews of one running job that its client has not seen, at most one each `PREVIEW_S`."""

    def __init__(self, journal: Journal, response: rt.Response) -> None:
        self._journal = journal
        self._response = response
        self._is_running = False
        self._next_look_s = 0.0
        self._shown: object = None

    def hear(self, frame: Frame) -> None:
        """Learn from an event whether there can be previews."""
        self._is_running = frame.event == "job_started" or (self._is_running and not frame.is_terminal)

    async def find_new(self) -> rt.ResponsePreview | None:
        """The preview to show now, if there is a new one and it is time."""
        now_s = asyncio.get_running_loop().time()
        if not self._is_running or now_s < self._next_look_s:
            return None
        self._next_look_s = now_s + PREVIEW_S
        preview = await asyncio.to_thread(self._journal.find_preview, self._response.job_id)
        if preview is None or preview == self._shown:
            return None
        self._shown = preview
        return rt.ResponsePreview(
            event_id=_new_id("event"),
            response_id=self._response.id,
            job_id=self._response.job_id,
            step=preview.step,
            media_type=preview.media_type,
            b64_json=base64.b64encode(preview.content).decode(),
        )


class _Marked(Record, frozen=True, kw_only=True):
    """A message of which only the client's id can be read."""

    event_id: rt.Id | None = None


def error_message(error: LabError, event_id: str | None = None) -> rt.ErrorMessage:
    """What the client is told; `event_id` is that of its message."""
    shown = body_of(error).error
    return rt.ErrorMessage(
        event_id=_new_id("event"),
        error=rt.RealtimeError(
            message=shown.message, type=shown.type, code=shown.code, hint=shown.hint, event_id=event_id
        ),
    )


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(10)}"


def _decoded(message: str | bytes) -> rt.ClientMessage:
    if isinstance(message, bytes):
        raise InvalidMessageError("the message is binary", hint="Send JSON as text.")
    try:
        return _decoder.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidMessageError.of(error, hint="See ClientMessage in omnirt_lab.records.realtime.") from error


def _event_id_of(message: str | bytes) -> str | None:
    try:
        return msgspec.json.decode(message, type=_Marked).event_id
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _inputs(prompt: str, negative_prompt: str | None = None) -> Inputs:
    try:
        return Inputs(prompt=prompt, negative_prompt=negative_prompt)
    except ValueError as error:
        raise InvalidRequestError(str(error), hint="Say less, or begin a new response.") from error


def _changed(config: Config, changes: dict[str, Json]) -> Config:
    """The config with these fields in their places; null is the default."""
    unknown = changes.keys() - set(Config.__struct_fields__)
    if unknown:
        raise InvalidRequestError(
            f"the config has no field {min(unknown)[:80]!r}", hint=f"It has {', '.join(Config.__struct_fields__)}."
        )
    merged = {name: value for name, value in (msgspec.structs.asdict(config) | changes).items() if value is not None}
    try:
        return msgspec.convert(merged, Config)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"the config cannot be so: {error}", hint="Null is the default.") from error


def _broken(response: rt.Response, error: LabError) -> rt.Response:
    """Its end cannot be told: the journal cannot be read, or was purged."""
    details = rt.StatusDetails(type="failed", error=body_of(error).error)
    return msgspec.structs.replace(response, status="failed", status_details=details)
