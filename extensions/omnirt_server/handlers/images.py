"""OpenAI's Images API."""

from __future__ import annotations

import asyncio
import base64
from typing import Final, TypeVar

from jupyter_server.auth.decorator import authorized
from PIL.Image import Resampling
from tornado import web

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.journal import Journal
from omnirt_lab.journal.pictures import decode_picture, opaque, require_pixels
from omnirt_lab.records import Artifact, Config, GenerateRequest, GenerateResult, Inputs, Task
from omnirt_lab.records.images import ImageData, ImageEditForm, ImageGenerateBody, ImagesAnswer, ImageWish
from omnirt_server.handlers.base import artifact_url, fields_of
from omnirt_server.handlers.submitting import SubmittingHandler
from omnirt_server.limits import Limits
from omnirt_server.pictures import editable_size, mask_of, store_picture
from omnirt_server.submission import DEFAULT_MODEL

_FILES: Final = {"image": "image", "image[]": "image", "mask": "mask"}
"""Field of the form → what it is; OpenAI's clients write the brackets for a list."""

_DECODING: Final = asyncio.Semaphore(2)
"""Uploads that are decoded at once: the largest one takes some 300 MB."""

W = TypeVar("W", bound=ImageWish)


class ImagesHandler(SubmittingHandler):
    """What both routes do alike."""

    async def answer(self, wish: ImageWish, request: GenerateRequest) -> None:
        """Queue the request, wait for its pictures and answer them as `wish` wants them."""
        job = await self.submit(request)
        result = await self.wait(job)
        if wish.response_format == "b64_json":
            pictures = await asyncio.to_thread(_with_bytes, self.services.journal, result)
        else:
            pictures = tuple(
                ImageData(url=artifact_url(self, output), sha256=output.sha256, seed=output.seed)
                for output in result.outputs
            )
        self.reply(_answer(pictures, result, job.job_id))


class ImageGenerationsHandler(ImagesHandler):
    """`POST /v1/images/generations`."""

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Make pictures from a prompt, and answer their addresses or bytes."""
        body = _without_stream(self.decode(ImageGenerateBody))
        await self.answer(body, _request(body, "text2image", size=body.size_px))


class ImageEditsHandler(ImagesHandler):
    """`POST /v1/images/edits`: the picture again, as the prompt has it; with a mask, only where that is transparent.

    A picture of another size than `size` is stretched to it.
    """

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Change a picture, and answer the addresses or bytes of what came of it."""
        form = _without_stream(fields_of(self.request.body_arguments, ImageEditForm, what="form"))
        image, mask = self._file("image"), self._file("mask")
        if image is None:
            raise InvalidRequestError(
                "the file `image` is missing", hint="Send multipart/form-data with a picture in the field `image`."
            )
        services = self.services
        async with _DECODING:
            request = await asyncio.to_thread(_edit, services.journal, services.limits, form, image, mask)
        await self.answer(form, request)

    def _file(self, name: str) -> bytes | None:
        unknown = self.request.files.keys() - _FILES.keys()
        if unknown:
            raise InvalidRequestError(
                f"the file {min(unknown)[:80]!r} is not taken", hint="This route takes the files `image` and `mask`."
            )
        files = [file for field, sent in self.request.files.items() if _FILES[field] == name for file in sent]
        if len(files) > 1:
            raise InvalidRequestError(f"{len(files)} files are called {name}; one is taken", hint="Send one picture.")
        return bytes(files[0].body) if files else None


def _without_stream(wish: W) -> W:
    if wish.stream:
        raise InvalidRequestError(
            "stream is true, and this route does not stream",
            hint="Watch /v1/jobs/{id}/events, or use /v1/realtime.",
        )
    return wish


def _edit(journal: Journal, limits: Limits, form: ImageEditForm, image: bytes, mask: bytes | None) -> GenerateRequest:
    """Decode and store what was uploaded; the request names it by its sha256."""
    picture = decode_picture(image, max_px=limits.picture_px, name="image")
    holes = None if mask is None else mask_of(decode_picture(mask, max_px=limits.picture_px, name="mask"), picture.size)
    size = form.size_px or editable_size(picture.size)
    task: Task = "image2image" if holes is None else "inpaint"
    _request(form, task, size=size)  # what cannot be is said before anything is stored
    require_pixels(size, max_px=limits.picture_px, name="size")
    stored = store_picture(journal.artifacts, opaque(picture).resize(size))
    if holes is None:  # its pipeline takes no size: the picture has it
        return _request(form, task, size=None, strength=form.strength, image=stored)
    stored_mask = store_picture(journal.artifacts, holes.resize(size, Resampling.NEAREST))
    return _request(form, task, size=size, strength=form.strength, image=stored, mask=stored_mask)


def _request(
    wish: ImageWish,
    task: Task,
    *,
    size: tuple[int, int] | None,
    strength: float | None = None,
    image: Artifact | None = None,
    mask: Artifact | None = None,
) -> GenerateRequest:
    width, height = size or (None, None)
    try:
        config = Config(
            steps=wish.steps,
            guidance_scale=wish.guidance_scale,
            seed=wish.seed,
            width=width,
            height=height,
            num_images=wish.n or 1,
            strength=strength,
        )
        inputs = Inputs(
            prompt=wish.prompt,
            negative_prompt=wish.negative_prompt,
            image=None if image is None else image.sha256,
            mask=None if mask is None else mask.sha256,
        )
    except ValueError as error:
        raise InvalidRequestError(str(error), hint="See /openapi.json for what this route takes.") from error
    return GenerateRequest(task=task, model=wish.model or DEFAULT_MODEL, inputs=inputs, config=config)


def _with_bytes(journal: Journal, result: GenerateResult) -> tuple[ImageData, ...]:
    return tuple(
        ImageData(
            b64_json=base64.b64encode(journal.artifacts.read(output.sha256)).decode(),
            sha256=output.sha256,
            seed=output.seed,
        )
        for output in result.outputs
    )


def _answer(pictures: tuple[ImageData, ...], result: GenerateResult, job_id: str) -> ImagesAnswer:
    sizes = {f"{output.width_px}x{output.height_px}" for output in result.outputs}
    return ImagesAnswer(
        created=(result.report.finished_at_ms or 0) // 1000,
        data=pictures,
        size=sizes.pop() if len(sizes) == 1 else None,
        job_id=job_id,
        run_id=result.report.run_id,
    )
