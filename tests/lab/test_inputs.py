"""Input pictures of whatever kind: one artifact for equal pixels, and a typed error for what cannot be."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omnirt_lab import Lab
from omnirt_lab.engine import InputFiles
from omnirt_lab.errors import ArtifactNotFoundError, InvalidRequestError, LabError
from omnirt_lab.journal import ArtifactStore

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8)
QUICK = {"steps": 2, "seed": 7, "progress": False, "task": "image2image"}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def _png(picture: Image.Image, kind: str = "PNG", **more: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format=kind, **more)
    return file.getvalue()


def _sha256(store: ArtifactStore, image: object, **more: object) -> str:
    return str(InputFiles(lambda: store).named({"image": image, **more})["image"])


def test_equal_pixels_are_one_artifact_however_they_are_passed(store: ArtifactStore, tmp_path: Path) -> None:
    picture = Image.fromarray(PIXELS)
    path = tmp_path / "picture.png"
    path.write_bytes(_png(picture))
    ways = [
        path,
        str(path),
        path.read_bytes(),
        picture,
        PIXELS,
        PIXELS / 255,
        picture.convert("RGBA"),
        _png(picture, "WEBP", lossless=True),
    ]

    assert len({_sha256(store, way) for way in ways}) == 1


def test_nothing_is_stored_before_the_job_exists_and_then_it_can_be_named_by_its_sha256(store: ArtifactStore) -> None:
    files = InputFiles(lambda: store)
    sha256 = files.named({"image": PIXELS})["image"]
    with pytest.raises(ArtifactNotFoundError):
        store.read(sha256)

    files.store()

    assert np.array_equal(np.asarray(Image.open(io.BytesIO(store.read(sha256)))), PIXELS)
    assert _sha256(store, sha256) == sha256


def test_what_is_transparent_is_white_and_a_photo_stands_upright(store: ArtifactStore) -> None:
    files = InputFiles(lambda: store)
    photo = Image.new("RGB", (20, 10), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    named = files.named({"image": [Image.new("RGBA", (8, 8), (255, 0, 0, 0)), _png(photo, "JPEG", exif=exif)]})
    files.store()

    clear, turned = (Image.open(io.BytesIO(store.read(sha256))) for sha256 in named["image"])

    assert clear.getpixel((0, 0)) == (255, 255, 255)
    assert turned.size == (10, 20)


@pytest.mark.parametrize("deep", [Image.fromarray(np.full((8, 8), 0x80FF, np.uint16))], ids=["16 bits"])
def test_of_16_bits_the_upper_eight_are_kept(store: ArtifactStore, deep: Image.Image) -> None:
    assert _sha256(store, _png(deep)) == _sha256(store, deep) == _sha256(store, np.full((8, 8), 0x80, np.uint8))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("no/such/file.png", "cannot be read: No such file"),
        (Path(__file__), "cannot be read as PNG"),
        (Path(__file__).parent, "Is a directory"),
        ("nul\0byte", "cannot be read"),
        (b"", "cannot be read as PNG"),
        (_png(Image.new("RGB", (64, 64)))[:60], "cannot be read as PNG"),
        (Image.new("1", (9000, 8)), "9000 x 8 pixels"),
        (np.zeros((5000, 5000), np.uint8), "5000 x 5000 pixels"),
        (np.zeros((0, 8, 3), np.uint8), "8 x 0 pixels"),
        (np.zeros((2, 8, 8, 3), np.uint8), "shape"),
        (np.zeros((8, 8, 2), np.uint8), "shape"),
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (np.full((8, 8), 1.5), "0 to 1"),
        (np.full((8, 8), np.nan), "0 to 1"),
        (Image.new("F", (8, 8)), "mode 'F'"),
        (42, "a int"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_picture_is_refused_by_name_with_a_hint(store: ArtifactStore, image: object, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as caught:
        _sha256(store, image)

    assert caught.value.hint


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones((8, 8), bool), "8 x 8 pixels and the image 24 x 16"),
        (np.zeros((16, 24), bool), "nowhere white"),
        (Image.new("RGBA", (24, 16), (255, 255, 255, 0)), "transparent"),
    ],
)
def test_a_mask_that_means_nothing_is_refused(store: ArtifactStore, mask: object, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        _sha256(store, PIXELS, mask=mask)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs an input image"),
        ({"image": PIXELS, "task": "inpaint"}, "needs an input mask"),
        ({"image": PIXELS, "task": "text2image"}, "takes no input image"),
        ({"image": PIXELS, "mask": np.ones((16, 24), bool)}, "takes no input mask"),
        ({"image": PIXELS, "strength": 1.5}, "strength is 1.5"),
        ({"image": PIXELS, "num_frames": 5}, "takes no num_frames"),
        ({"image": PIXELS, "fps": 5}, "no fps"),
        ({"image": PIXELS, "audio_length": 5}, "takes no audio_length_s"),
        ({"image": "0" * 64}, "no artifact"),
        ({"image": PIXELS, "width": 20, "height": 16}, "multiple of 8"),
    ],
)
def test_a_refused_request_leaves_no_run_and_no_file(
    lab: Lab, state_dir: Path, options: dict[str, object], said: str
) -> None:
    with pytest.raises(LabError, match=said):
        lab.generate("a red circle", **{**QUICK, **options})

    assert len(lab.history()) == 0
    assert not list((state_dir / "artifacts").rglob("*"))
