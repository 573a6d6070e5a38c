"""Pictures that a person passes to a run: read, checked, and named by the sha256 under which they will be stored."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.journal.pictures import decode_picture, opaque, png_of, require_pixels, upright
from omnirt_lab.records import Artifact
from omnirt_lab.units import BYTES_PER_MIB

if TYPE_CHECKING:
    from PIL.Image import Image

    from omnirt_lab.journal import ArtifactStore

MAX_FILE_BYTES: Final = 128 * BYTES_PER_MIB

_SHA256: Final = re.compile(r"[0-9a-f]{64}")

_HOW: Final = "Pass a path, a PIL image, a NumPy array, the bytes of a file, or the sha256 of a stored picture."


@runtime_checkable
class Arrayed(Protocol):
    """What NumPy can look into: its own arrays, and PIL images."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """See NumPy's manual."""
        ...


Picture: TypeAlias = str | os.PathLike[str] | bytes | Artifact | Arrayed
"""A path, the bytes of a file, an artifact or its sha256, a PIL image, or an array.

An array is (height, width), or has 3 or 4 colours behind; of uint8 0 to 255, of floats 0 to 1, or of bool.
"""


class InputFiles:
    """Takes the pictures out of a request's options; what is not stored yet is kept at hand until the job exists.

    So a request that is refused leaves nothing behind.
    """

    def __init__(self, get_artifacts: Callable[[], ArtifactStore]) -> None:
        """Look stored pictures up in the store that `get_artifacts` gives; it is not asked for without a picture."""
        self._get_artifacts = get_artifacts
        self._files: dict[str, bytes] = {}

    def named(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with the sha256 of `image` and `mask` in the place of what was passed; lists of them as lists.

        Raises
        ------
        InvalidRequestError
            For a picture that is missing, unreadable, too large or of another kind, a mask of another size than the
            picture, and one that is nowhere white.
        ArtifactNotFoundError
            If a sha256 is that of no stored file.
        """
        named = dict(options)
        sizes = {name: self._take(named, name) for name in ("image", "mask") if named.get(name) is not None}
        for image in sizes.get("image", ()):
            for mask in sizes.get("mask", ()):
                if image != mask:
                    raise InvalidRequestError(
                        f"the mask is {mask[0]} x {mask[1]} pixels and the image {image[0]} x {image[1]}",
                        hint="Pass a mask of the same size.",
                    )
        return named

    def store(self) -> None:
        """Store the pictures.

        Raises
        ------
        StateDirError
            If the disk is full or cannot be written.
        """
        while self._files:
            self._get_artifacts().put_bytes(self._files.popitem()[1], "image/png")

    def _take(self, options: dict[str, Any], name: str) -> list[tuple[int, int]]:
        """Put names in the place of the pictures of this option, and return their sizes."""
        given = options[name]
        several = given if isinstance(given, list | tuple) else [given]
        taken = [self._stored(value, name) or self._kept(_picture_of(value, name), name) for value in several]
        options[name] = [sha256 for sha256, _ in taken] if several is given else taken[0][0]
        return [size for _, size in taken]

    def _stored(self, value: object, name: str) -> tuple[str, tuple[int, int]] | None:
        """The sha256 and size of a picture that the store has; None for one that is passed otherwise."""
        sha256 = value.sha256 if isinstance(value, Artifact) else value
        if not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
            return None
        return sha256, decode_picture(self._get_artifacts().read(sha256), name=name).size

    def _kept(self, picture: Image, name: str) -> tuple[str, tuple[int, int]]:
        content = png_of(_mask(picture) if name == "mask" else opaque(picture))
        sha256 = hashlib.sha256(content).hexdigest()
        self._files[sha256] = content
        return sha256, picture.size


def _picture_of(value: object, name: str) -> Image:
    """The picture in RGBA, of whatever kind it is passed as."""
    from PIL import Image  # heavy

    match value:
        case Image.Image():
            require_pixels(value.size, name=name)
            return upright(value)
        case str() | os.PathLike():
            return decode_picture(_read(Path(value), name), name=name)
        case bytes() | bytearray() | memoryview():
            return decode_picture(bytes(value), name=name)
        case Arrayed():
            return _from_array(value, name)
        case _:
            raise InvalidRequestError(f"{name} is a {type(value).__name__}", hint=_HOW)


def _read(path: Path, name: str) -> bytes:
    try:
        path = path.expanduser()
        size_bytes = path.stat().st_size
        if size_bytes > MAX_FILE_BYTES:
            raise InvalidRequestError(
                f"{name}: {path} has {size_bytes:,} bytes; at most {MAX_FILE_BYTES:,} are read",
                hint="Use a smaller picture.",
            )
        return path.read_bytes()
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, InvalidRequestError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequestError(f"{name}: {str(path)[:200]} cannot be read: {reason}", hint=_HOW) from error


def _from_array(value: Arrayed, name: str) -> Image:
    import numpy as np  # heavy
    from PIL import Image  # heavy

    array = np.asarray(value)
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))):
        raise InvalidRequestError(
            f"{name} is an array of shape {array.shape}",
            hint="Pass one picture as (height, width), (height, width, 3) or (height, width, 4).",
        )
    require_pixels((array.shape[1], array.shape[0]), name=name)
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    elif np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise InvalidRequestError(
                f"{name} is an array of floats that are not all 0 to 1", hint="Scale it, or pass uint8 of 0 to 255."
            )
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise InvalidRequestError(
            f"{name} is an array of {array.dtype}", hint="Pass uint8 of 0 to 255, floats of 0 to 1, or bool."
        )
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array).convert("RGBA")


def _mask(picture: Image) -> Image:
    """The mask in grey, white where the picture may change."""
    if picture.getchannel("A").getextrema() != (255, 255):
        raise InvalidRequestError(
            "the mask is transparent in places, and it could mean either",
            hint="Pass a mask without transparency: white where the picture may change, black where it must stay.",
        )
    mask = picture.convert("L")
    if mask.getbbox() is None:
        raise InvalidRequestError(
            "the mask is nowhere white, so nothing would change", hint="Paint the part white that may change."
        )
    return mask
