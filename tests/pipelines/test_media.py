"""Videos and sounds as files, and back."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from omnirt_lab.errors import InvalidRequestError
from omnirt_lab.pipelines.sound import decode_wav, encode_wav
from omnirt_lab.pipelines.video import decode_mp4, encode_mp4

FADE = [Image.new("RGB", (48, 32), (level, 60, 200)) for level in range(0, 250, 25)]


def test_a_video_comes_back_frame_by_frame_nearly_as_it_was():
    frames = decode_mp4(encode_mp4(FADE, fps=8, text={}))

    assert (frames.shape, frames.dtype) == ((10, 32, 48, 3), np.uint8)
    assert np.abs(frames.astype(int) - np.stack(FADE).astype(int)).max() < 8


def test_a_video_has_its_rate_and_says_how_it_was_made():
    av = pytest.importorskip("av")
    import io

    with av.open(io.BytesIO(encode_mp4(FADE, fps=12.5, text={"omnirt": '{"seed": 7}'}))) as container:
        assert container.streams.video[0].average_rate == 12.5
        assert container.metadata["omnirt"] == '{"seed": 7}'


def test_odd_sides_are_kept():
    odd = [Image.new("RGB", (33, 17), "red")] * 2

    assert decode_mp4(encode_mp4(odd, fps=8, text={})).shape == (2, 17, 33, 3)


def test_a_sound_comes_back_within_its_16_bits():
    samples = np.stack([np.sin(np.linspace(0, 20, 500)), np.linspace(-1, 1, 500)]).astype(np.float32)

    again = decode_wav(encode_wav(samples, sample_rate_hz=8000))

    assert again.dtype == np.float32
    assert np.abs(again - samples).max() <= 0.5 / 32767 + 1e-7


def test_what_is_beyond_full_scale_is_clipped_and_what_is_no_number_is_silent():
    again = decode_wav(encode_wav(np.array([[2.0, -2.0, np.nan]], np.float32), sample_rate_hz=8000))

    assert again.tolist() == [[1.0, -1.0, 0.0]]


@pytest.mark.parametrize("decode", [decode_wav, decode_mp4])
def test_other_bytes_are_refused(decode):
    with pytest.raises(InvalidRequestError, match="this is no "):
        decode(b"\x89PNG and more of it, which is neither a video nor a sound")


def test_without_pyav_videos_are_not_available_and_the_hint_says_what_to_install():
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from omnirt_lab.errors import NotAvailableError\n"
        "from omnirt_lab.pipelines.video import require_video\n"
        "try:\n    require_video()\nexcept NotAvailableError as error:\n    print(error.hint)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "omnirt-lab[video]" in done.stdout
