"""Sounds as WAV files of 16 bits, by the standard library. Loads no torch."""

from __future__ import annotations

import io
import wave
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from omnirt_lab.errors import InvalidRequestError

Samples: TypeAlias = npt.NDArray[np.float32]
"""(channels, samples), -1 to 1."""

_PEAK: Final = 32_767
_BYTES: Final = 2


def encode_wav(samples: Samples, *, sample_rate_hz: int) -> bytes:
    """The samples as little-endian 16-bit PCM, the channels interleaved; what is beyond -1 to 1 is clipped."""
    levels = np.round(np.clip(np.nan_to_num(samples), -1, 1) * _PEAK).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(levels.shape[0])
        sound.setsampwidth(_BYTES)
        sound.setframerate(sample_rate_hz)
        sound.writeframes(levels.T.tobytes())
    return file.getvalue()


def decode_wav(content: bytes) -> Samples:
    """The samples of a file that `encode_wav` made.

    Raises
    ------
    InvalidRequestError
        If it is none.
    """
    try:
        with wave.open(io.BytesIO(content)) as sound:
            channels, width = sound.getnchannels(), sound.getsampwidth()
            frames = sound.readframes(sound.getnframes())
    except (wave.Error, EOFError) as error:
        raise InvalidRequestError(f"this is no WAV: {error}", hint="Give a sound that the lab has made.") from error
    if width != _BYTES:
        raise InvalidRequestError(f"the WAV has {8 * width} bits", hint="Give a sound that the lab has made: 16 bits.")
    levels = np.frombuffer(frames, "<i2").reshape(-1, channels).T
    return levels.astype(np.float32) / np.float32(_PEAK)
