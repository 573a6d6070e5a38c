"""Input pictures in the size that the pipeline will work in; whatever that changes is said."""

from __future__ import annotations

import inspect
import io
import math
from dataclasses import dataclass

from PIL import Image

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.pipelines.call_arguments import parameters_of, size_multiple_px
from omnirt_lab.pipelines.sites import AnyPipeline
from omnirt_lab.records import GenerateRequest, WarningData


@dataclass(frozen=True)
class InputPictures:
    """What a call starts from."""

    image: Image.Image | None = None

    mask: Image.Image | None = None

    size: tuple[int, int] | None = None
    """Width and height that the pipeline is told, where it takes them; None leaves them as the request has them."""

    warnings: tuple[WarningData, ...] = ()


def fitted(
    pipeline: AnyPipeline, request: GenerateRequest, *, image: bytes | None, mask: bytes | None
) -> InputPictures:
    """Open the stored pictures of a request, and scale them to what the pipeline will work in.

    That is the size which the request asks for, else the picture's own with its sides rounded down to what the model
    can hold; for a video at most the area that the pipeline has by default. Diffusers would do the same unheard, or
    squeeze the picture into its own default size. An `edit` pipeline that takes a size fits the picture itself.

    Raises
    ------
    InvalidRequestError
        If the mask has another size than the picture.
    """
    if image is None:
        return InputPictures()
    picture, holes = _opened(image, "RGB"), None if mask is None else _opened(mask, "L")
    if holes is not None and holes.size != picture.size:
        raise InvalidRequestError(
            f"the mask is {holes.width} x {holes.height} pixels and the image {picture.width} x {picture.height}",
            hint="Pass a mask of the same size.",
        )
    accepted = parameters_of(pipeline)
    config = request.config
    if request.task == "edit" and "width" in accepted:
        return InputPictures(image=picture, mask=holes)
    if config.width is not None and config.height is not None:
        size = (config.width, config.height)
    else:
        limit_px = _default_area_px(accepted) if request.task == "image2video" else None
        size = _workable(picture.size, size_multiple_px(pipeline), limit_px)
    is_asked_for = config.width is not None
    return InputPictures(
        image=picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS),
        mask=holes if holes is None or holes.size == size else holes.resize(size, Image.Resampling.NEAREST),
        size=size,
        warnings=() if is_asked_for or picture.size == size else (_scaled(picture.size, size),),
    )


def _opened(content: bytes, mode: str) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert(mode)


def _workable(size: tuple[int, int], multiple_px: int, limit_px: int | None) -> tuple[int, int]:
    area_px = size[0] * size[1]
    factor = 1.0 if limit_px is None or area_px <= limit_px else math.sqrt(limit_px / area_px)
    width, height = (max(multiple_px, int(side * factor) // multiple_px * multiple_px) for side in size)
    return width, height


def _default_area_px(accepted: dict[str, inspect.Parameter]) -> int | None:
    sides = [accepted[name].default for name in ("width", "height") if name in accepted]
    return sides[0] * sides[1] if len(sides) == 2 and all(isinstance(side, int) for side in sides) else None


def _scaled(was: tuple[int, int], size: tuple[int, int]) -> WarningData:
    return WarningData(
        code="input_scaled",
        message=f"the picture of {was[0]} x {was[1]} pixels was scaled to {size[0]} x {size[1]}",
        hint="Pass width and height, or a picture of that size.",
    )
