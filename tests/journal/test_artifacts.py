from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from omnirt_lab.errors import ArtifactNotFoundError, InvalidRequestError, StateDirError
from omnirt_lab.journal import METADATA_KEY, ArtifactStore, Journal, png_with_metadata, read_png_metadata


def test_an_artifact_is_stored_once_by_its_sha256_and_for_its_owner_only(journal: Journal):
    artifact = journal.artifacts.put_bytes(b"pixels", "image/png", width_px=2, height_px=1, index=3, seed=9)
    again = journal.artifacts.put_bytes(b"pixels", "image/png")

    assert artifact.sha256 == again.sha256 == hashlib.sha256(b"pixels").hexdigest()
    assert (artifact.size_bytes, artifact.width_px, artifact.height_px) == (6, 2, 1)
    assert (artifact.index, artifact.seed) == (3, 9)
    path = journal.artifacts.path(artifact.sha256)
    assert path.read_bytes() == journal.artifacts.read(artifact.sha256) == b"pixels"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_a_power_cut_has_emptied_is_written_again(journal: Journal):
    artifact = journal.artifacts.put_bytes(b"pixels", "image/png")
    journal.artifacts.path(artifact.sha256).write_bytes(b"")

    journal.artifacts.put_bytes(b"pixels", "image/png")

    assert journal.artifacts.read(artifact.sha256) == b"pixels"


@pytest.mark.parametrize("sha256", ["0" * 64, "../../journal.db", "", "0" * 63, "A" * 64, "/etc/passwd"])
def test_what_is_no_stored_sha256_is_not_found(journal: Journal, sha256: str):
    with pytest.raises(ArtifactNotFoundError):
        journal.artifacts.read(sha256)


def test_a_store_that_cannot_be_written_is_a_typed_error(tmp_path: Path):
    (tmp_path / "artifacts").write_text("a file in the directory's place")

    with pytest.raises(StateDirError) as error:
        ArtifactStore(tmp_path).put_bytes(b"pixels", "image/png")

    assert "OMNIRT_STATE_DIR" in error.value.hint


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_png_carries_how_it_was_made_and_keeps_its_pixels(tmp_path: Path, mode: str):
    image = Image.effect_noise((16, 8), 50).convert(mode)
    made = {"prompt": 'a <red> "circle"\n🔴 蓝', "seed": 2**63 - 1}

    content = png_with_metadata(image, {METADATA_KEY: json.dumps(made, ensure_ascii=False), "Software": "OmniRT Lab"})
    (tmp_path / "picture.png").write_bytes(content)

    texts = read_png_metadata(tmp_path / "picture.png")
    assert texts == read_png_metadata(content)
    assert json.loads(texts[METADATA_KEY]) == made
    assert texts["Software"] == "OmniRT Lab"
    with Image.open(tmp_path / "picture.png") as stored:
        assert stored.mode == mode
        assert stored.tobytes() == image.tobytes()


def test_a_png_without_texts_has_none():
    assert read_png_metadata(png_with_metadata(Image.new("RGB", (4, 4)), {})) == {}


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"text"])
def test_what_is_no_png_is_a_typed_error(content: bytes):
    with pytest.raises(InvalidRequestError, match="no PNG"):
        read_png_metadata(content)
