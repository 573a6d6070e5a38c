"""OpenAI's Images API, as far as it makes sense here: what is taken, and what is answered.

A field of OpenAI's that asks for what this server does not do takes only the values that promise nothing, so that no
wish is dropped unheard.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec

from omnirt_lab.records.base import Record
from omnirt_lab.records.requests import MAX_PROMPT_CHARS, Guidance, Seed, Steps, Text

Prompt: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PROMPT_CHARS)]

Size: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^(auto|[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$")]
"""`auto`, or width and height in pixels, multiples of 8: `1024x768`."""


class ImageWish(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both routes take. None is the default, as in OpenAI's clients."""

    prompt: Prompt

    model: str | None = None
    """By default `tiny-shapes`."""

    n: Annotated[int, msgspec.Meta(ge=1, le=10)] | None = None
    """Pictures; by default 1."""

    size: Size | None = None
    """By default `auto`: the model's own, or that of the picture to edit."""

    response_format: Literal["url", "b64_json"] | None = None
    """By default `url`: an address of this server, which wants the same token."""

    seed: Seed | None = None
    """Not OpenAI's: seed of the first picture; picture i has seed + i."""

    steps: Steps | None = None
    """Not OpenAI's: denoising steps."""

    guidance_scale: Guidance | None = None
    """Not OpenAI's: classifier-free guidance weight."""

    negative_prompt: Text | None = None
    """Not OpenAI's: what the picture shall not show."""

    user: str | None = None
    """Taken and not kept, as is `safety_identifier`."""

    safety_identifier: str | None = None

    moderation: Literal["auto", "low"] | None = None
    """Nothing is moderated here."""

    quality: Literal["auto", "standard"] | None = None
    """Ask for a better picture by `steps`."""

    background: Literal["auto", "opaque"] | None = None

    output_format: Literal["png"] | None = None

    output_compression: Annotated[int, msgspec.Meta(ge=100, le=100)] | None = None
    """PNG loses nothing."""

    stream: Annotated[bool, msgspec.Meta(extra_json_schema={"const": False})] | None = None
    """Only false: progress is streamed by `/v1/jobs/{id}/events` and `/v1/realtime`."""

    partial_images: Annotated[int, msgspec.Meta(ge=0, le=0)] | None = None

    @property
    def size_px(self) -> tuple[int, int] | None:
        """Width and height; None for `auto`."""
        if self.size is None or self.size == "auto":
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height)


class ImageGenerateBody(ImageWish, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/images/generations`."""


class ImageEditForm(ImageWish, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The text fields of `POST /v1/images/edits` (multipart/form-data), beside the files `image` and `mask`."""

    strength: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """Not OpenAI's: how far the result may go from the picture; 1 forgets it."""

    input_fidelity: Literal["low"] | None = None
    """`strength` says it better."""


class ImageData(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One picture: its address or its bytes."""

    url: str | None = None

    b64_json: str | None = None
    """The PNG in base64."""

    sha256: str
    """Not OpenAI's: the artifact's name in `/v1/artifacts`."""

    seed: int | None = None
    """Not OpenAI's: what makes this picture again."""


class ImagesAnswer(Record, frozen=True, kw_only=True):
    """Body of the answer."""

    created: int
    """Seconds since 1970."""

    data: tuple[ImageData, ...]

    output_format: Literal["png"] = "png"

    background: Literal["opaque"] = "opaque"

    size: str | None
    """`WIDTHxHEIGHT`; None where the pictures differ."""

    job_id: str
    """Not OpenAI's: for `/v1/jobs/{id}`, its trace and its events."""

    run_id: str
    """Not OpenAI's: for the report, `/v1/runs/{id}`."""
