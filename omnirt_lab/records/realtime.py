"""Messages of `WS /v1/realtime`: OpenAI's Realtime API, as far as it makes sense for pictures.

A client sends one of `ClientMessage`, and the server one of `ServerMessage`; each is JSON with its `type`. A field that
a client's message does not have here is refused by name, so that no wish is dropped unheard.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from omnirt_lab.records.api import ApiError
from omnirt_lab.records.base import Json, Record
from omnirt_lab.records.facts import Artifact
from omnirt_lab.records.requests import MAX_PROMPT_CHARS, Config

Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_PROMPT_CHARS)]

Id: TypeAlias = Annotated[str, msgspec.Meta(max_length=512)]

Modalities: TypeAlias = Annotated[tuple[Literal["image"], ...], msgspec.Meta(min_length=1, max_length=1)]

Metadata: TypeAlias = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]],
    msgspec.Meta(max_length=16),
]
"""The client's own words, given back with the response."""

ResponseStatus = Literal["in_progress", "completed", "failed", "cancelled", "incomplete"]
"""`incomplete`: the worker was lost."""


class InputText(Record, frozen=True, kw_only=True, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    """A part of a prompt."""

    text: Text


class UserItem(Record, frozen=True, kw_only=True, tag_field="type", tag="message", forbid_unknown_fields=True):
    """What the user says."""

    role: Literal["user"] = "user"

    content: Annotated[tuple[InputText, ...], msgspec.Meta(max_length=64)]

    id: Id | None = None

    object: Literal["realtime.item"] = "realtime.item"

    status: Literal["completed"] = "completed"

    @property
    def text(self) -> str:
        """All of its text."""
        return " ".join(part.text for part in self.content)


class OutputImage(Record, frozen=True, kw_only=True, tag_field="type", tag="output_image"):
    """A picture that a response made."""

    image_url: str
    """Address of this server, which wants the same key."""

    artifact: Artifact


class AssistantItem(Record, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """What a response made."""

    role: Literal["assistant"] = "assistant"

    content: tuple[OutputImage, ...]

    id: str

    object: Literal["realtime.item"] = "realtime.item"

    status: Literal["completed"] = "completed"


class SessionChange(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be different; what is not named stays as it is."""

    type: Literal["realtime"] = "realtime"

    model: Id | None = None

    instructions: Text | None = None
    """Stand before the text of every prompt; empty for none."""

    output_modalities: Modalities | None = None

    config: dict[str, Json] = {}
    """Fields of a request's `config` (`steps`, `seed`, `width`, …); null is the model's default."""


class Session(Record, frozen=True, kw_only=True):
    """What holds for a response that does not say otherwise."""

    id: str

    object: Literal["realtime.session"] = "realtime.session"

    type: Literal["realtime"] = "realtime"

    model: str

    instructions: str = ""

    output_modalities: Modalities = ("image",)

    config: Config = msgspec.field(default_factory=Config)


class ResponseWish(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One response: the session's settings, and what is different in it."""

    instructions: Text | None = None
    """In the place of the session's."""

    input: Annotated[tuple[UserItem, ...], msgspec.Meta(max_length=64)] | None = None
    """In the place of the conversation."""

    conversation: Literal["auto", "none"] | None = None
    """Pictures join no conversation, so both are the same."""

    output_modalities: Modalities | None = None

    metadata: Metadata | None = None

    negative_prompt: Text | None = None
    """Not OpenAI's: what the picture shall not show."""

    config: dict[str, Json] = {}
    """Not OpenAI's: as the session's, for this response alone."""


class ClientRecord(Record, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """What a client's messages have in common."""

    event_id: Id | None = None
    """The client's own; an error that the message leads to names it."""


class SessionUpdate(ClientRecord, frozen=True, kw_only=True, tag="session.update"):
    """Change what holds for the next responses; `session.updated` follows."""

    session: SessionChange


class ItemCreate(ClientRecord, frozen=True, kw_only=True, tag="conversation.item.create"):
    """Say something that the next response shall draw; `conversation.item.added` and `.done` follow."""

    item: UserItem


class ResponseCreate(ClientRecord, frozen=True, kw_only=True, tag="response.create"):
    """Make pictures. The prompt is the instructions, and the user's text since the last response."""

    response: ResponseWish = msgspec.field(default_factory=ResponseWish)


class ResponseCancel(ClientRecord, frozen=True, kw_only=True, tag="response.cancel"):
    """Stop a response; `response.done` follows when its worker has stopped."""

    response_id: Id | None = None
    """By default the latest one that is under way."""


ClientMessage: TypeAlias = SessionUpdate | ItemCreate | ResponseCreate | ResponseCancel


class StatusDetails(Record, frozen=True, kw_only=True):
    """How a response ended."""

    type: ResponseStatus

    reason: Literal["client_cancelled"] | None = None

    error: ApiError | None = None


class Response(Record, frozen=True, kw_only=True):
    """Pictures in the making, or made."""

    id: str

    object: Literal["realtime.response"] = "realtime.response"

    status: ResponseStatus

    status_details: StatusDetails | None = None

    output: tuple[AssistantItem, ...] = ()

    output_modalities: Modalities = ("image",)

    metadata: dict[str, str] | None = None

    job_id: str
    """Not OpenAI's, as the next two: for `/v1/jobs/{id}`."""

    run_id: str
    """For `/v1/runs/{id}`."""

    trace_id: str
    """32 hex digits."""


class ServerRecord(Record, frozen=True, kw_only=True, tag_field="type"):
    """What the server's messages have in common."""

    event_id: str


class SessionCreated(ServerRecord, frozen=True, kw_only=True, tag="session.created"):
    """The first message of a connection."""

    session: Session


class SessionUpdated(ServerRecord, frozen=True, kw_only=True, tag="session.updated"):
    """The session as it is now."""

    session: Session


class ItemAdded(ServerRecord, frozen=True, kw_only=True, tag="conversation.item.added"):
    """The user's item is part of the next prompt."""

    item: UserItem


class ItemDone(ServerRecord, frozen=True, kw_only=True, tag="conversation.item.done"):
    """The same, for clients that wait for this one."""

    item: UserItem


class ResponseCreated(ServerRecord, frozen=True, kw_only=True, tag="response.created"):
    """There is a job."""

    response: Response


class ResponseEvent(ServerRecord, frozen=True, kw_only=True, tag="response.omnirt.event"):
    """One event of the job, as its SSE stream has it."""

    response_id: str

    job_id: str

    event: msgspec.Raw
    """A StageEvent: see `records.decode_event`."""


class ResponsePreview(ServerRecord, frozen=True, kw_only=True, tag="response.omnirt.preview"):
    """How far the picture has come; at most 10 a second."""

    response_id: str

    job_id: str

    step: int
    """Denoising step that it was made after, from 0."""

    media_type: str

    b64_json: str
    """The picture in base64."""


class ResponseDone(ServerRecord, frozen=True, kw_only=True, tag="response.done"):
    """The last message of a response, however it ended."""

    response: Response


class RealtimeError(ApiError, frozen=True, kw_only=True):
    """What was wrong with a message."""

    event_id: str | None = None
    """The client's, of the message that led to it, where it has one."""


class ErrorMessage(ServerRecord, frozen=True, kw_only=True, tag="error"):
    """A message was not understood or cannot be done; the connection stays."""

    error: RealtimeError


ServerMessage: TypeAlias = (
    SessionCreated
    | SessionUpdated
    | ItemAdded
    | ItemDone
    | ResponseCreated
    | ResponseEvent
    | ResponsePreview
    | ResponseDone
    | ErrorMessage
)
